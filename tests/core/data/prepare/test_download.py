from __future__ import annotations

import io
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sadcl_core.data.prepare.download import ARCHIVES, Archive, download
from sadcl_core.errors import DataError, MachineError, SadclError, UsageError
from tests.core.data.prepare.web_server import Request, Site, closed_port, serving

Files = dict[str, bytes]
DOWNLOADS = ".downloads"


def photograph(seed: int, size: int = 2000) -> bytes:
    """Bytes that do not shrink."""
    return np.random.default_rng(seed).bytes(size)


def zipped(files: Files, *, change: Callable[[zipfile.ZipInfo], None] = lambda info: None) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            change(info)
            archive.writestr(info, content)
    return written.getvalue()


def tarred(files: Files, *, change: Callable[[tarfile.TarInfo], None] = lambda info: None) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            archive.addfile(info, io.BytesIO(content))
    return written.getvalue()


COCO: dict[str, Files] = {
    "annotations_trainval2014.zip": {
        "annotations/instances_train2014.json": photograph(1),
        "annotations/instances_val2014.json": photograph(2),
    },
    "val2014.zip": {f"val2014/{number}.jpg": photograph(number) for number in range(3)},
    "train2014.zip": {f"train2014/{number}.jpg": photograph(10 + number) for number in range(5)},
}
VOC: dict[str, Files] = {
    f"VOC{part}_06-Nov-2007.tar": {
        f"VOCdevkit/VOC2007/{path}": photograph(len(part) + number)
        for number, path in enumerate((f"Annotations/{part}.xml", f"ImageSets/Main/{part}.txt", f"JPEGImages/{part}.jpg"))
    }
    for part in ("trainval", "test")
}
LARGE = {"train/large.jpg": photograph(0, 1_000_000)}
STORED = zipped(LARGE)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with serving() as site:
        yield site


def offer(site: Site, name: str) -> list[Archive]:
    """Offer a small data set in the archives of a real one."""
    packed = {
        archive: (zipped if name == "coco" else tarred)(files) for archive, files in (COCO if name == "coco" else VOC).items()
    }
    return [site.offer(real.name, packed[real.name], *real.makes, roots=real.roots) for real in ARCHIVES[name]]


def single(site: Site, content: bytes, name: str = "train.zip") -> list[Archive]:
    return [site.offer(name, content, "train")]


def fetch(archives: list[Archive], folder: Path, **options: object) -> None:
    download("any", folder, archives=archives, wait=0, **options)  # type: ignore[arg-type] # progress


def fails(kind: type[SadclError], archives: list[Archive], folder: Path, *matches: str) -> str:
    with pytest.raises(kind) as raised:
        fetch(archives, folder)
    for match in matches:
        assert match in str(raised.value)
    return str(raised.value)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def all_of(archives: dict[str, Files]) -> Files:
    return {path: content for files in archives.values() for path, content in files.items()}


def test_names_addresses_and_checksums(tmp_path: Path) -> None:
    assert sorted(ARCHIVES) == ["coco", "coco2014", "coco2017", "voc2007", "voc2012"]
    assert ARCHIVES["coco"] == ARCHIVES["coco2014"] != ARCHIVES["coco2017"]
    for archive in (archive for archives in ARCHIVES.values() for archive in archives):
        assert re.fullmatch("[0-9a-f]{32}", archive.md5)
        assert archive.name.endswith((".zip", ".tar"))
    with pytest.raises(UsageError, match=r"digits cannot be downloaded .* coco, coco2014, coco2017, voc2007, voc2012"):
        download("digits", tmp_path)


@pytest.mark.parametrize(("name", "files"), [("coco", COCO), ("voc2007", VOC)])
def test_everything_is_in_place_and_nothing_is_fetched_twice(
    site: Site, tmp_path: Path, name: str, files: dict[str, Files]
) -> None:
    calls: list[tuple[str, int, int]] = []
    archives, folder = offer(site, name), tmp_path / "new" / "data"
    fetch(archives, folder, progress=lambda *call: calls.append(call))
    assert tree(folder) == all_of(files)
    assert not list(folder.glob(".*"))
    for archive in files:
        for what in ("fetching", "checking", "unpacking"):
            steps = [call[1:] for call in calls if call[0] == f"{what} {archive}"]
            assert steps == sorted(steps)
            assert steps[-1][0] == steps[-1][1] > 0
    fetch(archives, folder)
    assert len(site.requests) == 2 * len(files)


def test_what_was_deleted_is_fetched_again(site: Site, tmp_path: Path) -> None:
    archives = offer(site, "coco")
    fetch(archives, tmp_path)
    shutil.rmtree(tmp_path / "val2014")
    (tmp_path / "val2014").mkdir()
    fetch(archives, tmp_path)
    assert tree(tmp_path) == all_of(COCO)
    assert len(site.gets()) == 4


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_data_put_there_by_hand_are_kept(site: Site, tmp_path: Path, prefix: str) -> None:
    for path in ("annotations/instances_train2014.json", "annotations/instances_val2014.json", f"{prefix}train2014/a.jpg"):
        write(tmp_path / path, b"by hand")
    fetch(offer(site, "coco"), tmp_path)
    assert [request.path for request in site.gets()] == ["/val2014.zip"]
    assert (tmp_path / "annotations" / "instances_val2014.json").read_bytes() == b"by hand"


@pytest.mark.parametrize("root", ["VOCdevkit/VOC2007", "VOC2007", "."])
def test_archives_that_share_folders_are_told_apart(site: Site, tmp_path: Path, root: str) -> None:
    for path in ("ImageSets/Main/trainval.txt", "JPEGImages/a.jpg", "Annotations/a.xml"):
        write(tmp_path / root / path, b"by hand")
    fetch(offer(site, "voc2007"), tmp_path)
    assert [request.path for request in site.gets()] == ["/VOCtest_06-Nov-2007.tar"]


def test_archives_put_there_by_hand_need_no_network(site: Site, tmp_path: Path) -> None:
    archives = offer(site, "coco")
    for name, files in COCO.items():
        write(tmp_path / DOWNLOADS / name, zipped(files))
    fetch(archives, tmp_path)
    assert tree(tmp_path) == all_of(COCO)
    assert site.requests == []
    path = write(tmp_path / DOWNLOADS / "val2014.zip", b"half of it")
    fails(DataError, archives, tmp_path, f"{path} is not the whole of {site.url}/val2014.zip", "deleting it")
    assert path.read_bytes() == b"half of it"


def test_a_cut_connection_goes_on_where_it_ended(site: Site, tmp_path: Path) -> None:
    site.cuts = [400_000, 300_000]
    fetch(single(site, STORED), tmp_path)
    assert tree(tmp_path) == LARGE
    first, second, third = (int((request.range or "bytes=0-")[6:-1]) for request in site.gets())
    assert (first, 0 < second <= 400_000, second < third <= second + 300_000) == (0, True, True)


def test_a_server_that_sends_nothing_more(site: Site, tmp_path: Path) -> None:
    site.cuts = [400_000, 0]
    archives = single(site, STORED)
    fails(MachineError, archives, tmp_path, "cannot be fetched (", "Give the same command again to go on")
    part = tmp_path / DOWNLOADS / "train.zip.part"
    size = part.stat().st_size
    assert part.read_bytes() == STORED[:size] != b""
    fetch(archives, tmp_path)
    assert tree(tmp_path) == LARGE
    assert site.gets()[-1].range == f"bytes={size}-"


def test_an_interrupted_fetch_goes_on(site: Site, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done >= 300_000:
            raise KeyboardInterrupt

    archives, calls = single(site, STORED), []
    with pytest.raises(KeyboardInterrupt):
        fetch(archives, tmp_path, progress=interrupt)
    size = (tmp_path / DOWNLOADS / "train.zip.part").stat().st_size
    assert size >= 300_000
    fetch(archives, tmp_path, progress=lambda what, done, total: calls.append((what, done)))
    assert tree(tmp_path) == LARGE
    assert site.gets()[-1].range == f"bytes={size}-"
    assert min(done for what, done in calls if what.startswith("fetching")) > size


@pytest.mark.parametrize("behaviour", [{"knows_ranges": False}, {"shift": 1}, {"sends_length": False}])
def test_a_part_that_cannot_be_continued_is_fetched_from_the_start(site: Site, tmp_path: Path, behaviour: dict[str, int]) -> None:
    write(tmp_path / DOWNLOADS / "train.zip.part", STORED[:300_000])
    for name, value in behaviour.items():
        setattr(site, name, value)
    fetch(single(site, STORED), tmp_path)
    assert tree(tmp_path) == LARGE


def test_a_whole_part_is_complete(site: Site, tmp_path: Path) -> None:
    write(tmp_path / DOWNLOADS / "train.zip.part", STORED)
    fetch(single(site, STORED), tmp_path)
    assert tree(tmp_path) == LARGE


@pytest.mark.parametrize("part", [STORED[::-1][:300_000], STORED + b"more", b""])
def test_a_wrong_checksum_deletes_the_part(site: Site, tmp_path: Path, part: bytes) -> None:
    archives = single(site, STORED)
    write(tmp_path / DOWNLOADS / "train.zip.part", part)
    if not part:
        site.files["/train.zip"] = STORED[::-1]
    fails(DataError, archives, tmp_path, f"is not the whole of {site.url}/train.zip", "again")
    assert tree(tmp_path) == {}
    site.files["/train.zip"] = STORED
    fetch(archives, tmp_path)
    assert tree(tmp_path) == LARGE


def test_an_answer_with_another_part_is_refused(site: Site, tmp_path: Path) -> None:
    site.unasked = 1000
    fails(MachineError, single(site, STORED), tmp_path, "another part of the file")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(("code", "gets"), [(404, 1), (403, 1), (503, 4)])
def test_a_server_without_the_file(site: Site, tmp_path: Path, code: int, gets: int) -> None:
    site.errors = [405] * 3 + [code] * 4  # HEAD is not known to every server
    archives = offer(site, "coco")
    text = fails(MachineError, archives, tmp_path, f"{archives[0].url} cannot be fetched (HTTP {code}")
    assert len(site.gets()) == gets
    assert all(archive.url in text for archive in archives)
    assert f"put them into {tmp_path / DOWNLOADS} (or unpack them in {tmp_path})" in text


def test_a_passing_error_is_waited_for(site: Site, tmp_path: Path) -> None:
    site.errors = [503, 429, 500]
    fetch(single(site, STORED), tmp_path)
    assert tree(tmp_path) == LARGE


def test_no_network(tmp_path: Path) -> None:
    archives = [Archive(f"{closed_port()}/train.zip", "0" * 32, ("train",))]
    fails(MachineError, archives, tmp_path, f"{archives[0].url} cannot be fetched", "refused", "elsewhere")


def test_redirects(site: Site, tmp_path: Path) -> None:
    archives = single(site, STORED)
    site.redirects["/train.zip"] = "file:///etc/passwd"
    fails(MachineError, archives, tmp_path, f"{site.url}/train.zip cannot be fetched", "file:///etc/passwd")
    site.files["/elsewhere"], site.redirects["/train.zip"], site.cuts = STORED, "/elsewhere", [500_000]
    fetch(archives, tmp_path)
    assert tree(tmp_path) == LARGE
    assert site.gets()[-1] == Request("GET", "/elsewhere", site.gets()[-1].range)
    assert site.gets()[-1].range is not None


def test_too_little_space_is_noticed_before_anything_is_fetched(site: Site, tmp_path: Path) -> None:
    archives = offer(site, "coco")
    site.claimed_length = 10**18
    fails(MachineError, archives, tmp_path / "new" / "data", "6300000000.0 GB", f"{tmp_path} has ", "Free some space")
    assert site.gets() == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be(site: Site, tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"")
    fails(UsageError, single(site, STORED), path, "cannot be written", "another place with --data")
    fails(UsageError, single(site, STORED), path / "inside", "cannot be written")


@pytest.mark.parametrize("name", ["../evil", "/evil", "train/../../evil", "..\\evil", "C:\\evil", "\\evil"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_nothing_is_unpacked_elsewhere(site: Site, tmp_path: Path, pack: Callable[[Files], bytes], name: str) -> None:
    archives = single(site, pack({"train/a.jpg": b"a", name: b"evil"}), "train.zip" if pack is zipped else "train.tar")
    fails(DataError, archives, tmp_path / "in" / "data", repr(name), "outside")
    assert not list(tmp_path.rglob("*evil*"))
    assert not (tmp_path / "in" / "data" / "train").exists()


@pytest.mark.parametrize("letter", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_not_unpacked(site: Site, tmp_path: Path, letter: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = letter, "/etc/passwd", 0

    archives = single(site, tarred({"train/link": b""}, change=change), "train.tar")
    fails(DataError, archives, tmp_path, "is a damaged archive", "train/link")
    assert not (tmp_path / "train").exists()


def test_a_link_in_a_zip_is_a_file_of_text(site: Site, tmp_path: Path) -> None:
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16

    fetch(single(site, zipped({"train/link": b"/etc/passwd"}, change=change)), tmp_path)
    assert not (tmp_path / "train" / "link").is_symlink()
    assert tree(tmp_path) == {"train/link": b"/etc/passwd"}


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
def test_a_damaged_archive(site: Site, tmp_path: Path, name: str, content: bytes) -> None:
    fails(DataError, single(site, content, name), tmp_path, f"{tmp_path / DOWNLOADS / name} is a damaged archive", "Delete it")
    assert not (tmp_path / "train").exists()


def test_rights_are_not_unpacked(site: Site, tmp_path: Path) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.mode, info.uid = 0o4777, 12345

    fetch(single(site, tarred({"train/a.jpg": b"a"}, change=change), "train.tar"), tmp_path)
    assert (tmp_path / "train" / "a.jpg").stat().st_mode & 0o7022 == 0


def test_files_that_are_there_are_not_overwritten(site: Site, tmp_path: Path) -> None:
    kept = write(tmp_path / "annotations" / "instances_train2014.json", bytes(2000))
    fetch(offer(site, "coco"), tmp_path)
    assert kept.read_bytes() == bytes(2000)
    assert set(tree(tmp_path)) == set(all_of(COCO))


@pytest.mark.parametrize(
    "theirs", ["annotations/instances_train2014.json", "annotations/instances_train2014.json/a", "annotations"]
)
def test_files_of_another_content_are_in_the_way(site: Site, tmp_path: Path, theirs: str) -> None:
    write(tmp_path / theirs, b"mine")
    text = fails(DataError, offer(site, "coco"), tmp_path, "another content", "Move it away")
    assert str(tmp_path / "annotations") in text
    assert (tmp_path / theirs).read_bytes() == b"mine"
    assert not (tmp_path / "annotations" / "instances_val2014.json").exists()


def test_an_interrupted_unpacking_is_done_again(site: Site, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "unpacking train2014.zip" and done > total // 2:
            raise KeyboardInterrupt

    archives = offer(site, "coco")
    with pytest.raises(KeyboardInterrupt):
        fetch(archives, tmp_path, progress=interrupt)
    assert not (tmp_path / "train2014").exists()
    write(tmp_path / DOWNLOADS / "unpacking" / "train2014" / "half.jpg", b"half of it")
    requests = len(site.requests)
    fetch(archives, tmp_path)
    assert tree(tmp_path) == all_of(COCO)
    assert len(site.requests) == requests


def test_an_interrupted_move_into_place_is_done_again(site: Site, tmp_path: Path) -> None:
    """What shows that the archive is unpacked is there, but the archive is, too: it goes last."""
    archives = offer(site, "voc2007")
    name = archives[0].name
    shown = [path for path in VOC[name] if not path.startswith("Annotations")]
    for path in shown:
        write(tmp_path / path, VOC[name][path])
    write(tmp_path / DOWNLOADS / name, tarred(VOC[name]))
    fetch(archives, tmp_path)
    assert tree(tmp_path) == all_of(VOC)
