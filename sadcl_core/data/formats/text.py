"""Text files as people have them: UTF-8 with or without a mark, UTF-16 with one, and nothing that is no text."""

from __future__ import annotations

import codecs
import json
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sadcl_core.errors import DataError

MAX_LINE = 1 << 20  # characters; a longer line is no list of labels
EXCEL = re.compile(r"sep=.\s*", re.IGNORECASE)  # its own first line of a CSV
MAX_YAML = 1 << 20  # bytes
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
BYTES = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # of a text behind its mark


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file is taken apart into one sentence about that file.

    Raises:
        DataError: the file cannot be opened, or is not what `kind` says.
    """
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Check the path, or unpack all label files.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}). Check the path and its permissions.") from None
    except UnicodeDecodeError as error:
        kind = "UTF-16" if "16" in error.encoding else "UTF-8"
        raise DataError(f"{path} is not {kind} text (byte {error.object[error.start]:#04x}). Save it as UTF-8.") from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RuntimeError, MemoryError) as error:
        said = str(error)[:200].rstrip(".")
        raise DataError(f"{path} cannot be read as {kind} ({type(error).__name__}: {said}). Mend or replace it.") from None


def encoding_of(path: Path) -> str:
    """By the mark at its beginning; UTF-8 without one."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file and their numbers, counted from 1; line ends are kept.

    Raises:
        DataError: the file cannot be opened, is no text, or has a line that is none.
    """
    number = 0
    with readable(path, "text"), path.open(encoding=encoding_of(path), newline="") as file:
        while line := file.readline(MAX_LINE):
            number += 1
            if number == 1 and EXCEL.fullmatch(line):
                continue
            if len(line) >= MAX_LINE and not line.endswith("\n"):
                raise DataError(f"{path}, row {number} has more than {MAX_LINE:,} characters. Is this a file of labels?")
            if "\0" in line:
                raise DataError(f"{path}, row {number} holds NUL bytes, so it is no text or UTF-16. Save it as UTF-8.")
            yield number, line


def read_json(path: Path) -> Any:
    """A JSON document.

    Raises:
        DataError: the file cannot be opened or is no JSON.
    """
    with readable(path, "JSON"):
        text = path.read_text(encoding=encoding_of(path))
        if not text.strip():
            raise DataError(f"{path} is empty. Export or fetch it again.")
        if "\0" in text[:MAX_LINE]:
            raise DataError(f"{path} holds NUL bytes, so it is no text or UTF-16. Save it as UTF-8.")
        return json.loads(text)


class _Plain(yaml.BaseLoader):
    """YAML whose values all stay the texts that they are: `no` is a class name. No aliases, which can multiply without end."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, unless it stands for another one."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name), which a description of a data set never needs")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def read_yaml(path: Path) -> Any:
    """A small YAML document; every value in it is a text, a list or an object.

    Raises:
        DataError: the file cannot be opened, is no YAML, has aliases, or is too large to be a description.
    """
    with readable(path, "YAML"):
        if path.stat().st_size > MAX_YAML:
            raise DataError(f"{path} has more than {MAX_YAML:,} bytes. Is this a description of a data set?")
        try:
            return yaml.load(path.read_text(encoding=encoding_of(path)), Loader=_Plain)
        except yaml.YAMLError as error:
            raise ValueError(str(error).replace("\n", " ")) from None


def mentions(path: Path, *words: str) -> bool:
    """Whether a file holds every one of some words as JSON strings, seen without parsing it; False when it cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            encoding = BYTES.get(content[:2], "utf-8")
            return all(content.find(f'"{word}"'.encode(encoding)) >= 0 for word in words)
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one per line, in their order; blank lines are left out.

    Raises:
        DataError: the file cannot be opened, or names none.
    """
    names = tuple(line.strip() for _, line in read_lines(path) if line.strip())
    if not names:
        raise DataError(f"{path} names no class. Write one name per line.")
    return names
