"""TIFF files of as many bands and bits as satellites have, which Pillow cannot write."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt


def write_bands(path: Path, values: npt.NDArray[np.uint16]) -> Path:
    """Write an uncompressed TIFF of values (height, width, bands)."""
    height, width, bands = values.shape
    data = values.astype("<u2").tobytes()
    extra = max(bands - 3, 0)
    bits_at, extra_at = 8 + len(data), 8 + len(data) + 2 * bands
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, bits_at), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8)),
        *((277, 3, 1, bands), (278, 4, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1)),
        *([(338, 3, extra, 0 if extra < 3 else extra_at)] if extra else []),
    ]
    end = extra_at + 2 * extra
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    header = struct.pack("<2sHI", b"II", 42, end)
    path.write_bytes(header + data + struct.pack(f"<{bands}H", *[16] * bands) + b"\0\0" * extra + directory)
    return path
