"""CelebA (Liu et al., ICCV 2015) and CelebA-HQ, as their authors or Kaggle give them: 1 is present, -1 is absent.

list_attr_celeba.txt       202599                                list_attr_celeba.csv
                           5_o_Clock_Shadow Arched_Eyebrows ...
                           000001.jpg -1  1 ...
list_eval_partition.txt    000001.jpg 0                          0 train, 1 val, 2 test; beside it, or in Eval/ beside Anno/
img_align_celeba/000001.jpg

A text of another name is read where it is written in the same way: a count, the names, and as many flags behind each image.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.formats.source import NUMBERED_SPLITS, UNASSIGNED
from sadcl_core.data.tables import filled_lines
from sadcl_core.errors import DataError

SUFFIXES = (".txt", ".csv")
NAME = "list_attr_celeba"
PARTITION = "list_eval_partition"
FLAGS = {"1": "present", "-1": "absent"}


def recognises(path: Path) -> bool:
    """Return True if a file is called as CelebA's and holds 1 and -1, or is a text in its form."""
    if path.stem == NAME:
        return "0" not in next(islice(_rows(path), 2, 3), [])[1:]  # as some rewrite it, which other tables are as well
    count, names, row = [*(rows := [*islice(_rows(path), 3)]), *[[""]] * (3 - len(rows))]
    if names[:1] == ["image_name"]:  # DeepFashion's lists have a header instead of names
        return False
    return len(count) == 1 and count[0].isdecimal() and len(row) == len(names) + 1 and set(row[1:]) <= set(FLAGS)


def _listing(path: Path) -> Listing:
    rows = _rows(path)
    first = next(rows, [])
    names = next(rows, []) if len(first) == 1 and first[0].isdecimal() else first[1:]  # of the text, of the CSV
    beside = [folder / f"{PARTITION}{suffix}" for folder in (path.parent, path.parent.parent / "Eval") for suffix in SUFFIXES]
    partition = next((file for file in beside if file.is_file()), None)
    splits = {} if partition is None else {row[0]: row[-1] for row in _rows(partition)}
    notes = [] if partition is None else [f"splits from {partition.name}"]
    return Listing(names, _entries(path, rows, len(names), splits), notes, FLAGS, [] if partition is None else [partition])


def _rows(path: Path) -> Iterator[list[str]]:
    return (line.replace(",", " ").split() for _, line in filled_lines(path))


def _entries(path: Path, rows: Iterator[list[str]], count: int, splits: dict[str, str]) -> Iterator[Entry]:
    for number, (image, *cells) in enumerate(rows, start=1):
        if len(cells) != count or not set(cells) <= set(FLAGS):
            raise DataError(f"{path}, image {number}: {image[:60]} has not {count} attributes of 1 and -1. Fetch it again.")
        split = NUMBERED_SPLITS.get(splits.get(image, ""), UNASSIGNED)
        if splits and not split:
            raise DataError(f"{path}, image {number}: {image[:60]} is in no part of {PARTITION}. Fetch both again.")
        yield Entry(image, [k for k, cell in enumerate(cells) if cell == "1"], split=split)


read = partial(read_listing, kind="celeba", parse=_listing, content="CelebA's attributes", paths="near")
