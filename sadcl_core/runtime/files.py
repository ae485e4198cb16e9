"""Write files that appear whole or not at all, read none but regular ones, and make names and cells of what strangers wrote.

A file is written in a hidden folder beside its place and then renamed. What a process that was killed left there is removed by
the next one that writes beside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from filelock import BaseFileLock, FileLock, Timeout

from sadcl_core.errors import DataError, MachineError, UsageError

LONGEST = 100  # bytes of a name that comes from a file, so that there is room for what is put before and behind it
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # begins a cell that a spreadsheet computes
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
NO_UTF8 = re.compile("[\ud800-\udfff]")  # in a path, which Arrow then cannot open
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # a terminal, or how a text is read
LOCK = "lock"  # in a temporary folder, of the process that writes there


def safe_name(text: str, *, otherwise: str = "data") -> str:
    """Return a text as one part of a path: without separators and spaces, not hidden, not too long, never empty.

    Names of data sets, splits and classes come from files of strangers, and `../..` is a name as any other. Where nothing is left
    of a text, the name is `otherwise`.

    Example:
        >>> safe_name("My photos / 2024"), safe_name("../.."), safe_name("a" * 300)[-12:]
        ('My-photos-2024', 'data', 'aaa-9835fa6b')
    """
    name = re.sub(r"[^\w.-]+", "-", text).strip("-.")
    if len(name.encode()) > LONGEST:  # cut, and still another one than other long names
        cut = name.encode()[: LONGEST - 9].decode(errors="ignore").rstrip("-.")
        name = f"{cut}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name or otherwise


def regular(path: Path, *, most: int | None = None) -> Path:
    """Return a path that is, or leads to, a regular file of so many bytes at most: a pipe may never begin, a device never ends.

    Raises:
        FileNotFoundError: there is nothing.
        IsADirectoryError: it is a folder.
        OSError: it is a pipe, a socket or a device, a link that leads round in circles, or larger.

    Example:
        >>> regular(Path("/dev/null"))
        Traceback (most recent call last):
        OSError: [Errno 22] it is a pipe, a socket or a device and no file: '/dev/null'
    """
    about = path.stat()
    mode = about.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device and no file", str(path))
    if most is not None and about.st_size > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return path


def weights_file(path: Path) -> Path:
    """Return the path of weights of another program, where there is a regular file.

    Raises:
        DataError: there is none.

    Example:
        >>> weights_file(Path("none.pth"))
        Traceback (most recent call last):
        sadcl_core.errors.DataError: There is no weights file none.pth. Check the path.
    """
    if not path.is_file():
        raise DataError(f"There is no weights file {path}. Check the path.")
    return path


def exists(path: str | Path) -> bool:
    """Return True if something is at a path; False also for a name that is too long, and in a folder that cannot be read.

    Example:
        >>> exists("."), exists("x" * 999)
        (True, False)
    """
    return os.path.exists(path)  # noqa: PTH110 # pathlib raises


def from_home(path: str) -> Path:
    """Return a path in which ~ is the home folder; ~name of a user whom nobody knows stays as it is, as in a shell.

    Example:
        >>> from_home("~nobody-knows-me/words.txt").as_posix()
        '~nobody-knows-me/words.txt'
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 # pathlib raises


def plain_path(text: str) -> str:
    """Return a path from a label file as one that stays below a folder.

    Example:
        >>> plain_path("../photos//a.jpg")
        'photos/a.jpg'
    """
    parts = PurePosixPath(text.replace("\\", "/").replace("\0", "")).parts
    return "/".join(part for part in parts if part not in ("..", ".", "/"))


def visible(text: str) -> str:
    r"""Return a text with control characters by their numbers, and those that turn the direction of writing; line breaks stay.

    Example:
        >>> visible("\u202egnp.exe\x1b[2J")
        '\\x202egnp.exe\\x1b[2J'
    """
    return STEERING.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def to_cell(text: str) -> str:
    """Return a text as a cell of a table that no spreadsheet computes; `from_cell` returns the text again.

    Example:
        >>> to_cell("=1+1"), from_cell("'=1+1"), to_cell("cat"), from_cell(to_cell("'-")) == "'-"
        ("'=1+1", '=1+1', 'cat', True)
    """
    return f"'{text}" if FORMULA.match(text) else text


def from_cell(text: str) -> str:
    """Return the text that `to_cell` made a cell of."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


@contextmanager
def replacing(path: Path, option: str = "-o", *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to, which is renamed to `path` after the block, or removed if the block raises.

    Nothing else is in its folder, so that a library may write there under a name of its own first. `durable`: put the content on
    the disk before the name, so that a power cut leaves the old file or the new one.

    Raises:
        SadclError: see `explained`.
    """
    with explained(path, option):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left(path.parent)
        lock = _work_folder(path)
    work = Path(lock.lock_file).parent
    temporary = work / path.name
    try:
        with explained(path, option):
            yield temporary
            if durable:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()


def _work_folder(path: Path) -> BaseFileLock:
    """Return the held lock in a new hidden folder beside a path."""
    while True:
        work = path.with_name(f".{safe_name(path.name)}.{uuid4().hex[:12]}.tmp")
        work.mkdir()
        lock = FileLock(work / LOCK)
        with suppress(Timeout):
            lock.acquire(timeout=0)
            if (work / LOCK).exists():  # and was not taken for left over before the lock was held
                return lock


@cache
def remove_left(folder: Path) -> None:
    """Remove half-written files of ended processes from a folder; each process looks once."""
    for work in [path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name) and path.is_dir()]:
        with suppress(Timeout, OSError), FileLock(work / LOCK, timeout=0):  # held by the process that writes there
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def explained(path: Path, option: str = "-o") -> Iterator[None]:
    """Raise an error of one sentence if something in `path`, or `path` itself, cannot be written; `option` chooses another place.

    Raises:
        UsageError: the place cannot be written to.
        MachineError: writing failed half-way, such as on a full disk.
    """
    try:
        yield
    except UnicodeEncodeError:
        if not NO_UTF8.search(str(path)):
            raise
        raise UsageError(f"{path} cannot be written (its name is no UTF-8). Choose another place with {option}.") from None
    except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        where = error.filename2 or error.filename or path  # filename2: the target of a renaming
        where = path if any(map(TEMPORARY.fullmatch, Path(os.fsdecode(where)).parts)) else where
        raise UsageError(f"{where} cannot be written ({error.strerror}). Choose another place with {option}.") from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise UsageError(f"{str(path)[:200]} cannot be written ({error.strerror}). Give a shorter {option}.") from None
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
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    text = text.encode("utf-8", "backslashreplace").decode()  # of a path that is no UTF-8: the same escapes as JSON's
    write_text(path, f"{text}\n", option)
