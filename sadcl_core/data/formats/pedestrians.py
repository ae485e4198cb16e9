"""Pedestrian attributes: PA-100K (Liu et al., ICCV 2017) and PETA (Deng et al., ACM MM 2014).

annotation.mat      PA-100K: attributes, {train,val,test}_images_name, {train,val,test}_label;  images in data/
PETA.mat            a row of flags per image, names, partitions;                                images/00001.png
*/archive/Label.txt PETA as its authors give it: `image name of each attribute`                 3DPeS/archive/1_a.bmp
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.formats.matlab import matlab_names, read_matlab
from sadcl_core.data.formats.source import UNASSIGNED
from sadcl_core.data.formats.walk import images_under
from sadcl_core.data.tables import filled_lines
from sadcl_core.errors import DataError

SUFFIXES = (".mat", ".txt")
PARTS = True
DEEPER = ("*/archive/Label.txt",)  # of PETA's sources, each in a folder of its own
SPLITS = ("train", "val", "test")
FLAGS = {"1": "present", "0": "absent"}
FIRST = 4  # columns of PETA's rows that are no attributes


def recognises(path: Path) -> bool:
    """Return True for PETA's list of labels, a MATLAB file with the variables of either, and one that is damaged."""
    if path.suffix.lower() != ".mat":
        return path.name == "Label.txt"
    with path.open("rb") as file:
        if file.read(6) != b"MATLAB":
            return False
    try:
        return not {"attributes", "peta"}.isdisjoint(matlab_names(path))
    except DataError:
        return True  # so that reading it says what is wrong with it


def _listing(path: Path) -> Listing:
    if path.suffix.lower() != ".mat":
        return Listing((), _texts(path))
    variables = read_matlab(path)
    if "attributes" in variables:
        return _pa100k(variables)
    if "peta" in variables:
        return _peta(variables["peta"][0])
    shown = ", ".join(variables)[:100]
    raise DataError(f"{path} holds {shown}, neither PA-100K nor PETA. Save the labels as CSV.")


def _pa100k(variables: Mapping[str, Any]) -> Listing:
    names = _texts_of(variables["attributes"])

    def entries() -> Iterator[Entry]:
        for split in SPLITS:
            images, flags = _texts_of(variables[f"{split}_images_name"]), variables[f"{split}_label"]
            for image, row in zip(images, flags, strict=True):
                yield Entry(image, _active(row, len(names)), split=split)

    return Listing(names, entries(), values=FLAGS)


def _peta(fields: Any) -> Listing:
    """Read rows of flags, names, and the first of five partitions, which papers use."""
    flags, names = np.asarray(fields[0]), _texts_of(fields[1])
    splits = np.full(len(flags), UNASSIGNED, dtype=object)
    if len(fields) > 3 and fields[3]:
        partition = fields[3][0][0]
        for split, numbers in zip(SPLITS, partition[:3], strict=True):
            splits[np.asarray(numbers).ravel().astype(int) - 1] = split
    rows = (
        Entry(f"{number:05d}.png", _active(row[FIRST:], len(names)), split=split)
        for number, (row, split) in enumerate(zip(flags, splits, strict=True), start=1)
    )
    return Listing(names, rows, ["the first of the partitions"] if splits[0] else [], FLAGS)


def _texts_of(cells: Sequence[Any]) -> list[str]:
    """Return the texts in a cell array of MATLAB."""
    return [str(cell[0] if isinstance(cell, list) else cell) for cell in cells]


def _active(row: Sequence[Any], count: int) -> list[int]:
    if len(row) < count or not {0, 1}.issuperset(row[:count]):
        raise ValueError(f"a row has not {count} flags of 1 and 0")
    return [int(k) for k in np.flatnonzero(row[:count])]


def _texts(path: Path) -> Iterator[Entry]:
    """Yield the images of one of PETA's sources: the first word of a line is a person, or an image."""
    images: dict[str, list[str]] = {}
    for image in images_under(path.parent):
        images.setdefault(image.partition("_")[0].rpartition(".")[0] or image.partition("_")[0], []).append(image)
        images.setdefault(image, []).append(image)
    for number, line in filled_lines(path):
        person, *labels = line.split()
        if person not in images:
            raise DataError(f"{path}, row {number}: no image of {person[:60]!r} lies beside it. Unpack all images.")
        for image in images[person]:
            yield Entry(image, labels)


read = partial(read_listing, kind="pedestrians", parse=_listing, content="pedestrian attributes")
