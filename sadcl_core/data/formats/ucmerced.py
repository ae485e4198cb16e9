r"""Aerial scenes with several labels: UC Merced (Chaudhuri et al., TGRS 2018), AID and DFC15 (Hua et al.): a table of flags.

    multilabels.txt                   IMAGE\LABEL	airplane	bare-soil ...
                                      agricultural00	0	1 ...
    Images/agricultural/agricultural00.tif

Images lie in a folder per scene and are named without folder and extension.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.tables import filled_lines, first_line
from sadcl_core.errors import DataError

SUFFIXES = (".txt", ".csv", ".tsv")
FIRST = "image\\label"


def recognises(path: Path) -> bool:
    """Return True if the header begins as in the format."""
    return first_line(path).lower().lstrip('"').startswith(FIRST)


def read_flags(path: Path) -> Listing:
    """Read a table of 1 and 0 with an image in the first column, and the classes in the header."""
    lines = (line for _, line in filled_lines(path))
    header = next(lines, "")
    delimiter = next((mark for mark in ("\t", ",", ";") if mark in header), " ")
    _, *classes = (cell.strip() for cell in next(csv.reader([header], delimiter=delimiter)))

    def entries() -> Iterator[Entry]:
        for number, row in enumerate(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), start=1):
            image, *flags = (cell.strip() for cell in row)
            if len(flags) != len(classes) or not set(flags) <= {"0", "1", "0.0", "1.0"}:
                raise DataError(f"{path}, image {number}: {image[:60]} has not {len(classes)} flags of 1 and 0. Mend the row.")
            yield Entry(image, [label for label, flag in zip(classes, flags, strict=True) if flag.startswith("1")])

    return Listing(classes, entries(), values={"1": "present", "0": "absent"})


read = partial(read_listing, kind="ucmerced", parse=read_flags, content="a table of flags", paths="near")
