"""Write files that appear whole or not at all: under a temporary name beside their place, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sadcl_core.errors import MachineError, UsageError


@contextmanager
def replacing(path: Path, option: str = "-o", *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to, which is renamed to `path` after the block, or removed if the block raises.

    Args:
        path: where the file is to be.
        option: that chooses another place.
        durable: put the content on the disk before the name, so that a power cut leaves the old file or the new one.

    Raises:
        SadclError: see `explained`.
    """
    temporary = path.with_name(f".{path.name[-100:]}.{os.getpid()}.{threading.get_ident()}.tmp")  # not longer than names may be
    try:
        with explained(path, option):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if durable:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def explained(path: Path, option: str = "-o") -> Iterator[None]:
    """Raise an error of one sentence if something in `path`, or `path` itself, cannot be written.

    Args:
        path: what is written.
        option: that chooses another place.

    Raises:
        UsageError: the place cannot be written to.
        MachineError: writing failed half-way, such as on a full disk.
    """
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        where = error.filename2 or error.filename or path  # filename2: the target of a renaming
        where = path if str(where).endswith(".tmp") else where
        raise UsageError(f"{where} cannot be written ({error.strerror}). Choose another place with {option}.") from None
    except OSError as error:
        raise MachineError(
            f"{path} cannot be written ({error.strerror or error}). Mend that, or choose another place with {option}."
        ) from None


def write_text(path: Path, text: str, option: str = "-o") -> None:
    """Write UTF-8 text in one piece."""
    with replacing(path, option) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, option: str = "-o") -> None:
    """Write a JSON document in one piece.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", option)
