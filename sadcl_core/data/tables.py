"""Text files and tables as people have them: encodings, lines, JSON, YAML, and the usual names of columns.

Label files, files of scores and published result tables are read with these. Text is UTF-8 with or without a byte order mark, or
UTF-16 with one.
"""

from __future__ import annotations

import codecs
import json
import math
import mmap
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from sadcl_core.config.yaml import UnreadableError, parse_yaml
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runtime.files import regular

# usual names of columns and keys, the likeliest first, as `find_column` compares them
IMAGE_COLUMNS = (
    *("image", "image_path", "imagepath", "img_path", "file_name", "filename", "filepath", "file_path", "path", "file"),
    *("img", "image_name", "imagename", "image_file", "photo", "picture", "image_id", "imageid", "img_id", "name", "id"),
)
LABEL_COLUMNS = (
    *("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "targets", "target", "keywords"),
    *("attributes", "labelname", "label_name"),
)

MAX_LINE = 1 << 20  # characters; a longer line is not a list of labels
EXCEL = re.compile(r"sep=.\s*", re.IGNORECASE)  # its own first line of a CSV
MAX_YAML = 1 << 20  # bytes
ENCODING: ContextVar[str] = ContextVar("encoding", default="utf-8")  # of texts without a mark
DECIMAL: ContextVar[str] = ContextVar("decimal", default=".")  # mark of numbers in cells
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
BYTES = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # of a text behind its mark


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Turn every error while a file is parsed into one sentence about that file.

    Raises:
        DataError: the file cannot be opened, or is not what `kind` says.
    """
    try:
        with suppress(IsADirectoryError):
            regular(path)
        yield
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Check the path, or unpack all label files.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}). Check the path and its permissions.") from None
    except UnicodeDecodeError as error:
        kind = "UTF-16" if "16" in error.encoding else "UTF-8"
        byte = f"{error.object[error.start]:#04x}"
        raise DataError(f"{path} is not {kind} text (byte {byte}). Save it as UTF-8, or name its --encoding: cp1252.") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RuntimeError, MemoryError) as error:
        message = str(error)[:200].rstrip(".")
        raise DataError(f"{path} cannot be read as {kind} ({type(error).__name__}: {message}). Mend or replace it.") from None


def detect_encoding(path: Path) -> str:
    """Return the encoding that the byte order mark of a file names; without a mark the one of `read_as`, or UTF-8."""
    with path.open("rb") as file:
        return _encoding_of(file.read(4))


def _encoding_of(start: bytes) -> str:
    return next((name for mark, name in MARKS.items() if start.startswith(mark)), ENCODING.get())


def decoded(content: bytes) -> str:
    """Return the text of a small file, by its byte order mark, or else in the encoding of `read_as`, or UTF-8."""
    return content.decode(_encoding_of(content[:4]))


@contextmanager
def read_as(encoding: str, *, decimal: str = ".") -> Iterator[None]:
    """Read texts without a byte order mark in an encoding, UTF-8 when empty, and numbers with another decimal mark.

    Raises:
        UsageError: no encoding has this name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.txt"
        >>> _ = path.write_bytes("Bär".encode("cp1252"))
        >>> with read_as("cp1252"):
        ...     list(read_lines(path))
        [(1, 'Bär')]
    """
    try:
        name = codecs.lookup(encoding or "utf-8").name
        "".encode(name)
    except (LookupError, ValueError):  # also of what encodes no text, and of names that are no text
        raise UsageError(f"There is no encoding called {encoding!r}. Write one such as cp1252 or latin-1.") from None
    tokens = ENCODING.set(name), DECIMAL.set(decimal)
    try:
        yield
    finally:
        ENCODING.reset(tokens[0])
        DECIMAL.reset(tokens[1])


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file with their numbers, counted from 1; line ends are kept.

    The first line `sep=;`, which Excel writes, is left out.

    Raises:
        DataError: the file cannot be opened, is not text, or has a line that is far too long.
    """
    number = 0
    with readable(path, "text"), path.open("rb") as content:
        file = TextIOWrapper(content, _encoding_of(content.peek(4)), newline="")
        while line := file.readline(MAX_LINE):
            number += 1
            if number == 1 and EXCEL.fullmatch(line):
                continue
            if len(line) >= MAX_LINE and not line.endswith("\n"):
                raise DataError(f"{path}, row {number} has more than {MAX_LINE:,} characters. Is this a file of labels?")
            if "\0" in line:
                raise DataError(f"{path}, row {number} holds NUL bytes, so it is UTF-16 or not text. Save it as UTF-8.")
            yield number, line


def filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, as `read_lines` does, without spaces at their ends."""
    return ((number, text) for number, line in read_lines(path) if (text := line.strip()))


def first_line(path: Path) -> str:
    """Return the first line that is not blank, without spaces at its ends; an empty text if all are."""
    return next(filled_lines(path), (0, ""))[1]


def read_json(path: Path) -> Any:
    """Read a JSON document.

    Raises:
        DataError: the file cannot be opened or is not JSON.
    """
    with readable(path, "JSON"):
        encoding = detect_encoding(path)
        with path.open(encoding=encoding) as file:
            start = file.read(MAX_LINE)  # before all of what may be large
            text = start if "\0" in start else start + file.read()
        if not text.strip():
            raise DataError(f"{path} is empty. Export or fetch it again.")
        if "\0" in text[:MAX_LINE]:
            raise DataError(f"{path} holds NUL bytes, so it is UTF-16 or not text. Save it as UTF-8.")
        return json.loads(text)


def json_line(line: str, path: Path, number: int) -> Any:
    """Return the value of a line of JSON.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, row {number} is not JSON ({str(error)[:100]}). Mend the line.") from None


def read_yaml(path: Path) -> Any:
    """Read a small YAML document whose values are texts, lists and mappings.

    Raises:
        DataError: the file cannot be opened, is not YAML, has aliases, or is too large to be a description.
    """
    with readable(path, "YAML"):
        if path.stat().st_size > MAX_YAML:
            raise DataError(f"{path} has more than {MAX_YAML:,} bytes. Is this a description of a data set?")
        try:
            return parse_yaml(path.read_text(encoding=detect_encoding(path)), only_text=True, max_values=MAX_YAML)
        except UnreadableError as error:
            raise ValueError(str(error)) from None


def mentions(path: Path, *words: str) -> bool:
    """Return True if a file holds each word as a JSON string; it is searched, not parsed. False if it cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            encoding = BYTES.get(content[:2], "utf-8")
            if encoding == "utf-8" and b"\0" in content[:MAX_LINE]:  # no text, and perhaps without end
                return False
            return all(content.find(f'"{word}"'.encode(encoding)) >= 0 for word in words)
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def read_classes(path: Path) -> tuple[str, ...]:
    """Read class names, one per line, in their order; blank lines are left out.

    Raises:
        DataError: the file cannot be opened, or names no class.
    """
    names = tuple(line for _, line in filled_lines(path))
    if not names:
        raise DataError(f"{path} names no class. Write one name per line.")
    return names


def number_of(text: str) -> float | None:
    """Return the finite number that a text is, with the decimal mark of `read_as`; None for another text."""
    if text[:1].isalpha() or text[:1] == "[":  # as most texts that are none begin
        return None
    with suppress(ValueError):
        number = float(text.replace(DECIMAL.get(), "."))
        return number if math.isfinite(number) else None
    return None


def find_column(header: Sequence[str], names: Sequence[str]) -> int | None:
    """Return the number of the column whose name comes first in `names`; None if there is none.

    Case and spaces at the ends do not count, and a space within is an underscore.

    Example:
        >>> find_column(["id", "File Name", "labels"], IMAGE_COLUMNS)
        1
    """
    words = [column_word(str(name)) for name in header]
    return next((words.index(name) for name in names if name in words), None)


def column_word(name: str) -> str:
    """Return a column's name as `find_column` compares it."""
    return name.strip().lower().replace(" ", "_")


def looks_like_image(cell: Any) -> bool:
    """Return True if a cell is a text that ends as the paths of images do.

    Example:
        >>> looks_like_image("photos/A.JPG"), looks_like_image("cat")
        (True, False)
    """
    return isinstance(cell, str) and cell.strip().lower().endswith(EXTENSIONS)


def cell_at(row: Sequence[Any], k: int) -> Any:
    """Return cell k of a row; blank where the row is too short."""
    return row[k] if k < len(row) else ""


def is_filled(cell: Any) -> bool:
    """Return True unless a cell is missing, or a blank text."""
    return cell is not None and (not isinstance(cell, str) or bool(cell.strip()))


def cell_text(cell: Any) -> str:
    """Return a cell as text without spaces at its ends; blank where it is missing."""
    return "" if cell is None else str(cell).strip()
