"""The Human Protein Atlas challenges on Kaggle (2018 and 2021): a number per place in the cell, an image file per colour.

    train.csv                  Id,Target                              ID,Label
                               00070df0-bbc3-11e8-b2bc-ac1f6b6435d0,16 0     5c27f04c-bb99-11e8-b2b9-ac1f6b6435d0,8|5|0
    train/00070df0-..._red.png, ..._green.png, ..._blue.png, ..._yellow.png

Red, green and blue are put together, yellow is left out; the pictures are written beside the manifest. Where one picture per
image is there already, it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from sadcl_core.data.formats.listing import Entry, Listing, images_by_name, read_listing
from sadcl_core.data.formats.source import Source
from sadcl_core.data.formats.unpack import UNPACKED, compose, not_there, unpack_folder
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import filled_lines
from sadcl_core.errors import DataError

SUFFIXES = (".csv",)
COLOURS = ("red", "green", "blue")
ROW = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}),(\d+(?:[ |]\d+)*)", re.IGNORECASE)
PLACES = {  # by the first line of the table
    "id,target": (
        *("Nucleoplasm", "Nuclear membrane", "Nucleoli", "Nucleoli fibrillar center", "Nuclear speckles", "Nuclear bodies"),
        *("Endoplasmic reticulum", "Golgi apparatus", "Peroxisomes", "Endosomes", "Lysosomes", "Intermediate filaments"),
        *("Actin filaments", "Focal adhesion sites", "Microtubules", "Microtubule ends", "Cytokinetic bridge", "Mitotic spindle"),
        *("Microtubule organizing center", "Centrosome", "Lipid droplets", "Plasma membrane", "Cell junctions", "Mitochondria"),
        *("Aggresome", "Cytosol", "Cytoplasmic bodies", "Rods & rings"),
    ),
    "id,label": (
        *("Nucleoplasm", "Nuclear membrane", "Nucleoli", "Nucleoli fibrillar center", "Nuclear speckles", "Nuclear bodies"),
        *("Endoplasmic reticulum", "Golgi apparatus", "Intermediate filaments", "Actin filaments", "Microtubules"),
        *("Mitotic spindle", "Centrosome", "Plasma membrane", "Mitochondria", "Aggresome", "Cytosol"),
        *("Vesicles and punctate cytosolic patterns", "Negative"),
    ),
}


def recognises(path: Path) -> bool:
    """Return True if the rows are an identifier of the atlas and numbers."""
    lines = [line for _, line in islice(filled_lines(path), 2)]
    return len(lines) == 2 and lines[0].lower() in PLACES and ROW.fullmatch(lines[1]) is not None


def read(source: Source) -> Manifest:
    """Read the table and put the colours together.

    Raises:
        DataError: a row is another, or a colour is missing.
    """
    files = images_by_name(source)
    composed = any(name.endswith("_red") for name in files)
    below = replace(source, root=unpack_folder(source)) if composed else source

    def parse(path: Path) -> Listing:
        header, *rows = [line for _, line in filled_lines(path)]
        classes = PLACES.get(header.lower(), ())
        notes = [f"colours put together, in {UNPACKED}/"] if composed else []
        if composed and not source.labels_only:
            every = len(rows)
            rows = [row for row in rows if any(f"{row.partition(',')[0]}_{colour}" in files for colour in COLOURS)]
            notes += not_there(every - len(rows), "listed image")
        return Listing(classes, _entries(path, rows, len(classes)), notes)

    def _entries(path: Path, rows: list[str], count: int) -> Iterator[Entry]:
        for number, row in enumerate(rows, start=2):
            match = ROW.fullmatch(row)
            labels = [] if match is None else [int(label) for label in re.split(r"[ |]", match[2])]
            if match is None or max(labels) >= count:
                raise DataError(f"{path}, row {number}: {row[:80]!r} is not an image and numbers under {count}. Mend the row.")
            image = files.get(match[1], f"{match[1]}.png")
            if composed:
                image = compose(source, match[1], files, COLOURS, lambda picture: np.asarray(picture.convert("L")))
            yield Entry(image, labels)

    return read_listing(below, "hpa", parse, content="a table of the atlas", paths="exact")
