from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sadcl_core.data.prepare.download import download
from sadcl_core.data.prepare.download.place import DOWNLOADS, UNPACKING
from sadcl_core.errors import DataError
from tests.core.data.prepare.download.samples import (
    COCO_FILES,
    LARGE,
    VOC_FILES,
    Files,
    Offer,
    all_of,
    fails,
    tarred,
    tree,
    write,
    zipped,
)
from tests.core.data.prepare.download.server import Site


def a_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def kind(letter: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = letter, "/etc/passwd", 0

    return change


@pytest.mark.parametrize("name", ["../evil", "/evil", "train/../../evil", "..\\evil", "C:\\evil", "\\evil"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_nothing_is_unpacked_elsewhere(single: Offer, tmp_path: Path, pack: Callable[[Files], bytes], name: str) -> None:
    single(pack({"train/a.jpg": b"a" * 20, name: b"evil"}), "train.zip" if pack is zipped else "train.tar")
    fails(DataError, tmp_path / "in" / "data", repr(name), "outside")
    assert not list(tmp_path.rglob("*evil*"))
    assert not (tmp_path / "in" / "data" / "train").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.zip", zipped({"train/link": b"/etc/passwd"}, change=a_link)),
        *(
            (f"train{k}.tar", tarred({"train/link": b""}, change=kind(letter)))
            for k, letter in enumerate((b"1", b"2", b"3", b"6"))
        ),
    ],
)
def test_only_plain_files_are_unpacked(single: Offer, tmp_path: Path, name: str, content: bytes) -> None:
    single(content, name)
    fails(DataError, tmp_path, "'train/link', which is no plain file")
    assert not (tmp_path / "train").exists()


def test_an_archive_that_unpacks_to_far_too_much_is_refused(single: Offer, tmp_path: Path) -> None:
    single(zipped({"train/zeros.jpg": bytes(1_000_000)}, packing=zipfile.ZIP_DEFLATED))
    fails(DataError, tmp_path, "would unpack to 1.0 MB")
    assert not (tmp_path / "train").exists()


STORED = zipped(LARGE)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.zip", b"no archive"),
        ("train.zip", STORED[:30_000]),
        ("train.zip", STORED[:30_000] + b"!" + STORED[30_001:]),
        ("train.tar", b"no archive" * 1000),
        ("train.tar", tarred(LARGE)[:30_000]),
    ],
    ids=["no zip", "half a zip", "a changed zip", "no tar", "half a tar"],
)
def test_a_damaged_archive(single: Offer, tmp_path: Path, name: str, content: bytes) -> None:
    single(content, name)
    fails(DataError, tmp_path, f"{tmp_path / DOWNLOADS / name} is a damaged archive", "Delete it")
    assert not (tmp_path / "train").exists()


def test_only_what_files_hold_is_unpacked(single: Offer, tmp_path: Path) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.mode, info.uid = 0o4777, 12345

    single(tarred({"train/a.jpg": b"a"}, change=change), "train.tar")
    download("coco", tmp_path)
    assert (tmp_path / "train" / "a.jpg").stat().st_mode & 0o7111 == 0


def test_files_that_are_there_are_not_written_over(coco: Site, tmp_path: Path) -> None:
    kept = write(tmp_path / "annotations" / "instances_train2014.json", bytes(2000)[:1984])
    assert len(all_of(COCO_FILES)["annotations/instances_train2014.json"]) == 1984
    download("coco", tmp_path)
    assert kept.read_bytes() == bytes(1984)
    assert set(tree(tmp_path)) == set(all_of(COCO_FILES))


@pytest.mark.parametrize(
    "theirs", ["annotations/instances_train2014.json", "annotations/instances_train2014.json/a", "annotations"]
)
def test_files_of_another_content_are_in_the_way(coco: Site, tmp_path: Path, theirs: str) -> None:
    write(tmp_path / theirs, b"mine")
    text = fails(DataError, tmp_path, "another content", "Move it away")
    assert str(tmp_path / "annotations") in text
    assert (tmp_path / theirs).read_bytes() == b"mine"
    assert not (tmp_path / "annotations" / "instances_val2014.json").exists()


def test_an_interrupted_unpacking_leaves_nothing_in_place_and_is_done_again(coco: Site, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "unpacking train2014.zip" and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download("coco", tmp_path, progress=interrupt)
    assert not (tmp_path / "train2014").exists()
    write(tmp_path / DOWNLOADS / UNPACKING / "train2014" / "half.jpg", b"half of it")
    asked = len(coco.requests)
    download("coco", tmp_path)
    assert tree(tmp_path) == all_of(COCO_FILES)
    assert len(coco.requests) == asked


def test_an_interrupted_move_into_place_is_done_again(voc: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path, target: Path) -> Path:
        if path.name == "JPEGImages" or path.name == "test.jpg":
            raise KeyboardInterrupt
        return replace_path(path, target)

    replace_path = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download("voc2007", tmp_path)
    assert (tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").is_file()  # what shows that it is there, but it is not
    shutil.rmtree(tmp_path / DOWNLOADS)
    download("voc2007", tmp_path)
    assert tree(tmp_path) == all_of(VOC_FILES)
