"""The lock of a run directory, and who holds it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sadcl_core.errors import UsageError

LOCK = ".lock"  # held by the process that trains in the folder
LAST_BREATH = 15.0  # seconds in which readers of a process that was killed notice it, and let go of its lock


@contextmanager
def lock_folder(folder: Path, holder: Any = None) -> Iterator[None]:
    """Hold the lock of a folder in the block; the lock of a process that dies is free.

    The process that held it last is `holder`, from `this_process`; if it is dead, its readers may need a moment to notice.

    Raises:
        UsageError: another process holds it, or the folder cannot be written to.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, lock_folder(Path(folder)):
        ...     pass
    """
    known = isinstance(holder, dict)
    dead = known and holder.get("host") == platform.node() and not runs_elsewhere(holder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=LAST_BREATH if dead else 0)
    except Timeout:
        named = known and "pid" in holder and "host" in holder
        whom = f"process {holder['pid']} on {holder['host']}" if named else "another process"
        raise UsageError(f"{folder} is in use by {whom}. Wait for it, or choose another with -o.") from None
    except OSError as error:
        raise UsageError(f"The run directory {folder} cannot be written to ({error.strerror}). Choose another with -o.") from None
    try:
        yield
    finally:
        lock.release()


def this_process() -> dict[str, Any]:
    """Return what tells this process from all others, here and elsewhere, now and later."""
    return {"host": platform.node(), "pid": os.getpid(), "since": process_start(os.getpid())}


def runs_elsewhere(process: dict[str, Any]) -> bool:
    """Return True if what `this_process` returned in another process of this machine is still true.

    Example:
        >>> runs_elsewhere(this_process())
        False
    """
    pid = process.get("pid")
    if process.get("host") != platform.node() or not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process.get("since") == process_start(pid)


def process_start(pid: int) -> str | None:
    """Return when a process was started, in ticks of the system's clock; None where that cannot be read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
