"""Official splits in files beside the labels: a list of images per split, or one table of images and splits.

train_val_list.txt, test_list.txt      00000001_000.png            an image a line, with or without folder and extension
train.txt, val.txt, test.txt           photos/a
list_eval_partition.txt                000001.jpg 0                0, 1, 2 for train, val, test, or their names
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pyarrow as pa

from sadcl_core.data.formats.source import (
    NUMBERED_SPLITS,
    SPLIT_NAMES,
    UNASSIGNED,
    describe_source,
    split_name,
    split_of_file,
    split_of_folders,
)
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.rows import SCHEMA
from sadcl_core.data.tables import read_lines
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

FOLDERS = ("", "splits", "split", "lists", "Eval")  # beside the labels
SUFFIXES = (".txt", ".csv", ".lst", ".list")
PARTITION = "partition"  # in the name of a table of images and splits
MANY = 100  # files of a folder that is looked at
HEAD = 5  # lines that show what a file is
Place = tuple[str, str]  # image as a list names it, and its split


def with_listed_splits(manifest: Manifest, folders: Iterable[Path], *, divide: bool) -> Manifest:
    """Return a manifest with the splits of lists in the folders of its labels and images, or with a note on unused ones.

    Without such lists the folders of the images decide where each is called after a split, and not all after the same one.

    They are not used where the person says how to `divide` the images.
    """
    description, images = manifest.description, manifest.rows["image"].to_pylist()
    lists, splits = _listed_splits(folders, images, set(description.source["files"]))
    names = ", ".join(path.name for path in lists)
    if not lists:
        splits = [{split_of_folders(image)} - {UNASSIGNED} for image in images]
        names = "the names of the folders of images"
        if manifest.splits != [UNASSIGNED] or _why_unused(splits):
            return manifest
    reason = _why_unused(splits) or ("--split divides the images" if divide else "")
    if manifest.splits != [UNASSIGNED]:
        reason = "the labels have splits of their own"
    rows = manifest.rows
    if not reason:
        column = pa.array([own.pop() for own in splits]).dictionary_encode()
        rows = rows.set_column(SCHEMA.get_field_index("split"), SCHEMA.field("split"), column)
    note = f"splits from {names}" if not reason else f"{names} not used: {reason}"
    files = describe_source("", lists)["files"]
    source = {**description.source, "files": {**description.source["files"], **files}}
    return Manifest(replace(description, notes=(*description.notes, note), source=source), rows)


def _listed_splits(folders: Iterable[Path], images: Sequence[str], labels: set[str]) -> tuple[list[Path], list[set[str]]]:
    """Return the lists that name one of N images at least, and the splits that they name each image for.

    Files of labels, given by absolute paths, are no lists.
    """
    places = dict.fromkeys(folder / name for folder in folders for name in FOLDERS)
    files = (path for folder in places for path in _files(folder) if str(path.resolve()) not in labels)
    lists = {path: rows for path in files if (rows := _rows(path))}
    stems = {path.stem.lower() for path in lists}
    unions = {"trainval"} if {"train", "val"} <= stems else set()  # of lists that are there themselves
    numbers = _numbers(images) if lists else {}
    splits: list[set[str]] = [set() for _ in images]
    used: dict[Path, None] = {}
    for path, rows in lists.items():
        for image, split in rows if path.stem.lower() not in unions else ():
            number = next((numbers[end] for end in _ends(image) if end in numbers), -1)
            if number >= 0:
                splits[number].add(split)
                used[path] = None
    return list(used), splits


def _why_unused(splits: Sequence[set[str]]) -> str:
    """Return why the listed splits of images are not used; empty if each image has one, and there are several."""
    several, lacking = sum(len(own) > 1 for own in splits), sum(not own for own in splits)
    if several:
        return f"they name {counted(several, 'image')} for several splits"
    if lacking:
        return f"they do not name {lacking:,} of the {len(splits):,} images"
    return "they name one split only" if len({split for own in splits for split in own}) < 2 else ""


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder that may be lists."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError:
        return []
    named = [path for path in files if split_of_file(path, folder) != UNASSIGNED or PARTITION in path.stem.lower()]
    return named if len(files) <= MANY else []


def _rows(path: Path) -> list[Place]:
    """Return the images and splits of a list; none if it is something else."""
    own = UNASSIGNED if PARTITION in path.stem.lower() else split_of_file(path, path.parent)
    try:
        rows = [*_places(path, own)]
    except DataError:
        return []
    bad = sum(split not in SPLIT_NAMES.values() for _, split in rows)
    return [row for row in rows if row[1] in SPLIT_NAMES.values()] if bad <= 2 else []  # a count and a header may stand above


def _places(path: Path, own: str) -> Iterator[Place]:
    """Yield the images of a list; raises where a line holds more than a list does."""
    for number, line in read_lines(path):
        cells = re.split(r"[,;\t ]+", line.strip())
        if not cells[0]:
            continue
        if len(cells) > 2 or (len(cells) == 2 and own and number > HEAD):
            raise DataError(f"{path}, row {number} is not the name of an image. Mend the row.")
        if len(cells) == 2:
            yield cells[0], NUMBERED_SPLITS.get(cells[1], split_name(cells[1]))
        else:
            yield cells[0], own


def _numbers(images: Sequence[str]) -> dict[str, int]:
    """Return the number of each image by its path and by its last parts, without the extension, where they are unique."""
    plain = [_plain(image) for image in images]
    counts = Counter(end for image in plain for end in _ends(image))
    return {end: number for number, image in enumerate(plain) for end in _ends(image) if counts[end] == 1}


def _ends(image: str) -> Iterator[str]:
    """Yield an image's path without extension, from the whole of it to its name."""
    parts = _plain(image).split("/")
    yield from ("/".join(parts[first:]) for first in range(len(parts)))


def _plain(image: str) -> str:
    path = PurePosixPath(image.replace("\\", "/").removeprefix("./"))
    return path.with_suffix("").as_posix() if re.fullmatch(r"\.[A-Za-z]{3,4}", path.suffix) else path.as_posix()
