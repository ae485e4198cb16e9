"""What every step of a download shares: where things lie, what is recorded of them, and what to say when that fails."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sadcl_core.data.prepare.download.archives import Archive
from sadcl_core.errors import MachineError
from sadcl_core.runtime.files import write_json
from sadcl_core.runtime.progress import StagedProgress

DOWNLOADS = ".downloads"
UNPACKING = "unpacking"
RECORD = ".downloaded.json"
MOVING, UNPACKED = "being moved into place", "unpacked"  # the values of the record

CHUNK = 1 << 18  # bytes read at a time
OPTION = "--data"  # with which a person chooses another folder


@dataclass(frozen=True)
class Place:
    """Where a data set goes, what is still missing, and who is told."""

    folder: Path
    missing: tuple[Archive, ...]
    report: StagedProgress

    @property
    def downloads(self) -> Path:
        """Where archives lie until they are unpacked."""
        return self.folder / DOWNLOADS

    @property
    def unpacking(self) -> Path:
        """Where the files of an archive lie until they are moved."""
        return self.downloads / UNPACKING

    def unreachable(self, url: str, reason: object, *, kept: int = 0) -> MachineError:
        """What to say when a file cannot be had."""
        again = f" Give the same command again to go on after the {in_words(kept)} that have been kept." if kept else ""
        return MachineError(
            f"{url} cannot be fetched ({reason}).{again} Where there is no network, fetch these files elsewhere, put them into "
            f"{self.downloads} (or unpack them in {self.folder}) and give the same command again: "
            f"{', '.join(archive.url for archive in self.missing)}"
        )


def is_there(folder: Path, archive: Archive) -> bool:
    """Whether all that an archive makes is in place."""
    if _recorded(folder).get(archive.name) == MOVING:  # interrupted: some of it is there
        return False
    return any(all(_has_content(folder / root / path) for path in archive.makes) for root in archive.roots)


def _has_content(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and next(path.iterdir(), None) is not None)


def record(folder: Path, name: str, state: str) -> None:
    """Write down how far an archive is."""
    store_json(folder / RECORD, {**_recorded(folder), name: state})


def _recorded(folder: Path) -> dict[str, str]:
    return {name: str(state) for name, state in load_json(folder / RECORD).items()}


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty when there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def store_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object in one piece."""
    write_json(path, value, OPTION)


def refuse_if_more_than_free(needed: int, folder: Path, what: str) -> None:
    """Look at the disk before it is written to.

    Raises:
        MachineError: too little space.
    """
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise MachineError(
            f"{what} {in_words(needed)} and {parent} has {in_words(free)} free. "
            "Free some space, or choose another place with --data."
        )


def in_words(size: int) -> str:
    """A number of bytes, to be read."""
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size} bytes"
