"""Fetch archives: first the space they need, then each in one piece, with the checksum it should have."""

from __future__ import annotations

from http.client import REQUESTED_RANGE_NOT_SATISFIABLE
from pathlib import Path

from sadcl_core.data.prepare.download.archives import Archive
from sadcl_core.data.prepare.download.parts import Part, md5_of, part_of
from sadcl_core.data.prepare.download.place import Place, refuse_if_more_than_free
from sadcl_core.data.prepare.download.web import DroppedError, RefusedError, asking, number, with_patience
from sadcl_core.errors import DataError

UNPACKED_SHARE = 1.1  # bytes unpacked for each byte of an archive: photographs do not shrink


def require_space(place: Place) -> None:
    """Refuse to begin what cannot end for lack of space; archives whose size is not known do not count.

    Raises:
        MachineError: too little space, or no network.
    """
    to_fetch, in_all = 0, 0
    for archive in place.missing:
        path = place.downloads / archive.name
        there = _size_of(path) or _size_of(part_of(path))
        size = there if path.is_file() else _ask_size(archive.url, place)
        to_fetch += max(size - there, 0)
        in_all += size
    needed = to_fetch + round(UNPACKED_SHARE * in_all)
    refuse_if_more_than_free(needed, place.folder, "The archives and what they hold need")


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _ask_size(url: str, place: Place) -> int:
    """The length of a file on its server, 0 when the server does not say."""

    def ask() -> int:
        with asking(url, {}, method="HEAD") as answer:
            return number(answer.headers.get("Content-Length")) or 0

    try:
        return with_patience(ask)
    except RefusedError:  # some servers only answer GET
        return 0
    except DroppedError as error:
        raise place.unreachable(url, error) from None


def whole_archive(archive: Archive, place: Place) -> Path:
    """The path of an archive whose checksum is right, fetched unless it lies there.

    Raises:
        DataError: the checksum is wrong.
        MachineError: it cannot be fetched.
    """
    path = place.downloads / archive.name
    if path.is_file():
        found = md5_of(path, place.report)[0].hexdigest()
        if found != archive.md5:
            raise DataError(
                f"{path} is not the whole of {archive.url} (MD5 {found} instead of {archive.md5}). Delete it, or put the right "
                "file there, and give the same command again."
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


def _fetch(archive: Archive, place: Place) -> Part:
    part = Part(archive, place)
    try:
        with_patience(lambda: _fetch_rest(part))
    except (DroppedError, RefusedError) as error:
        raise place.unreachable(archive.url, error, kept=part.size) from None
    return part


def _fetch_rest(part: Part) -> None:
    if part.complete:
        return
    try:
        with asking(part.archive.url, part.headers()) as answer:
            part.begin(answer)
            part.receive(answer)
    except RefusedError as error:
        if error.code != REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        raise part.outdated() from None
