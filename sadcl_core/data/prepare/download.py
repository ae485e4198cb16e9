"""Download the public data sets and unpack them where their readers look.

    DIR/.downloads/NAME.part     an archive so far
    DIR/.downloads/NAME          a whole archive, fetched or put there by hand, until all that it holds is in place
    DIR/.downloads/unpacking/    the files of an archive, until they are moved into place

After an interruption the same call goes on. Nothing in DIR is overwritten.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from urllib.parse import urlsplit

import requests
from urllib3 import Retry

from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.runtime.files import explained
from sadcl_core.runtime.progress import Bytes, StagedProgress
from sadcl_core.runtime.words import gigabytes

OPTION = "--data"  # chooses another folder
TIMEOUT = 30.0  # seconds without an answer or a byte
ATTEMPTS = 3  # after the first
PASSING = (408, 429, 500, 502, 503, 504)  # status codes worth another attempt
CHUNK = 1 << 16  # bytes read at a time
UNPACKED_SHARE = 1.1  # bytes unpacked for each byte of an archive: photographs do not shrink
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, ValueError)


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


def _coco(year: int, *, annotations: str, val: str, train: str) -> tuple[Archive, ...]:
    """Return the archives of a year by their MD5, in the order in which they are fetched."""
    url = "http://images.cocodataset.org"
    labels = tuple(f"annotations/instances_{split}{year}.json" for split in ("train", "val"))
    return (
        Archive(f"{url}/annotations/annotations_trainval{year}.zip", annotations, makes=labels),
        Archive(f"{url}/zips/val{year}.zip", val, makes=(f"val{year}",), roots=("", "images")),
        Archive(f"{url}/zips/train{year}.zip", train, makes=(f"train{year}",), roots=("", "images")),
    )


def _voc(year: int, file: str, image_set: str, md5: str) -> Archive:
    """Return an archive of a year; only the list of its own image set tells it from the others of that year."""
    url, devkit = "https://thor.robots.ox.ac.uk/pascal/VOC", f"VOC{year}"
    makes = (f"ImageSets/Main/{image_set}.txt", "Annotations", "JPEGImages")
    return Archive(f"{url}/voc{year}/{file}", md5, makes, roots=(f"VOCdevkit/{devkit}", devkit, ""))


COCO_2014 = _coco(
    2014,
    annotations="0a379cfc70b0e71301e0f377548639bd",
    val="a3d79f5ed8d289b7a7554ce06a5782b3",
    train="0da8c0bd3d6becc4dcb32757491aca88",
)
COCO_2017 = _coco(
    2017,
    annotations="f4bbac642086de4f52a3fdda2de5fa2c",
    val="442b8da7639aecaf257c1dceb8ba8c80",
    train="cced6f7f71b7629ddf16f17bbcfab6b2",
)
ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "coco": COCO_2014,
    "coco2014": COCO_2014,
    "coco2017": COCO_2017,
    "voc2007": (
        _voc(2007, "VOCtrainval_06-Nov-2007.tar", "trainval", "c52e279531787c972589f7e41ab4ae64"),
        _voc(2007, "VOCtest_06-Nov-2007.tar", "test", "b6e924de25625d8de591ea690078ad9f"),
    ),
    "voc2012": (_voc(2012, "VOCtrainval_11-May-2012.tar", "trainval", "6cd6e144f989b92b3379bac3b3de84fd"),),
}


def download(
    name: str,
    folder: Path,
    *,
    archives: Sequence[Archive] | None = None,
    wait: float = 1.0,
    progress: StagedProgress | None = None,
) -> None:
    """Bring a data set into `folder`, in the layout its reader expects; what is there already is left as it is.

    Args:
        name: a key of `ARCHIVES`.
        folder: of the data set; made if it is missing.
        archives: those to fetch instead, for a mirror.
        wait: seconds before another attempt; twice as many before each further one.
        progress: called with a description of the step, the bytes done and the bytes in total (0: unknown).

    Raises:
        UsageError: the data set cannot be downloaded, or the folder cannot be written to.
        DataError: an archive is damaged or not what it should be, or a file of another content is in its way.
        MachineError: no network, the server does not have a file, the connection broke off, or too little free space.

    Example:
        >>> download("voc2007", Path("data/voc2007"))  # doctest: +SKIP
    """
    if archives is None and name not in ARCHIVES:
        raise UsageError(f"{name} cannot be downloaded by this program. It can download: {', '.join(sorted(ARCHIVES))}.")
    with explained(folder, OPTION), requests.Session() as session:
        job = _Download(folder, session, progress or (lambda what, done, total: None))
        job.missing = [archive for archive in archives or ARCHIVES[name] if not job.is_complete(archive)]
        if not job.missing:
            return
        retry = Retry(
            ATTEMPTS, backoff_factor=wait, status_forcelist=PASSING, raise_on_status=False, respect_retry_after_header=False
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
        session.headers.update({"User-Agent": "sadcl", "Accept-Encoding": "identity"})
        job.check_space()
        job.downloads.mkdir(parents=True, exist_ok=True)
        for archive in job.missing:
            job.fetch(archive)
            job.unpack(job.downloads / archive.name)
        with suppress(OSError):  # other files of the user's
            job.downloads.rmdir()


class _Download:
    """One call of `download`."""

    def __init__(self, folder: Path, session: requests.Session, report: StagedProgress) -> None:
        self.folder, self.session, self.report = folder, session, report
        self.downloads = folder / ".downloads"
        self.missing: list[Archive] = []

    def is_complete(self, archive: Archive) -> bool:
        """Return True if all that an archive makes is in place, and the archive itself is gone: it goes last."""
        if (self.downloads / archive.name).exists():
            return False
        return any(all(_has_content(self.folder / root / path) for path in archive.makes) for root in archive.roots)

    def check_space(self) -> None:
        """Raise a MachineError if the archives, as far as their sizes are known, and their contents will not fit."""
        needed = 0
        for archive in self.missing:
            path = self.downloads / archive.name
            size = _size(path)
            if not size:
                with self._network(archive):
                    answer = self.session.head(archive.url, allow_redirects=True, timeout=TIMEOUT)
                size = int(answer.headers.get("Content-Length", 0)) if answer.ok else 0  # some servers only answer GET
                needed += max(size - _size(_part(path)), 0)
            needed += round(UNPACKED_SHARE * size)
        self._require(needed, "The archives and what they hold need")

    def fetch(self, archive: Archive) -> None:
        """Fetch the rest of an archive, unless it is there, and compare its checksum."""
        path = self.downloads / archive.name
        part = _part(path)
        stored = path if path.exists() else part
        if stored == part:
            with self._network(archive):
                while not self._fetch_rest(archive, part):
                    pass
        if (md5 := self._md5(stored)) != archive.md5:
            part.unlink(missing_ok=True)
            raise DataError(
                f"{stored} is not the whole of {archive.url} (MD5 {md5} instead of {archive.md5}). Give the same command again "
                "to fetch it again, after deleting it if you put it there."
            )
        stored.replace(path)

    def _fetch_rest(self, archive: Archive, part: Path) -> bool:
        """Append what the server has behind the end of a part; return False if more has to follow."""
        size = start = _size(part)
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self.session.get(archive.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable and start:
                return True  # nothing follows: whether this is the file, the checksum says
            answer.raise_for_status()
            if answer.status_code == requests.codes.partial_content:
                if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                    part.unlink(missing_ok=True)
                    if start:
                        return False
                    raise requests.ConnectionError("the server answered with another part of the file than was requested")
            else:
                size = 0  # the server ignores ranges
            length = answer.headers.get("Content-Length")
            total = size + int(length) if length else 0
            with part.open("ab" if size else "wb") as file:
                try:
                    for chunk in answer.iter_content(CHUNK):
                        size += file.write(chunk)
                        self.report(Bytes(f"fetching {archive.name}"), size, total)
                except requests.RequestException:
                    if size <= start:
                        raise
                    return False
        return True

    def _md5(self, path: Path) -> str:
        digest, done, size = hashlib.md5(usedforsecurity=False), 0, _size(path)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                self.report(Bytes(f"checking {path.name.removesuffix('.part')}"), done, size)
        return digest.hexdigest()

    def unpack(self, path: Path) -> None:
        """Move what an archive holds into place, and delete it."""
        unpacking = self.downloads / "unpacking"
        shutil.rmtree(unpacking, ignore_errors=True)  # of a call that was interrupted
        unpacking.mkdir()
        try:
            self._extract(path, unpacking)
        except DAMAGE as error:
            raise DataError(f"{path} is a damaged archive ({error}). Delete it and give the same command again.") from None
        self._merge(unpacking)
        shutil.rmtree(unpacking)
        path.unlink()

    def _extract(self, path: Path, unpacking: Path) -> None:
        with ExitStack() as stack:
            members: list[tuple[str, int, Callable[[], object]]]
            if path.suffix == ".zip":
                zipped = stack.enter_context(zipfile.ZipFile(path))
                members = [(m.filename, m.file_size, partial(zipped.extract, m, unpacking)) for m in zipped.infolist()]
            else:
                tar = stack.enter_context(tarfile.open(path))
                members = [(m.name, m.size, partial(tar.extract, m, unpacking, filter="data")) for m in tar.getmembers()]
            for name, _, _ in members:
                parts = PureWindowsPath(name)  # takes / and \ and C: for what they may be
                if parts.anchor or ".." in parts.parts:
                    raise DataError(f"{path} holds {name!r}, which would lie outside of the folder. Delete it: do not trust it.")
            done, total = 0, sum(size for _, size, _ in members)
            self._require(total, f"{path} unpacks to")
            for _, size, extract in members:
                extract()
                done += size
                self.report(Bytes(f"unpacking {path.name}"), done, total)

    def _merge(self, unpacking: Path) -> None:
        """Move files into place, unless one of the same size is there."""
        files = [path.relative_to(unpacking) for path in sorted(unpacking.rglob("*")) if not path.is_dir()]
        for file in files:
            target = self.folder / file
            in_the_way = next((path for path in (target, *target.parents) if os.path.lexists(path) and not path.is_dir()), None)
            if target.is_dir() or (in_the_way and not (in_the_way == target and _size(target) == _size(unpacking / file))):
                raise DataError(
                    f"{in_the_way or target} is there with another content than the data set's. Move it away, or choose another "
                    f"place with {OPTION}."
                )
        for file in files:
            if not (self.folder / file).exists():
                (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(unpacking / file, self.folder / file)

    def _require(self, needed: int, what: str) -> None:
        parent = next(path for path in (self.folder.absolute(), *self.folder.absolute().parents) if path.is_dir())
        free = shutil.disk_usage(parent).free
        if needed > free:
            raise MachineError(
                f"{what} {gigabytes(needed)} and {parent} has {gigabytes(free)} free. Free some space, or choose another place "
                f"with {OPTION}."
            )

    @contextmanager
    def _network(self, archive: Archive) -> Iterator[None]:
        """Raise a MachineError of one sentence for whatever the network and the server do wrong."""
        try:
            yield
        except requests.RequestException as error:
            reason = str(getattr(error.args[0] if error.args else None, "reason", error)).rpartition(": ")[2]
            if error.response is not None:
                reason = f"HTTP {error.response.status_code}: {error.response.reason}"
            raise MachineError(
                f"{archive.url} cannot be fetched ({reason}). Give the same command again to go on. Where there is no network, "
                f"fetch these files elsewhere and put them into {self.downloads} (or unpack them in {self.folder}) before: "
                f"{', '.join(archive.url for archive in self.missing)}"
            ) from None


def _has_content(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and next(path.iterdir(), None) is not None)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
