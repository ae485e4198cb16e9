"""RSNA's haemorrhage challenge: image and class in one cell.

    stage_2_train.csv      ID,Label
                           ID_000012eaf_epidural,0
                           ID_000012eaf_any,1
    stage_2_train/ID_000012eaf.png

The images are DICOM files, which have to be converted first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.formats.source import Source
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import read_lines
from sadcl_core.errors import DataError

SUFFIXES = (".csv",)
HEADER = "id,label"
LOOKED_AT = 100  # rows, all of which have one image and one class in a cell


def recognises(path: Path) -> bool:
    """Return True if rows hold image and class in one cell, and 1 or 0."""
    try:
        header, *rows = [line.strip() for _, line in islice(read_lines(path), LOOKED_AT)]
    except (DataError, ValueError):
        return False
    cells = [row.partition(",") for row in rows if row]
    return header.lower() == HEADER and bool(cells) and all(cell.count("_") > 1 and flag in ("0", "1") for cell, _, flag in cells)


def read(source: Source) -> Manifest:
    """Read one table per split, or one of all.

    Raises:
        DataError: a row is not IMAGE_CLASS,1 or 0.
    """
    return read_listing(source, "rsna", _listing, content="a table of image and class", paths="near")


def _listing(path: Path) -> Listing:
    active: dict[str, list[str]] = {}
    classes: dict[str, None] = {}
    for number, line in islice(read_lines(path), 1, None):
        cell, _, flag = line.strip().partition(",")
        image, _, name = cell.rpartition("_")
        if cell and not (image and name and flag in ("0", "1")):
            raise DataError(f"{path}, row {number}: {line.strip()[:60]!r} is not IMAGE_CLASS,1 or 0. Mend the row.")
        if cell:
            classes[name] = None
            active.setdefault(image, []).extend([name] if flag == "1" else [])
    entries: Iterator[Entry] = (Entry(image, names) for image, names in active.items())
    return Listing([*classes], entries)
