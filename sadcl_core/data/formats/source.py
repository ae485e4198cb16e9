"""Where a manifest came from: enough to see that the annotation files changed since."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def describe_source(kind: str, files: Iterable[Path]) -> dict[str, Any]:
    """The format and, of each annotation file, its path, size in bytes and time of change in nanoseconds."""
    stats = [(path, path.stat()) for path in files]
    return {"format": kind, "files": {str(path.resolve()): [stat.st_size, stat.st_mtime_ns] for path, stat in stats}}


def changed(source: dict[str, Any]) -> list[str]:
    """Annotation files that are gone or no longer what they were."""
    stale = []
    for name, (size, time) in source.get("files", {}).items():
        try:
            stat = Path(name).stat()
        except OSError:
            stale.append(name)
            continue
        if (stat.st_size, stat.st_mtime_ns) != (size, time):
            stale.append(name)
    return stale
