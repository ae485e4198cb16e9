"""The beginning of an archive on disk, and of which file on the server it is."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from functools import partial
from http.client import PARTIAL_CONTENT, HTTPResponse
from pathlib import Path

from sadcl_core.data.prepare.download.archives import Archive
from sadcl_core.data.prepare.download.place import CHUNK, Place, load_json, store_json
from sadcl_core.data.prepare.download.web import DroppedError, number, read
from sadcl_core.runtime.progress import StagedProgress

md5 = partial(hashlib.md5, usedforsecurity=False)


@dataclass(frozen=True)
class Origin:
    """Which file on the server a part is of."""

    url: str
    validator: str | None  # changes when the file does
    total: int | None

    @classmethod
    def of(cls, url: str, answer: HTTPResponse) -> Origin:
        """What an answer says; weak ETags cannot be used to go on."""
        etag = answer.headers.get("ETag", "W/")
        validator = answer.headers.get("Last-Modified") if etag.startswith("W/") else etag
        if answer.status == PARTIAL_CONTENT:
            return cls(url, validator, number(answer.headers.get("Content-Range", "").rpartition("/")[2]))
        return cls(url, validator, number(answer.headers.get("Content-Length")))

    @classmethod
    def load(cls, path: Path, url: str) -> Origin | None:
        """What was stored beside a part, if it is of this address."""
        stored = load_json(path)
        validator, total = stored.get("validator"), stored.get("total")
        if stored.get("url") != url or not isinstance(validator, str | None) or not isinstance(total, int | None):
            return None
        return cls(url, validator, total)

    def may_be(self, other: Origin) -> bool:
        """Whether nothing that both say differs."""
        pairs = ((self.validator, other.validator), (self.total, other.total))
        return all(ours == theirs for ours, theirs in pairs if ours is not None and theirs is not None)


class Part:
    """The beginning of an archive on disk, with the checksum of what it holds."""

    def __init__(self, archive: Archive, place: Place) -> None:
        """Take up what an earlier call left."""
        self.archive = archive
        self.path = part_of(place.downloads / archive.name)
        self.sidecar = self.path.with_name(f"{self.path.name}.json")
        self.report = place.report
        self.origin = Origin.load(self.sidecar, archive.url)
        self.size, self.digest = 0, md5()
        if self.origin is None:
            self.clear()
        elif self.path.is_file():
            self.digest, self.size = md5_of(self.path, place.report, self.origin.total)
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
        self.origin, self.size, self.digest = None, 0, md5()

    def outdated(self) -> DroppedError:
        """Begin anew, and say why."""
        self.clear()
        return DroppedError("the file on the server changed meanwhile")

    def headers(self) -> dict[str, str]:
        """Ask for the rest, if the file is still the same."""
        if self.origin is None or not self.size:
            return {}
        condition = {"If-Range": self.origin.validator} if self.origin.validator else {}
        return {"Range": f"bytes={self.size}-", **condition}

    def begin(self, answer: HTTPResponse) -> None:
        """Set the part to where an answer starts: behind what is there, or at the beginning.

        Raises:
            DroppedError: the answer is the rest of another file.
        """
        origin = Origin.of(self.archive.url, answer)
        if answer.status != PARTIAL_CONTENT:
            self.clear()
            self.origin = origin
            store_json(self.sidecar, asdict(origin))
            return
        start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if self.origin is None or not self.origin.may_be(origin) or not start or int(start[1]) != self.size:
            raise self.outdated()

    def receive(self, answer: HTTPResponse) -> None:
        """Add what arrives.

        Raises:
            DroppedError: the connection broke off.
        """
        total = (self.origin.total if self.origin else None) or 0
        with self.path.open("ab") as file:
            while chunk := read(answer, CHUNK):
                file.write(chunk)
                self.digest.update(chunk)
                self.size += len(chunk)
                self.report(f"fetching {self.archive.name}", self.size, total)
        if self.size < total:
            raise DroppedError(f"the connection ended after {self.size:,} of {total:,} bytes")


def part_of(path: Path) -> Path:
    """Where the beginning of an archive lies."""
    return path.with_name(f"{path.name}.part")


def md5_of(path: Path, report: StagedProgress, total: int | None = None) -> tuple[hashlib._Hash, int]:
    """The checksum of a file, to which more can be added, and its size."""
    digest, done, size = md5(), 0, total or path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report(f"checking {path.name.removesuffix('.part')}", done, size)
    return digest, done
