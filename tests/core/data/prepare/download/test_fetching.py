from __future__ import annotations

import hashlib
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sadcl_core.data.prepare.download import download
from sadcl_core.data.prepare.download.archives import ARCHIVES
from sadcl_core.data.prepare.download.place import DOWNLOADS
from sadcl_core.errors import DataError, MachineError
from tests.core.data.prepare.download.samples import (
    COCO_FILES,
    LARGE,
    Offer,
    all_of,
    fails,
    left_part,
    photograph,
    tree,
    write,
    zipped,
)
from tests.core.data.prepare.download.server import Site, closed_port


def test_a_server_may_keep_the_length_to_itself(site: Site, coco: Site, tmp_path: Path) -> None:
    site.says_length = False
    totals = set()
    download("coco", tmp_path, progress=lambda what, done, total: totals.add((what.split()[0], total == 0)))
    assert tree(tmp_path) == all_of(COCO_FILES)
    assert totals == {("fetching", True), ("unpacking", False)}


def test_a_wrong_checksum_deletes_the_part(site: Site, single: Offer, tmp_path: Path) -> None:
    content = zipped(LARGE)
    name = single(content)
    site.files[f"/{name}"] = content[::-1]
    fails(DataError, tmp_path, f"{site.url}/{name} arrived damaged", hashlib.md5(content[::-1]).hexdigest(), "again")
    assert tree(tmp_path) == {}
    site.files[f"/{name}"] = content
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE


@pytest.mark.parametrize(("code", "gets"), [(404, 1), (403, 1), (503, 4)])
def test_a_server_without_the_file(coco: Site, tmp_path: Path, code: int, gets: int) -> None:
    coco.errors = [405] * 3 + [code] * 4  # HEAD is not known to every server
    text = fails(MachineError, tmp_path, f"{coco.url}/annotations_trainval2014.zip cannot be fetched (HTTP {code}")
    assert len(coco.gets()) == gets
    for name in COCO_FILES:
        assert f"{coco.url}/{name}" in text
    assert f"put them into {tmp_path / DOWNLOADS} (or unpack them in {tmp_path})" in text


def test_no_network(coco: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = closed_port()
    archives = tuple(replace(archive, url=f"{closed}/{archive.name}") for archive in ARCHIVES["coco"])
    monkeypatch.setitem(ARCHIVES, "coco", archives)
    write(tmp_path / DOWNLOADS / "val2014.zip", zipped(COCO_FILES["val2014.zip"]))
    text = fails(MachineError, tmp_path, f"{closed}/annotations_trainval2014.zip cannot be fetched", "refused", "elsewhere")
    assert all(archive.url in text for archive in archives)


def only(monkeypatch: pytest.MonkeyPatch, free: int) -> list[Path]:
    """Let the disk have so many bytes free; returns where that was asked."""
    asked: list[Path] = []

    def disk_usage(path: Path) -> Any:
        asked.append(path)
        return shutil._ntuple_diskusage(10**12, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    return asked


def test_too_little_space_is_told_before_anything_is_fetched(coco: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(len(content) for content in coco.files.values())
    needed = size + round(1.1 * size)
    asked = only(monkeypatch, needed - 1)
    fails(MachineError, tmp_path / "new" / "data", f"{needed / 1000:.1f} kB", f"{tmp_path} has {(needed - 1) / 1000:.1f} kB free")
    assert coco.gets() == []
    assert asked == [tmp_path]
    assert list(tmp_path.iterdir()) == []
    only(monkeypatch, needed)
    download("coco", tmp_path / "new" / "data")


def test_what_is_there_needs_no_space_to_fetch(coco: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (coco.files[f"/{name}"] for name in COCO_FILES)
    write(tmp_path / DOWNLOADS / "annotations_trainval2014.zip", first)
    left_part(tmp_path, coco, "val2014.zip", second)
    needed = len(second) - len(second) // 2 + len(third) + round(1.1 * (len(first) + len(second) + len(third)))
    only(monkeypatch, needed - 1)
    fails(MachineError, tmp_path, "free")
    only(monkeypatch, needed)
    download("coco", tmp_path)


def test_too_little_space_to_unpack(site: Site, single: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / DOWNLOADS / single(zipped({"train/a.json": photograph(0) * 3}, packing=zipfile.ZIP_DEFLATED))
    only(monkeypatch, 5000)
    fails(MachineError, tmp_path, f"{path} unpacks to 6.0 kB and {tmp_path} has 5.0 kB free")
    only(monkeypatch, 6000)
    download("coco", tmp_path)
    assert len(site.gets()) == 1
