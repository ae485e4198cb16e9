from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sadcl_core.data import download as module
from sadcl_core.data.download import ARCHIVES, Archive, archives_of, download, downloadable
from sadcl_core.errors import DataError, MachineError, SadclError, UsageError

Files = dict[str, bytes]


def photograph(seed: int, size: int = 2000) -> bytes:
    """Bytes that do not shrink."""
    return b"".join(hashlib.sha256(f"{seed} {block}".encode()).digest() for block in range(size // 32))


COCO_FILES: dict[str, Files] = {
    "annotations_trainval2014.zip": {
        "annotations/instances_train2014.json": photograph(1),
        "annotations/instances_val2014.json": photograph(2),
    },
    "val2014.zip": {f"val2014/{number}.jpg": photograph(number) for number in range(3)},
    "train2014.zip": {f"train2014/{number}.jpg": photograph(10 + number) for number in range(5)},
}
VOC_FILES: dict[str, Files] = {
    f"VOC{part}_06-Nov-2007.tar": {
        f"VOCdevkit/VOC2007/{path}": photograph(len(part) + number)
        for number, path in enumerate((f"Annotations/{part}.xml", f"ImageSets/Main/{part}.txt", f"JPEGImages/{part}.jpg"))
    }
    for part in ("trainval", "test")
}


def zipped(
    files: Files, *, change: Callable[[zipfile.ZipInfo], None] = lambda info: None, packing: int = zipfile.ZIP_STORED
) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", packing) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = packing
            change(info)
            archive.writestr(info, content)
    return written.getvalue()


def tarred(files: Files, *, change: Callable[[tarfile.TarInfo], None] = lambda info: None) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        folder = tarfile.TarInfo("VOCdevkit")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            archive.addfile(info, io.BytesIO(content))
    return written.getvalue()


class Request(NamedTuple):
    method: str
    path: str
    range: str | None
    condition: str | None


@dataclass
class Site:
    """A web server's files, how it behaves, and what it was asked."""

    url: str
    files: Files = field(default_factory=dict)
    knows_ranges: bool = True
    says_length: bool = True
    misses_by: int = 0  # bytes, where it is asked to go on
    validator: str = "ETag"
    errors: list[int] = field(default_factory=list)  # answered before anything else
    cuts: list[int] = field(default_factory=list)  # how many bytes each of the next GETs gets
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    served: int = 0

    def gets(self) -> list[Request]:
        return [request for request in self.requests if request.method == "GET"]

    def offer(self, name: str, content: bytes, *makes: str, roots: tuple[str, ...] = ("",)) -> Archive:
        self.files[f"/{name}"] = content
        return Archive(f"{self.url}/{name}", hashlib.md5(content).hexdigest(), makes, roots)

    def version(self, content: bytes) -> str:
        tag = hashlib.sha1(content).hexdigest()
        return f'"{tag}"' if self.validator == "ETag" else f"Mon, 01 Jan 2024 00:00:{int(tag, 16) % 60:02} GMT"


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        content = self.answer()
        if content is not None:
            sent = content[: self.site.cuts.pop(0)] if self.site.cuts else content
            self.site.served += len(sent)
            self.wfile.write(sent)

    def answer(self) -> bytes | None:
        site, headers = self.site, self.headers
        site.requests.append(Request(self.command, self.path, headers["Range"], headers["If-Range"]))
        if site.errors or self.path not in site.files:
            self.refuse()
            return None
        content = site.files[self.path]
        version = site.version(content)
        start = int(re.findall(r"\d+", headers["Range"])[0]) if headers["Range"] and site.knows_ranges else 0
        if headers["If-Range"] not in (None, version):
            start = 0
        if start >= len(content):
            self.send_error(416)
            return None
        self.send_response(206 if start else 200)
        if start:
            start += site.misses_by
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if site.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.send_header(site.validator, version)
        self.end_headers()
        return content[start:]

    def refuse(self) -> None:
        if self.path in self.site.redirects and not self.site.errors:
            self.send_response(302)
            self.send_header("Location", self.site.redirects[self.path])
            self.end_headers()
        else:
            self.send_error(self.site.errors.pop(0) if self.site.errors else 404)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on this machine; attempts follow each other without a wait."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(module, "WAITS", (0.0, 0.0, 0.0))

    class HandlerOfThisTest(Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), HandlerOfThisTest) as server:
        HandlerOfThisTest.site = Site(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        yield HandlerOfThisTest.site
        server.shutdown()
        thread.join()


@pytest.fixture
def coco(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site offers a data set of three zips by the name of coco."""
    archives = tuple(
        site.offer(real.name, zipped(COCO_FILES[real.name]), *real.makes, roots=real.roots) for real in ARCHIVES["coco"]
    )
    monkeypatch.setitem(ARCHIVES, "coco", archives)
    return site


@pytest.fixture
def voc(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site offers a data set of two tars that unpack into the same folders, by the name of voc2007."""
    rows = [(name, tarred(files), name[3 : name.index("_")]) for name, files in VOC_FILES.items()]
    archives = tuple(
        site.offer(name, content, f"ImageSets/Main/{part}.txt", roots=("VOCdevkit/VOC2007", "VOC2007", ""))
        for name, content, part in rows
    )
    monkeypatch.setitem(ARCHIVES, "voc2007", archives)
    return site


@pytest.fixture
def single(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Offer a data set of one archive; returns its name in the downloads."""

    def offer(content: bytes, name: str = "train.zip") -> str:
        monkeypatch.setitem(ARCHIVES, "coco", (site.offer(name, content, "train"),))
        return name

    return offer


LARGE = {"train/large.jpg": photograph(0, 64_000)}


def tree(folder: Path) -> Files:
    """Every file of the data set, without the download's own."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name != module.RECORD}


def all_of(archives: dict[str, Files]) -> Files:
    return {path: content for files in archives.values() for path, content in files.items()}


def fails(kind: type[SadclError], folder: Path, *matches: str, name: str = "coco") -> str:
    with pytest.raises(kind) as caught:
        download(name, folder)
    for match in matches:
        assert match in str(caught.value)
    return str(caught.value)


# the whole way


@pytest.mark.parametrize(("name", "archives"), [("coco", COCO_FILES), ("voc2007", VOC_FILES)])
def test_everything_is_in_place_and_nothing_is_fetched_twice(
    coco: Site, voc: Site, tmp_path: Path, name: str, archives: dict[str, Files]
) -> None:
    calls: list[tuple[str, int, int]] = []
    folder = tmp_path / "new" / "data"
    download(name, folder, progress=lambda *call: calls.append(call))
    assert tree(folder) == all_of(archives)
    assert sorted(path.name for path in folder.glob(".*")) == [module.RECORD]
    for archive in archives:
        for what in ("fetching", "unpacking"):
            done = [call[1:] for call in calls if call[0] == f"{what} {archive}"]
            assert done == sorted(done)
            assert done[-1][0] == done[-1][1] > 0
    asked = len(coco.requests)
    download(name, folder)
    assert len(coco.requests) == asked == 2 * len(archives)


def test_what_was_deleted_is_fetched_again(coco: Site, tmp_path: Path) -> None:
    download("coco", tmp_path)
    shutil.rmtree(tmp_path / "val2014")
    (tmp_path / "val2014").mkdir()
    download("coco", tmp_path)
    assert tree(tmp_path) == all_of(COCO_FILES)
    assert len(coco.gets()) == 4


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_data_put_there_by_hand_is_taken_as_it_is(coco: Site, tmp_path: Path, prefix: str) -> None:
    for path in ("annotations/instances_train2014.json", "annotations/instances_val2014.json"):
        write(tmp_path / path, b"by hand")
    write(tmp_path / f"{prefix}train2014/a.jpg", b"by hand")
    download("coco", tmp_path)
    assert [request.path for request in coco.gets()] == ["/val2014.zip"]
    assert (tmp_path / "annotations" / "instances_val2014.json").read_bytes() == b"by hand"


@pytest.mark.parametrize("root", ["VOCdevkit/VOC2007", "VOC2007", "."])
def test_each_archive_of_shared_folders_is_known_by_its_own_files(voc: Site, tmp_path: Path, root: str) -> None:
    write(tmp_path / root / "ImageSets" / "Main" / "trainval.txt", b"by hand")
    write(tmp_path / root / "JPEGImages" / "a.jpg", b"by hand")
    download("voc2007", tmp_path)
    assert [request.path for request in voc.gets()] == ["/VOCtest_06-Nov-2007.tar"]


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_an_archive_put_there_by_hand_needs_no_network(coco: Site, tmp_path: Path) -> None:
    for name, files in COCO_FILES.items():
        write(tmp_path / module.DOWNLOADS / name, zipped(files))
    download("coco", tmp_path)
    assert tree(tmp_path) == all_of(COCO_FILES)
    assert coco.requests == []


def test_a_wrong_archive_put_there_by_hand_is_not_used_and_not_deleted(coco: Site, tmp_path: Path) -> None:
    path = write(tmp_path / module.DOWNLOADS / "annotations_trainval2014.zip", b"half of it")
    fails(DataError, tmp_path, f"{path} is not the whole of {coco.url}/annotations_trainval2014.zip", "Delete it")
    assert path.read_bytes() == b"half of it"


@pytest.mark.parametrize("name", ["digits", "nuswide", "vg500", "voc2007-test"])
def test_other_names_cannot_be_downloaded(tmp_path: Path, name: str) -> None:
    fails(UsageError, tmp_path, f"{name} cannot be downloaded", ", ".join(downloadable()), name=name)
    assert downloadable() == ["coco", "coco2014", "coco2017", "voc2007", "voc2012"]


# fetching


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
def test_a_cut_connection_goes_on_where_it_ended(site: Site, single: Callable[..., str], tmp_path: Path, validator: str) -> None:
    content = zipped(LARGE)
    single(content)
    site.validator, site.cuts = validator, [30_000, 20_000]
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.range for request in site.gets()] == [None, "bytes=30000-", "bytes=50000-"]
    assert site.gets()[1].condition == site.version(content)
    assert site.served == len(content)


def test_a_connection_cut_too_often_is_told_and_the_next_call_goes_on(
    site: Site, single: Callable[..., str], tmp_path: Path
) -> None:
    content = zipped(LARGE)
    name = single(content)
    site.cuts = [10_000, 10_000, 0, 1_000]
    fails(MachineError, tmp_path, f"{site.url}/{name} cannot be fetched", "Give the same command again to go on", "21.0 kB")
    assert (tmp_path / module.DOWNLOADS / f"{name}.part").read_bytes() == content[:21_000]
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert site.served == len(content)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_fetch_goes_on(
    site: Site,
    single: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: type[BaseException],
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == f"fetching {name}" and done >= 20_000:
            raise interruption

    monkeypatch.setattr(module, "CHUNK", 4096)
    name = single(zipped(LARGE))
    with pytest.raises(interruption):
        download("coco", tmp_path, progress=interrupt)
    assert (tmp_path / module.DOWNLOADS / f"{name}.part").stat().st_size == 20_480
    calls: list[tuple[str, int, int]] = []
    download("coco", tmp_path, progress=lambda *call: calls.append(call))
    assert tree(tmp_path) == LARGE
    assert site.gets()[-1].range == "bytes=20480-"
    assert min(done for what, done, _ in calls if what.startswith("fetching")) > 20_480


def left_part(folder: Path, site: Site, name: str, content: bytes, **changes: object) -> None:
    """What an interrupted fetch of the first half of `content` leaves."""
    part = write(folder / module.DOWNLOADS / f"{name}.part", content[: len(content) // 2])
    origin = {"url": f"{site.url}/{name}", "validator": site.version(content), "total": len(content), **changes}
    part.with_name(f"{name}.part.json").write_text(json.dumps(origin))


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize("old", ["the same", "of another length", "of another content"])
def test_a_fetch_begins_anew_when_it_cannot_go_on(
    site: Site, single: Callable[..., str], tmp_path: Path, knows_ranges: bool, old: str
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
    site: Site, single: Callable[..., str], tmp_path: Path, changes: dict[str, object]
) -> None:
    content = zipped(LARGE)
    left_part(tmp_path, site, single(content), content, **changes)
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.condition for request in site.gets()] == [None]
    assert (site.gets()[0].range is None) == (changes != {"validator": None})


def test_a_server_that_goes_on_with_another_file_is_noticed(site: Site, single: Callable[..., str], tmp_path: Path) -> None:
    content = zipped(LARGE)
    left_part(tmp_path, site, single(content), content[::-1] + b"longer", validator=None)
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.range is None for request in site.gets()] == [False, True]


def test_a_server_that_goes_on_elsewhere_is_noticed(site: Site, single: Callable[..., str], tmp_path: Path) -> None:
    content = zipped(LARGE)
    left_part(tmp_path, site, single(content), content)
    site.misses_by = 1
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.range is None for request in site.gets()] == [False, True]


def test_a_part_longer_than_the_file_begins_anew(site: Site, single: Callable[..., str], tmp_path: Path) -> None:
    content = zipped(LARGE)
    left_part(tmp_path, site, single(content), content * 3, validator=None, total=None)
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE


def test_a_whole_part_is_not_asked_for_again(site: Site, single: Callable[..., str], tmp_path: Path) -> None:
    content = zipped(LARGE)
    name = single(content)
    left_part(tmp_path, site, name, content)
    write(tmp_path / module.DOWNLOADS / f"{name}.part", content)
    download("coco", tmp_path)
    assert site.gets() == []


def test_a_server_may_keep_the_length_to_itself(site: Site, coco: Site, tmp_path: Path) -> None:
    site.says_length = False
    totals = set()
    download("coco", tmp_path, progress=lambda what, done, total: totals.add((what.split()[0], total == 0)))
    assert tree(tmp_path) == all_of(COCO_FILES)
    assert totals == {("fetching", True), ("unpacking", False)}


def test_a_wrong_checksum_deletes_the_part(site: Site, single: Callable[..., str], tmp_path: Path) -> None:
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
    assert f"put them into {tmp_path / module.DOWNLOADS} (or unpack them in {tmp_path})" in text


def test_a_passing_error_is_waited_for(coco: Site, tmp_path: Path) -> None:
    coco.errors = [503, 429, 500]
    download("coco", tmp_path)
    assert tree(tmp_path) == all_of(COCO_FILES)


def test_no_network(coco: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        closed = f"http://127.0.0.1:{server.server_address[1]}"
    archives = tuple(replace(archive, url=f"{closed}/{archive.name}") for archive in ARCHIVES["coco"])
    monkeypatch.setitem(ARCHIVES, "coco", archives)
    write(tmp_path / module.DOWNLOADS / "val2014.zip", zipped(COCO_FILES["val2014.zip"]))
    text = fails(MachineError, tmp_path, f"{closed}/annotations_trainval2014.zip cannot be fetched", "refused", "elsewhere")
    assert all(archive.url in text for archive in archives)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.zip", "data:,a"])
def test_a_redirect_to_another_scheme_is_refused(site: Site, single: Callable[..., str], tmp_path: Path, target: str) -> None:
    name = single(b"")
    del site.files[f"/{name}"]
    site.redirects[f"/{name}"] = target
    fails(MachineError, tmp_path, f"{site.url}/{name} cannot be fetched (HTTP 302", target)
    assert tree(tmp_path) == {}


def test_a_redirect_on_the_web_is_followed(site: Site, single: Callable[..., str], tmp_path: Path) -> None:
    content = zipped(LARGE)
    name = single(content)
    site.files = {"/elsewhere": content}
    site.redirects[f"/{name}"] = "/elsewhere"
    site.cuts = [1000]
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.method for request in site.requests[:2]] == ["HEAD", "HEAD"]
    assert site.gets()[-1] == Request("GET", "/elsewhere", "bytes=1000-", site.version(content))


# free space


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
    write(tmp_path / module.DOWNLOADS / "annotations_trainval2014.zip", first)
    left_part(tmp_path, coco, "val2014.zip", second)
    needed = len(second) - len(second) // 2 + len(third) + round(1.1 * (len(first) + len(second) + len(third)))
    only(monkeypatch, needed - 1)
    fails(MachineError, tmp_path, "free")
    only(monkeypatch, needed)
    download("coco", tmp_path)


def test_too_little_space_to_unpack(
    site: Site, single: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / module.DOWNLOADS / single(zipped({"train/a.json": photograph(0) * 3}, packing=zipfile.ZIP_DEFLATED))
    only(monkeypatch, 5000)
    fails(MachineError, tmp_path, f"{path} unpacks to 6.0 kB and {tmp_path} has 5.0 kB free")
    only(monkeypatch, 6000)
    download("coco", tmp_path)
    assert len(site.gets()) == 1


# unpacking


def a_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def kind(letter: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = letter, "/etc/passwd", 0

    return change


@pytest.mark.parametrize("name", ["../evil", "/evil", "train/../../evil", "..\\evil", "C:\\evil", "\\evil"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_nothing_is_unpacked_elsewhere(
    single: Callable[..., str], tmp_path: Path, pack: Callable[[Files], bytes], name: str
) -> None:
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
def test_only_plain_files_are_unpacked(single: Callable[..., str], tmp_path: Path, name: str, content: bytes) -> None:
    single(content, name)
    fails(DataError, tmp_path, "'train/link', which is no plain file")
    assert not (tmp_path / "train").exists()


def test_an_archive_that_unpacks_to_far_too_much_is_refused(single: Callable[..., str], tmp_path: Path) -> None:
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
def test_a_damaged_archive(single: Callable[..., str], tmp_path: Path, name: str, content: bytes) -> None:
    single(content, name)
    fails(DataError, tmp_path, f"{tmp_path / module.DOWNLOADS / name} is a damaged archive", "Delete it")
    assert not (tmp_path / "train").exists()


def test_only_what_files_hold_is_unpacked(single: Callable[..., str], tmp_path: Path) -> None:
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
    write(tmp_path / module.DOWNLOADS / module.UNPACKING / "train2014" / "half.jpg", b"half of it")
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
    shutil.rmtree(tmp_path / module.DOWNLOADS)
    download("voc2007", tmp_path)
    assert tree(tmp_path) == all_of(VOC_FILES)


@pytest.mark.parametrize("record", ["", "[1]", '{"train2014.zip": 3}'])
def test_a_damaged_record_does_not_matter(coco: Site, tmp_path: Path, record: str) -> None:
    write(tmp_path / module.RECORD, record.encode())
    download("coco", tmp_path)
    assert tree(tmp_path) == all_of(COCO_FILES)


def test_a_folder_that_cannot_be(coco: Site, tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"")
    fails(UsageError, path, "cannot be written", "another folder with --data")
    fails(UsageError, path / "inside", "cannot be written")


# where the archives are


@pytest.mark.parametrize("name", ["voc2007", "voc2012"])
def test_torchvision_knows_where_voc_is(name: str) -> None:
    for archive in archives_of(name):
        assert archive.url.startswith("https://")
        assert archive.name.endswith(".tar")
        assert re.fullmatch("[0-9a-f]{32}", archive.md5)
        assert archive.roots[0] == f"VOCdevkit/{name.upper()}"


def test_coco_is_that_of_2014() -> None:
    assert ARCHIVES["coco"] == ARCHIVES["coco2014"] != ARCHIVES["coco2017"]
    for year in ("2014", "2017"):
        for archive in ARCHIVES[f"coco{year}"]:
            assert archive.name.endswith(f"{year}.zip")
            assert re.fullmatch("[0-9a-f]{32}", archive.md5)
            assert all(year in path for path in archive.makes)


def test_the_module_needs_no_torch() -> None:
    code = "import sys, sadcl_core.data.download; sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
