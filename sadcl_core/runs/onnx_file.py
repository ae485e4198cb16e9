"""The metadata of an ONNX file, read without the packages of ONNX and without the network in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from sadcl_core.errors import DataError
from sadcl_core.runtime.files import regular

SUFFIX = ".onnx"
METADATA = 14  # number of the field in the protocol buffer of a model; an entry has a key, 1, and a value, 2
NUMBER, BYTES = 0, 2  # how a field is written


def is_onnx(path: Path) -> bool:
    """Return True for the name of an ONNX file."""
    return path.suffix.lower() == SUFFIX


def read_metadata(path: Path) -> dict[str, str]:
    """Return the entries of `metadata_props`.

    Raises:
        DataError: the file is missing, or is not an ONNX file.
    """
    advice = "Give a file that sadcl export onnx wrote."
    try:
        with regular(path).open("rb") as file:
            return _entries(file, os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise DataError(f"There is no model file {path}. {advice}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a whole ONNX file ({error}). {advice}") from None


def _entries(file: BinaryIO, end: int) -> dict[str, str]:
    metadata = {}
    while file.tell() < end:
        field, length = _next_field(file, end)
        if field == METADATA:
            entry, pair = file.tell() + length, {1: "", 2: ""}
            while file.tell() < entry:
                part, size = _next_field(file, entry)
                pair[part] = file.read(size).decode()
            metadata[pair[1]] = pair[2]
        else:
            file.seek(length, os.SEEK_CUR)
    return metadata


def _next_field(file: BinaryIO, end: int) -> tuple[int, int]:
    """Return the number of the next field and the length of its content, which the file then stands before; of a number 0."""
    tag = _number(file)
    field, kind = tag >> 3, tag & 7
    length = _number(file)
    if not field or kind not in (NUMBER, BYTES):
        raise ValueError(f"a field of kind {kind}")
    if kind == NUMBER:
        return field, 0
    if file.tell() + length > end:
        raise ValueError("its end is missing")
    return field, length


def _number(file: BinaryIO) -> int:
    """Read a number: 7 bits a byte, the lowest first; all bytes but the last have the highest bit set."""
    value = 0
    for place in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("its end is missing")
        value |= (byte[0] & 127) << place
        if byte[0] < 128:
            return value
    raise ValueError("a number of more than 64 bits")
