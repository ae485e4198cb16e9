from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.prepare.download import download, parts
from sadcl_core.data.prepare.download.place import DOWNLOADS
from sadcl_core.errors import MachineError
from tests.core.data.prepare.download.samples import LARGE, Offer, fails, left_part, tree, write, zipped
from tests.core.data.prepare.download.server import Site


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
def test_a_cut_connection_goes_on_where_it_ended(site: Site, single: Offer, tmp_path: Path, validator: str) -> None:
    content = zipped(LARGE)
    single(content)
    site.validator, site.cuts = validator, [30_000, 20_000]
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.range for request in site.gets()] == [None, "bytes=30000-", "bytes=50000-"]
    assert site.gets()[1].condition == site.version(content)
    assert site.served == len(content)


def test_a_connection_cut_too_often_is_told_and_the_next_call_goes_on(site: Site, single: Offer, tmp_path: Path) -> None:
    content = zipped(LARGE)
    name = single(content)
    site.cuts = [10_000, 10_000, 0, 1_000]
    fails(MachineError, tmp_path, f"{site.url}/{name} cannot be fetched", "Give the same command again to go on", "21.0 kB")
    assert (tmp_path / DOWNLOADS / f"{name}.part").read_bytes() == content[:21_000]
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert site.served == len(content)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_fetch_goes_on(
    site: Site,
    single: Offer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: type[BaseException],
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == f"fetching {name}" and done >= 20_000:
            raise interruption

    monkeypatch.setattr(parts, "CHUNK", 4096)
    name = single(zipped(LARGE))
    with pytest.raises(interruption):
        download("coco", tmp_path, progress=interrupt)
    assert (tmp_path / DOWNLOADS / f"{name}.part").stat().st_size == 20_480
    calls: list[tuple[str, int, int]] = []
    download("coco", tmp_path, progress=lambda *call: calls.append(call))
    assert tree(tmp_path) == LARGE
    assert site.gets()[-1].range == "bytes=20480-"
    assert min(done for what, done, _ in calls if what.startswith("fetching")) > 20_480


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize("old", ["the same", "of another length", "of another content"])
def test_a_fetch_begins_anew_when_it_cannot_go_on(
    site: Site, single: Offer, tmp_path: Path, knows_ranges: bool, old: str
) -> None:
    content = zipped(LARGE)
    before = {"the same": content, "of another length": content + b"more", "of another content": content[::-1]}[old]
    site.knows_ranges = knows_ranges
    left_part(tmp_path, site, single(content), before)
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert site.gets()[0].range == f"bytes={len(before) // 2}-"
    assert site.served == (len(content) - len(content) // 2 if old == "the same" and knows_ranges else len(content))


@pytest.mark.parametrize(
    "changes", [{"validator": None}, {"validator": None, "total": 3}, {"url": "http://elsewhere"}, {"total": "x"}]
)
def test_what_was_stored_of_a_part_may_be_little_or_wrong(
    site: Site, single: Offer, tmp_path: Path, changes: dict[str, object]
) -> None:
    content = zipped(LARGE)
    left_part(tmp_path, site, single(content), content, **changes)
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.condition for request in site.gets()] == [None]
    assert (site.gets()[0].range is None) == (changes != {"validator": None})


def test_a_server_that_goes_on_with_another_file_is_noticed(site: Site, single: Offer, tmp_path: Path) -> None:
    content = zipped(LARGE)
    left_part(tmp_path, site, single(content), content[::-1] + b"longer", validator=None)
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.range is None for request in site.gets()] == [False, True]


def test_a_server_that_goes_on_elsewhere_is_noticed(site: Site, single: Offer, tmp_path: Path) -> None:
    content = zipped(LARGE)
    left_part(tmp_path, site, single(content), content)
    site.misses_by = 1
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.range is None for request in site.gets()] == [False, True]


def test_a_part_longer_than_the_file_begins_anew(site: Site, single: Offer, tmp_path: Path) -> None:
    content = zipped(LARGE)
    left_part(tmp_path, site, single(content), content * 3, validator=None, total=None)
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE


def test_a_whole_part_is_not_asked_for_again(site: Site, single: Offer, tmp_path: Path) -> None:
    content = zipped(LARGE)
    name = single(content)
    left_part(tmp_path, site, name, content)
    write(tmp_path / DOWNLOADS / f"{name}.part", content)
    download("coco", tmp_path)
    assert site.gets() == []


@pytest.mark.parametrize("start", [0, 1000])
def test_a_part_that_was_not_asked_for_is_not_taken(site: Site, single: Offer, tmp_path: Path, start: int) -> None:
    name = single(zipped(LARGE))
    site.partial = start
    fails(MachineError, tmp_path, f"{site.url}/{name} cannot be fetched (the file on the server changed meanwhile). Where")
    assert [request.range for request in site.gets()] == [None] * 4
    assert list((tmp_path / DOWNLOADS).iterdir()) == []
    site.partial = None
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
