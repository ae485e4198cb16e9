"""TIFF and PNG files of as many bands and bits as satellites have, which Pillow cannot write."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt


def write_bands(
    path: Path,
    values: npt.NDArray[np.uint16],
    *,
    photometric: int = 2,
    planar: int = 1,
    orientation: int = 1,
    floating: bool = False,
) -> Path:
    """Write an uncompressed TIFF of values (height, width, bands); in separate planes if `planar` is 2."""
    height, width, bands = values.shape
    planes = [values] if planar == 1 else np.moveaxis(values, 2, 0)
    parts = [plane.astype("<u2").tobytes() for plane in planes]
    content, tags = struct.pack("<2sHI", b"II", 42, 8 + sum(map(len, parts))) + b"".join(parts), []
    starts, sizes = [8 + k * len(parts[0]) for k in range(len(parts))], [len(part) for part in parts]
    extra = max(bands - (3 if photometric == 2 else 1), 0)
    entries = [
        *((256, "I", [width]), (257, "I", [height]), (258, "H", [16] * bands), (259, "H", [1]), (262, "H", [photometric])),
        *((273, "I", starts), (274, "H", [orientation]), (277, "H", [bands]), (278, "I", [height]), (279, "I", sizes)),
        *((284, "H", [planar]), (338, "H", [0] * extra), (339, "H", [3] * bands if floating else [])),
    ]
    directory_at = len(content)
    entries = [entry for entry in entries if entry[2]]
    beside_at, beside = directory_at + 2 + 12 * len(entries) + 4, b""
    for tag, letter, numbers in entries:
        packed = struct.pack(f"<{len(numbers)}{letter}", *numbers)
        where = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", beside_at + len(beside))
        beside += packed if len(packed) > 4 else b""
        tags.append(struct.pack("<HHI", tag, 3 if letter == "H" else 4, len(numbers)) + where)
    path.write_bytes(content + struct.pack("<H", len(tags)) + b"".join(tags) + struct.pack("<I", 0) + beside)
    return path


def write_png(path: Path, values: npt.NDArray[np.uint16]) -> Path:
    """Write a PNG of colours of 16 bits (height, width, 3)."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path
