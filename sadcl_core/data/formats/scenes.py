"""One table per scene, as in MLRSNet (Qi et al., ISPRS 2020): all have the same classes, in any order.

Labels/airport.csv                image,airplane,buildings,cars,...
Labels/beach.csv                  image,grass,airplane,water,...
Images/airport/airport_00001.jpg
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.listing import Listing, read_listing
from sadcl_core.data.formats.source import UNASSIGNED, Source, split_of_file
from sadcl_core.data.formats.ucmerced import read_flags
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import IMAGE_COLUMNS, find_column, read_lines
from sadcl_core.errors import DataError

SUFFIXES = ()
FOLDERS = ("Labels", "labels", "annotations", "Annotations", "")


def recognises(folder: Path) -> bool:
    """Return True if there are several tables that are called after no split and have the same classes."""
    return bool(_tables(folder))


def read(source: Source) -> Manifest:
    """Read every table.

    Raises:
        DataError: no tables are found, or a row has another number of flags.
    """
    tables = _tables(source.folder)
    if not tables:
        raise DataError(
            f"{source.folder} has no tables of the same classes, such as Labels/airport.csv. Name the file of labels."
        )

    def parse(path: Path) -> Listing:
        listing = read_flags(path)
        return replace(listing, classes=sorted(listing.classes))

    source = replace(source, parts=tuple((UNASSIGNED, path) for path in tables))
    return read_listing(source, "scenes", parse, content="a table of flags", paths="near")


def _tables(folder: Path) -> list[Path]:
    """Return the tables of the first folder that has several of the same classes."""
    for name in FOLDERS:
        tables = sorted((folder / name).glob("*.csv"))
        headers = [_classes(path) for path in tables]
        no_split = all(split_of_file(path, folder / name) == UNASSIGNED for path in tables)
        if len(tables) > 1 and no_split and headers[0] and all(header == headers[0] for header in headers):
            return tables
    return []


def _classes(path: Path) -> list[str]:
    """Return the classes of a table of flags, sorted; an empty list for another table."""
    try:
        lines = [line.strip().split(",") for _, line in islice(read_lines(path), 2)]
    except DataError:
        return []
    flags = len(lines) == 2 and len(lines[0]) > 2 and all(cell.strip() in ("0", "1", "0.0", "1.0") for cell in lines[1][1:])
    return sorted(cell.strip() for cell in lines[0][1:]) if flags and find_column(lines[0], IMAGE_COLUMNS) == 0 else []
