"""Fetch the public data sets and unpack them where the readers look.

    DIR/.downloads/NAME.part     what there is of an archive so far; NAME.part.json says of which file on the server
    DIR/.downloads/NAME          a whole archive, fetched or put there by hand, until it has been unpacked
    DIR/.downloads/unpacking/    what it holds, until that is moved into place
    DIR/.downloaded.json         which archives have been unpacked, and which were being moved into place

Whatever interrupts this, the same call goes on from there. Nothing that lies in DIR is written over.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PureWindowsPath
from typing import IO, Any, TypeVar, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.files import write_json

ByteProgress = Callable[[str, int, int], None]  # what is being done to which file, bytes done, bytes in total (0: not known)

DOWNLOADS = ".downloads"
UNPACKING = "unpacking"
RECORD = ".downloaded.json"
MOVING, UNPACKED = "being moved into place", "unpacked"  # the values of the record

TIMEOUT = 30.0  # seconds without an answer or a byte
WAITS = (1.0, 2.0, 4.0)  # seconds before each further attempt
PASSING = (408, 429, 500, 502, 503, 504)  # answers worth another attempt
CHUNK = 1 << 18  # bytes
UNPACKED_SHARE = 1.1  # bytes unpacked for each byte of an archive: photographs do not shrink
LARGEST_SHARE = 10  # more than that is no archive of photographs and annotations
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, ValueError)

T = TypeVar("T")


@dataclass(frozen=True)
class Archive:
    """A file to fetch and unpack.

    Attributes:
        url: where it is; the last part is its name.
        md5: the checksum of the whole file.
        makes: paths that are there once it has been unpacked, each with something in it.
        roots: folders in which `makes` is looked for: the one it unpacks to, then others that the reader accepts as well.
    """

    url: str
    md5: str
    makes: tuple[str, ...]
    roots: tuple[str, ...] = ("",)

    @property
    def name(self) -> str:
        """The file name."""
        return urlsplit(self.url).path.rpartition("/")[2]


COCO = "http://images.cocodataset.org"
COCO_2014 = (
    Archive(
        f"{COCO}/annotations/annotations_trainval2014.zip",
        "0a379cfc70b0e71301e0f377548639bd",
        makes=("annotations/instances_train2014.json", "annotations/instances_val2014.json"),
    ),
    Archive(f"{COCO}/zips/val2014.zip", "a3d79f5ed8d289b7a7554ce06a5782b3", makes=("val2014",), roots=("", "images")),
    Archive(f"{COCO}/zips/train2014.zip", "0da8c0bd3d6becc4dcb32757491aca88", makes=("train2014",), roots=("", "images")),
)
COCO_2017 = (
    Archive(
        f"{COCO}/annotations/annotations_trainval2017.zip",
        "f4bbac642086de4f52a3fdda2de5fa2c",
        makes=("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    ),
    Archive(f"{COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", makes=("val2017",), roots=("", "images")),
    Archive(f"{COCO}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", makes=("train2017",), roots=("", "images")),
)
ARCHIVES: dict[str, tuple[Archive, ...]] = {"coco": COCO_2014, "coco2014": COCO_2014, "coco2017": COCO_2017}

# torchvision's name of each archive (it knows url and checksum), and the image set that only this one has
VOC = {"voc2007": (("2007", "trainval"), ("2007-test", "test")), "voc2012": (("2012", "trainval"),)}


def download(name: str, folder: Path, *, progress: ByteProgress | None = None) -> None:
    """Bring a data set into `folder`, in the layout its reader expects; what is there already is left as it is.

    Args:
        name: one of `downloadable()`.
        folder: where the data set is to lie; made when it is not there.
        progress: called with what is being done to which file, the bytes done and the bytes in total (0: not known).

    Raises:
        UsageError: the data set cannot be downloaded, or the folder cannot be written to.
        DataError: an archive is damaged or not what it should be, or a file of another content is in its way.
        MachineError: no network, the server does not have a file, the connection broke off, or too little free space.
    """
    archives = archives_of(name)
    with _writing(folder):
        missing = [archive for archive in archives if not _is_there(folder, archive)]
        if not missing:
            return
        place = _Place(folder, tuple(archive.url for archive in missing), progress or (lambda what, done, total: None))
        shutil.rmtree(place.unpacking, ignore_errors=True)  # of a call that was interrupted
        _require_space(missing, place)
        place.downloads.mkdir(parents=True, exist_ok=True)
        for archive in missing:
            _unpack(_whole_archive(archive, place), place)
        with suppress(OSError):  # other files of the user's
            place.downloads.rmdir()


def downloadable() -> list[str]:
    """The names `download` knows, in order."""
    return sorted({*VOC, *ARCHIVES})


def archives_of(name: str) -> tuple[Archive, ...]:
    """The archives that make up a data set; those of VOC as torchvision lists them.

    Raises:
        UsageError: it cannot be downloaded.
    """
    if name in ARCHIVES:
        return ARCHIVES[name]
    if name not in VOC:
        raise UsageError(f"{name} cannot be downloaded by this program. It can download: {', '.join(downloadable())}.")
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    devkit = name.upper()
    return tuple(
        Archive(
            url=DATASET_YEAR_DICT[key]["url"],
            md5=DATASET_YEAR_DICT[key]["md5"],
            makes=(f"ImageSets/Main/{image_set}.txt", "Annotations", "JPEGImages"),
            roots=(f"VOCdevkit/{devkit}", devkit, ""),
        )
        for key, image_set in VOC[name]
    )


@dataclass(frozen=True)
class _Place:
    """Where a data set goes, what is still missing, and who is told."""

    folder: Path
    urls: tuple[str, ...]
    report: ByteProgress

    @property
    def downloads(self) -> Path:
        return self.folder / DOWNLOADS

    @property
    def unpacking(self) -> Path:
        return self.downloads / UNPACKING

    def unreachable(self, url: str, reason: object, *, kept: int = 0) -> MachineError:
        """What to say when a file cannot be had."""
        again = f" Give the same command again to go on after the {_in_words(kept)} that have been kept." if kept else ""
        return MachineError(
            f"{url} cannot be fetched ({reason}).{again} Where there is no network, fetch these files elsewhere, put them into "
            f"{self.downloads} (or unpack them in {self.folder}) and give the same command again: {', '.join(self.urls)}"
        )


# what is there


def _is_there(folder: Path, archive: Archive) -> bool:
    if _record(folder).get(archive.name) == MOVING:  # interrupted: some of it is there
        return False
    return any(all(_has_content(folder / root / path) for path in archive.makes) for root in archive.roots)


def _has_content(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and next(path.iterdir(), None) is not None)


def _record(folder: Path) -> dict[str, str]:
    stored = _load_json(folder / RECORD)
    return {str(name): str(state) for name, state in stored.items()}


def _write_record(folder: Path, name: str, state: str) -> None:
    write_json(folder / RECORD, {**_record(folder), name: state})


def _load_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty when there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


# free space


def _require_space(archives: Iterable[Archive], place: _Place) -> None:
    """Refuse to begin what cannot end for lack of space; archives whose size is not known do not count.

    Raises:
        MachineError: too little space, or no network.
    """
    to_fetch, in_all = 0, 0
    for archive in archives:
        path = place.downloads / archive.name
        there = _size_of(path) or _size_of(_part_of(path))
        size = there if path.is_file() else _ask_size(archive.url, place)
        to_fetch += max(size - there, 0)
        in_all += size
    _refuse_if_more_than_free(to_fetch + round(UNPACKED_SHARE * in_all), place.folder, "The archives and what they hold need")


def _refuse_if_more_than_free(needed: int, folder: Path, what: str) -> None:
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise MachineError(
            f"{what} {_in_words(needed)} and {parent} has {_in_words(free)} free. "
            "Free some space, or choose another folder with --data."
        )


def _ask_size(url: str, place: _Place) -> int:
    """The length of a file on its server, 0 when the server does not say."""

    def ask() -> int:
        with _answer(url, {}, method="HEAD") as answer:
            return _number(answer.headers.get("Content-Length")) or 0

    try:
        return _with_patience(ask)
    except _RefusedError:  # some servers only answer GET
        return 0
    except _DroppedError as error:
        raise place.unreachable(url, error) from None


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _in_words(size: int) -> str:
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size} bytes"


# fetching


class _DroppedError(Exception):
    """The connection failed or broke off: another attempt may do."""


class _RefusedError(Exception):
    """The server answered, and another attempt would be answered alike."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _WebOnly(HTTPRedirectHandler):
    """Follows redirects to http and https only, and asks there what was asked first."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        """See the class."""
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise HTTPError(req.full_url, code, f"a redirect to {newurl} is not followed", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.method = req.get_method()
        return request


@dataclass(frozen=True)
class _Origin:
    """Which file on the server a part is of."""

    url: str
    validator: str | None  # changes when the file does
    total: int | None

    @classmethod
    def of(cls, url: str, answer: http.client.HTTPResponse) -> _Origin:
        """What an answer says; weak ETags cannot be used to go on."""
        etag = answer.headers.get("ETag", "W/")
        validator = answer.headers.get("Last-Modified") if etag.startswith("W/") else etag
        if answer.status == http.client.PARTIAL_CONTENT:
            return cls(url, validator, _number(answer.headers.get("Content-Range", "").rpartition("/")[2]))
        return cls(url, validator, _number(answer.headers.get("Content-Length")))

    @classmethod
    def load(cls, path: Path, url: str) -> _Origin | None:
        """What was stored beside a part, if it is of this address."""
        stored = _load_json(path)
        validator, total = stored.get("validator"), stored.get("total")
        if stored.get("url") != url or not isinstance(validator, str | None) or not isinstance(total, int | None):
            return None
        return cls(url, validator, total)

    def may_be(self, other: _Origin) -> bool:
        """Whether nothing that both say differs."""
        pairs = ((self.validator, other.validator), (self.total, other.total))
        return all(ours == theirs for ours, theirs in pairs if ours is not None and theirs is not None)


class _Part:
    """The beginning of an archive on disk, with the checksum of what it holds."""

    def __init__(self, archive: Archive, place: _Place) -> None:
        """Take up what an earlier call left."""
        self.archive = archive
        self.path = _part_of(place.downloads / archive.name)
        self.sidecar = self.path.with_name(f"{self.path.name}.json")
        self.report = place.report
        self.origin = _Origin.load(self.sidecar, archive.url)
        self.size = 0
        self.digest = hashlib.md5(usedforsecurity=False)
        if self.origin is None:
            self.clear()
        elif self.path.is_file():
            self.size = _hash_into(self.digest, self.path, place.report, self.origin.total)
            if self.size > (self.origin.total or self.size):
                self.clear()

    @property
    def complete(self) -> bool:
        """Whether all of it is there, as far as the server said how much that is."""
        return self.origin is not None and self.origin.total == self.size

    def clear(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)
        self.sidecar.unlink(missing_ok=True)
        self.origin, self.size, self.digest = None, 0, hashlib.md5(usedforsecurity=False)

    def headers(self) -> dict[str, str]:
        """Ask for the rest, if the file is still the same."""
        if self.origin is None or not self.size:
            return {}
        condition = {"If-Range": self.origin.validator} if self.origin.validator else {}
        return {"Range": f"bytes={self.size}-", **condition}

    def begin(self, answer: http.client.HTTPResponse) -> None:
        """Set the part to where an answer starts: behind what is there, or at the beginning.

        Raises:
            _DroppedError: the answer is the rest of another file.
        """
        origin = _Origin.of(self.archive.url, answer)
        if answer.status == http.client.PARTIAL_CONTENT:
            start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if self.origin is None or not self.origin.may_be(origin) or not start or int(start[1]) != self.size:
                self.clear()
                raise _DroppedError("the file on the server changed meanwhile")
        else:
            self.clear()
            self.origin = origin
            write_json(self.sidecar, asdict(origin))

    def receive(self, answer: http.client.HTTPResponse) -> None:
        """Add what arrives.

        Raises:
            _DroppedError: the connection broke off.
        """
        total = (self.origin.total if self.origin else None) or 0
        with self.path.open("ab") as file:
            while chunk := _read(answer):
                file.write(chunk)
                self.digest.update(chunk)
                self.size += len(chunk)
                self.report(f"fetching {self.archive.name}", self.size, total)
        if self.size < total:
            raise _DroppedError(f"the connection ended after {self.size:,} of {total:,} bytes")


def _whole_archive(archive: Archive, place: _Place) -> Path:
    """The path of an archive whose checksum is right, fetched unless it lies there.

    Raises:
        DataError: the checksum is wrong.
        MachineError: it cannot be fetched.
    """
    path = place.downloads / archive.name
    if path.is_file():
        digest = hashlib.md5(usedforsecurity=False)
        _hash_into(digest, path, place.report)
        if digest.hexdigest() != archive.md5:
            raise DataError(
                f"{path} is not the whole of {archive.url} (MD5 {digest.hexdigest()} instead of {archive.md5}). Delete it, or "
                "put the right file there, and give the same command again."
            )
        return path
    part = _fetch(archive, place)
    found = part.digest.hexdigest()
    if found != archive.md5:
        part.clear()
        raise DataError(
            f"{archive.url} arrived damaged (MD5 {found} instead of {archive.md5}) and has been deleted. "
            "Give the same command again to fetch it anew."
        )
    part.path.replace(path)
    part.sidecar.unlink(missing_ok=True)
    return path


def _fetch(archive: Archive, place: _Place) -> _Part:
    part = _Part(archive, place)
    try:
        _with_patience(lambda: _fetch_rest(part))
    except (_DroppedError, _RefusedError) as error:
        raise place.unreachable(archive.url, error, kept=part.size) from None
    return part


def _fetch_rest(part: _Part) -> None:
    if part.complete:
        return
    try:
        with _answer(part.archive.url, part.headers()) as answer:
            part.begin(answer)
            part.receive(answer)
    except _RefusedError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.clear()
        raise _DroppedError("the file on the server changed meanwhile") from None


def _with_patience(attempt: Callable[[], T]) -> T:
    """Try a few times, with a wait in between.

    Raises:
        _DroppedError: the last attempt failed as well.
    """
    for wait in WAITS:
        try:
            return attempt()
        except _DroppedError:
            time.sleep(wait)
    return attempt()


@contextmanager
def _answer(url: str, headers: dict[str, str], *, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
    """What a server answers when all is well; environment variables may name a proxy.

    Raises:
        _RefusedError: it answered otherwise.
        _DroppedError: it did not answer.
    """
    opener = OpenerDirector()
    for handler in (
        ProxyHandler,
        UnknownHandler,
        HTTPHandler,
        HTTPSHandler,
        HTTPDefaultErrorHandler,
        _WebOnly,
        HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    try:
        answer = opener.open(Request(url, headers={"User-Agent": "sadcl", **headers}, method=method), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        reason = f"HTTP {error.code}: {error.reason}"
        raise _DroppedError(reason) if error.code in PASSING else _RefusedError(error.code, reason) from None
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(_reason(error)) from None
    with answer:
        yield answer


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(_reason(error)) from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() else None


def _part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _hash_into(digest: hashlib._Hash, path: Path, report: ByteProgress, total: int | None = None) -> int:
    """Add a file to a checksum and return its size."""
    done, size = 0, total or path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report(f"checking {path.name.removesuffix('.part')}", done, size)
    return done


# unpacking


@dataclass(frozen=True)
class _Member:
    """A file in an archive."""

    name: str
    size: int
    plain: bool  # neither link nor device, nor encrypted
    open: Callable[[], IO[bytes]]


def _unpack(path: Path, place: _Place) -> None:
    """Move what an archive holds into place, and delete it.

    Raises:
        DataError: the archive is damaged or would write elsewhere, or files of another content are in place.
        MachineError: too little space.
    """
    with ExitStack() as stack:
        members = _members(path, stack)
        _refuse_unsafe(members, path)
        missing = [member for member in members if not _lies_in(place.folder, member)]
        _refuse_if_more_than_free(sum(member.size for member in missing), place.folder, f"{path} unpacks to")
        _extract(missing, path, place)
    _write_record(place.folder, path.name, MOVING)
    _merge(place.unpacking, place.folder)
    shutil.rmtree(place.unpacking)
    _write_record(place.folder, path.name, UNPACKED)
    path.unlink()


def _members(path: Path, stack: ExitStack) -> list[_Member]:
    """The files of an archive, which stays open as long as the stack; folders come of themselves."""
    with _damage(path):
        if path.suffix == ".zip":
            zipped = stack.enter_context(zipfile.ZipFile(path))
            return [_zip_member(zipped, info) for info in zipped.infolist() if not info.is_dir()]
        tar = stack.enter_context(tarfile.TarFile(path))
        return [_tar_member(tar, info) for info in tar.getmembers() if not info.isdir()]


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was not packed on Unix
    encrypted = bool(info.flag_bits & 1)
    return _Member(info.filename, info.file_size, kind in (0, stat.S_IFREG) and not encrypted, lambda: archive.open(info))


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    # extractfile returns None only for what is not plain, and that is refused before
    return _Member(info.name, info.size, info.isreg(), lambda: cast(IO[bytes], archive.extractfile(info)))


def _refuse_unsafe(members: list[_Member], path: Path) -> None:
    for member in members:
        name = PureWindowsPath(member.name)  # takes / and \ and C: for what they may be
        if name.anchor or ".." in name.parts or not name.parts or "\0" in member.name:
            raise DataError(
                f"{path} holds {member.name!r}, which would lie outside of the folder. Delete it: it is not to be trusted."
            )
        if not member.plain:
            raise DataError(f"{path} holds {member.name!r}, which is no plain file. Delete it: it is not to be trusted.")
    size = sum(member.size for member in members)
    if size > LARGEST_SHARE * path.stat().st_size:
        raise DataError(f"{path} would unpack to {_in_words(size)}, far more than it should. Delete it: it is not to be trusted.")


def _lies_in(folder: Path, member: _Member) -> bool:
    target = folder / member.name
    if not target.exists() and not target.is_symlink():
        return False
    if not target.is_file() or target.stat().st_size != member.size:
        raise _in_the_way(target)
    return True


def _in_the_way(path: Path) -> DataError:
    return DataError(
        f"{path} is there with another content than the data set's. Move it away, or choose another folder with --data."
    )


def _extract(members: list[_Member], path: Path, place: _Place) -> None:
    """Write the bytes of the members, and nothing else an archive may say of them, such as owners and rights."""
    total, done = sum(member.size for member in members), 0
    place.unpacking.mkdir(exist_ok=True)
    for member in members:
        target = place.unpacking / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        for size in _copy(member, target, path):
            done += size
            place.report(f"unpacking {path.name}", done, total)


def _copy(member: _Member, target: Path, path: Path) -> Iterator[int]:
    """Write a member to a file; yields the number of bytes of each piece."""
    with ExitStack() as stack:
        with _damage(path):
            source = stack.enter_context(member.open())
        file = stack.enter_context(target.open("wb"))
        left = member.size
        while left:
            with _damage(path):
                chunk = source.read(min(CHUNK, left))
                if not chunk:
                    raise EOFError(f"{member.name} is cut off")
            file.write(chunk)
            left -= len(chunk)
            yield len(chunk)


def _merge(source: Path, target: Path) -> None:
    """Move what a folder holds into another; folders that are not there yet move as a whole."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _merge(entry, place)
        elif place.exists() or place.is_symlink():
            raise _in_the_way(place)
        else:
            entry.replace(place)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise DataError(f"{path} is a damaged archive ({error}). Delete it and give the same command again.") from None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        path = error.filename or folder
        raise UsageError(f"{path} cannot be written ({error.strerror}). Choose another folder with --data.") from None
    except OSError as error:
        raise MachineError(
            f"{folder} cannot be written ({error.strerror or error}). Mend that, or choose another folder with --data, and give "
            "the same command again."
        ) from None
