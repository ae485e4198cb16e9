"""Files that appear whole or not at all: written beside their place under a temporary name, then renamed."""

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
    """Yield a temporary path to write to; it takes the name `path` when the block ends well, and is removed when it does not.

    Args:
        path: where the file is to be.
        option: with which a person chooses another place.
        durable: see to it that the content is on the disk before the name is, so that a power cut leaves the old file or the new.

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
    """Say in one sentence why something in `path`, or `path` itself, could not be written.

    Args:
        path: what is written.
        option: with which a person chooses another place.

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
    """Write a JSON document in one piece; NaN is refused, as JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", option)
