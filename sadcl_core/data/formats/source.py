"""Where a manifest came from: enough to see that the annotation files changed since."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def describe_source(kind: str, paths: Iterable[Path]) -> dict[str, Any]:
    """The format and, of each annotation file or folder of them, its path and what changes when it does."""
    return {"format": kind, "files": {str(path.resolve()): _state(path) for path in paths}}


def changed(source: dict[str, Any]) -> list[str]:
    """Annotation files and folders that are gone or no longer what they were."""
    return [name for name, state in source.get("files", {}).items() if _state(Path(name)) != state]


def _state(path: Path) -> list[int] | None:
    """Of a file its size in bytes, of a folder the number of its files; and the latest change in nanoseconds. None when gone."""
    try:
        if path.is_dir():
            times = [entry.stat().st_mtime_ns for entry in os.scandir(path)]
            return [len(times), max(times, default=0)]
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
