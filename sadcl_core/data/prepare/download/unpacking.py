"""Unpack archives beside the data set, then move what they hold into place."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import IO, cast

from sadcl_core.data.prepare.download.place import CHUNK, MOVING, UNPACKED, Place, in_words, record, refuse_if_more_than_free
from sadcl_core.errors import DataError

LARGEST_SHARE = 10  # bytes unpacked for each byte: more than that is no archive of photographs and annotations
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, ValueError)


@dataclass(frozen=True)
class _Member:
    """A file in an archive."""

    name: str
    size: int
    plain: bool  # neither link nor device, nor encrypted
    open: Callable[[], IO[bytes]]


def unpack(path: Path, place: Place) -> None:
    """Move what an archive holds into place, and delete it.

    Raises:
        DataError: the archive is damaged or would write elsewhere, or files of another content are in place.
        MachineError: too little space.
    """
    with ExitStack() as stack:
        members = _members(path, stack)
        _refuse_unsafe(members, path)
        missing = [member for member in members if not _lies_in(place.folder, member)]
        refuse_if_more_than_free(sum(member.size for member in missing), place.folder, f"{path} unpacks to")
        _extract(missing, path, place)
    record(place.folder, path.name, MOVING)
    _merge(place.unpacking, place.folder)
    shutil.rmtree(place.unpacking)
    record(place.folder, path.name, UNPACKED)
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
            raise _distrusted(f"{path} holds {member.name!r}, which would lie outside of the folder")
        if not member.plain:
            raise _distrusted(f"{path} holds {member.name!r}, which is no plain file")
    size = sum(member.size for member in members)
    if size > LARGEST_SHARE * path.stat().st_size:
        raise _distrusted(f"{path} would unpack to {in_words(size)}, far more than it should")


def _distrusted(why: str) -> DataError:
    return DataError(f"{why}. Delete it: it is not to be trusted.")


def _lies_in(folder: Path, member: _Member) -> bool:
    target = folder / member.name
    if not target.exists() and not target.is_symlink():
        return False
    if not target.is_file() or target.stat().st_size != member.size:
        raise _in_the_way(target)
    return True


def _in_the_way(path: Path) -> DataError:
    return DataError(
        f"{path} is there with another content than the data set's. Move it away, or choose another place with --data."
    )


def _extract(members: list[_Member], path: Path, place: Place) -> None:
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
