"""Official splits in files beside the labels: a list of images per split, or one file of images and splits.

train_val_list.txt, test_list.txt      00000001_000.png            an image a line, with or without folder and extension
train.txt, val.txt, test.txt           photos/a
list_eval_partition.txt                000001.jpg 0                0, 1, 2 for train, val, test, or their names
split.csv                              filename,split              a table of images, their splits and identifiers alone
splits.json                            {"train": ["a.jpg"]}
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from sadcl_core.data.formats.beside import LIST_OF_SPLITS, kind_beside, table_of_splits
from sadcl_core.data.formats.locate import plain
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
from sadcl_core.data.tables import filled_lines, read_json
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

FOLDERS = ("", "splits", "split", "lists", "Eval", "ImageSets", "ImageSets/Main")  # beside the labels
SUFFIXES = (".txt", ".csv", ".lst", ".list")
PARTITION = "partition"  # in the name of a table of images and splits
JSON = re.compile(r".*(split|partition|fold)s?.*\.json", re.IGNORECASE)
MANY = 100  # files of a folder that is looked at
HEAD = 5  # lines that show what a file is
Place = tuple[str, str]  # image as a list names it, and its split


def with_listed_splits(manifest: Manifest, folders: Iterable[Path], *, divide: bool) -> Manifest:
    """Return a manifest with the splits of lists in the folders of its labels and images, or with a note on unused ones.

    Without lists the folders of the images decide, if each is called after a split, and not all after the same one. Neither is
    used if the person says how to `divide` the images.
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
    return Manifest(replace(description.with_notes(note), source=source), rows)


def _listed_splits(folders: Iterable[Path], images: Sequence[str], labels: set[str]) -> tuple[list[Path], list[set[str]]]:
    """Return the lists that name one of N images at least, and the splits that they name each image for.

    Label files, given by absolute paths, are not among the lists.
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
            ends = [*_ends(_stem(image)), *_ends(plain(_stem(image)))]
            number = next((numbers[end] for end in ends if end in numbers), -1)
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
        lists = sorted(path for path in folder.iterdir() if JSON.fullmatch(path.name) and path.is_file())
    except OSError:
        return []
    if len(files) > MANY:
        return lists
    named = (split_of_file(path, folder) != UNASSIGNED or kind_beside(path) == LIST_OF_SPLITS for path in files)
    return [*compress(files, named), *lists]


def _rows(path: Path) -> list[Place]:
    """Return the images and splits of a list; an empty list for another file."""
    partition = PARTITION in path.stem.lower()
    try:
        if path.suffix.lower() == ".json":
            return _in_json(read_json(path))
        rows = table_of_splits(path) if kind_beside(path) == LIST_OF_SPLITS and not partition else None
        rows = [*_places(path, UNASSIGNED if partition else split_of_file(path, path.parent))] if rows is None else rows
    except DataError:
        return []
    bad = sum(split not in SPLIT_NAMES.values() for _, split in rows)
    return [row for row in rows if row[1] in SPLIT_NAMES.values()] if bad <= 2 else []  # a count and a header may stand above


def _places(path: Path, own: str) -> Iterator[Place]:
    """Yield the images of a list with their splits; raise for a line that holds more."""
    for number, line in filled_lines(path):
        cells = re.split(r"[,;\t ]+", line)
        if not cells[0]:
            continue
        if len(cells) > 2 or (len(cells) == 2 and own and number > HEAD):
            raise DataError(f"{path}, row {number} is not the name of an image. Mend the row.")
        if len(cells) == 2:
            yield cells[0], NUMBERED_SPLITS.get(cells[1], split_name(cells[1]))
        else:
            yield cells[0], own


def _in_json(document: Any) -> list[Place]:
    """Return the images and splits of an object with a list of images by split; an empty list for another document."""
    lists = document.items() if isinstance(document, dict) else ()
    places = [(image, split_name(name)) for name, images in lists if isinstance(images, list) for image in images]
    right = all(isinstance(image, str) and split in SPLIT_NAMES.values() for image, split in places)
    return places if right and all(isinstance(images, list) for _, images in lists) else []


def _numbers(images: Sequence[str]) -> dict[str, int]:
    """Return the number of each image by its path and by its last parts, without the extension, where they are unique.

    Also in the form in which names are compared without regard to case.
    """
    numbers: dict[str, int] = {}
    for stems in ([plain(_stem(image)) for image in images], [_stem(image) for image in images]):
        counts = Counter(end for stem in stems for end in _ends(stem))
        numbers |= {end: number for number, stem in enumerate(stems) for end in _ends(stem) if counts[end] == 1}
    return numbers


def _ends(stem: str) -> Iterator[str]:
    """Yield a path from the whole of it to its name."""
    parts = stem.split("/")
    yield from ("/".join(parts[first:]) for first in range(len(parts)))


def _stem(image: str) -> str:
    """Return the path of an image without its extension."""
    path = PurePosixPath(image.replace("\\", "/").removeprefix("./"))
    return path.with_suffix("").as_posix() if re.fullmatch(r"\.[A-Za-z]{3,4}", path.suffix) else path.as_posix()
