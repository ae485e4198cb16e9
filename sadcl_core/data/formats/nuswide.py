r"""NUS-WIDE (Chua et al., CIVR 2009), with either layout of its labels.

    ImageList/{Train,Test}Imagelist.txt          actor\0001_2124494179.jpg
    Groundtruth/Labels_{Train,Test}.txt          a row of 81 times 0 or 1 per image
    TrainTestLabels/Labels_CLASS_{Train,Test}.txt  or a file per class, 0 or 1 per image
    ImageList/Imagelist.txt, AllLabels/Labels_CLASS.txt  of all images, where there are no lists of splits
    Flickr/actor/0001_2124494179.jpg             (or images/, with or without the folder of the list)

Many of its images are gone from the network: those that are not on the disk are left out and counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.source import UNASSIGNED, Source
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import filled_lines, readable
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

SUFFIXES = ()
SPLITS = {"train": "Train", "test": "Test"}
WHOLE = {UNASSIGNED: ""}  # where there are no lists of splits
FOLDERS = ("Flickr", "images", "Images", "")
_NAMES = """
airport animal beach bear birds boats book bridge buildings cars castle cat cityscape clouds computer coral cow
dancing dog earthquake elk fire fish flags flowers food fox frost garden glacier grass harbor horses house lake leaf
map military moon mountain nighttime ocean person plane plants police protest railroad rainbow reflection road rocks
running sand sign sky snow soccer sports statue street sun sunset surf swimmers tattoo temple tiger tower town toy
train tree valley vehicle water waterfall wedding whales window zebra
"""
CLASSES = tuple(_NAMES.split())
NEEDED = (
    "It needs ImageList/TrainImagelist.txt and TestImagelist.txt, Groundtruth/Labels_Train.txt and Labels_Test.txt (or "
    "TrainTestLabels/Labels_CLASS_Train.txt ...), and the photos in Flickr/"
)


def recognises(folder: Path) -> bool:
    """Return True if the lists of images are there."""
    return any(_list_file(folder, word) is not None for word in (*SPLITS.values(), *WHOLE.values()))


def read(source: Source) -> Manifest:
    """Read both splits.

    Raises:
        DataError: a file is missing or does not fit its list.
    """
    root = source.root
    lists = {split: path for split, word in SPLITS.items() if (path := _list_file(root, word)) is not None}
    missing = [f"ImageList/{word}Imagelist.txt" for split, word in SPLITS.items() if split not in lists]
    if not lists and (path := _list_file(root, "")) is not None:
        lists = {UNASSIGNED: path}
    elif missing:
        raise DataError(f"{root} lacks {', '.join(missing)} of NUS-WIDE. {NEEDED}.")
    photos = next((name for name in FOLDERS if (root / name).is_dir() and name), "")
    rows = LabelRows(source, "nuswide", classes=CLASSES)
    gone = 0
    for split, path in lists.items():
        rows.start(path, paths="exact")
        names = [(number, line.replace("\\", "/")) for number, line in filled_lines(path)]
        for (number, name), labels in zip(names, _labels(root, {**SPLITS, **WHOLE}[split], len(names), rows.watch), strict=True):
            if os.path.isfile(root / photos / name):  # noqa: PTH113 - many, and False for what cannot be a path
                rows.add(f"{photos}/{name}" if photos else name, labels, row=number, split=split)
            elif os.path.isfile(root / (flat := os.path.join(photos, os.path.basename(name)))):  # noqa: PTH113, PTH118, PTH119 - many
                rows.add(flat, labels, row=number, split=split)
            else:
                gone += 1
    if not len(rows.rows):
        raise DataError(f"None of the {gone:,} listed photos lies in {root / (photos or FOLDERS[0])}. Unpack them there.")
    if gone:
        rows.note(f"left out {counted(gone, 'listed photo')}, not on the disk")
    return rows.manifest()


def _list_file(root: Path, word: str) -> Path | None:
    """Return the list of the images of a split, or of all where its word is blank."""
    names = (f"ImageList/{word}Imagelist.txt", f"ImageList/{word}ImageList.txt", f"{word}Imagelist.txt")
    return next((root / name for name in names if (root / name).is_file()), None)


def _labels(root: Path, word: str, count: int, watch: Callable[[Path], None]) -> Iterator[list[int]]:
    """Yield the active classes of each listed image; watch the files that hold them."""
    end = f"_{word}" if word else ""
    files = (root / folder / f"Labels{end}.txt" for folder in ("Groundtruth", "GroundTruth", "."))
    whole = next((file for file in files if file.is_file()), None)
    if whole is not None:
        watch(whole)
        return _rows_of_flags(whole, count)
    part = "TrainTestLabels" if word else "AllLabels"
    folders = [root / place / part for place in ("", "Groundtruth", "GroundTruth")]
    folder = next((f for f in folders if f.is_dir()), None)
    if folder is None:
        raise DataError(f"{root} lacks Groundtruth/Labels{end}.txt and {part}/. {NEEDED}.")
    columns = []
    watch(folder)
    for name in CLASSES:
        path = folder / f"Labels_{name}{end}.txt"
        if not path.is_file():
            raise DataError(f"{path} is missing. Unpack all of {part}.")
        columns.append([flags[0] if len(flags) == 1 else -1 for flags in _flags(path)])
        if len(columns[-1]) != count or -1 in columns[-1]:
            raise DataError(f"{path} has {len(columns[-1])} rows of one flag where the list has {count} images. Fetch it again.")
    return ([k for k, column in enumerate(columns) if column[row]] for row in range(count))


def _rows_of_flags(path: Path, count: int) -> Iterator[list[int]]:
    row = 0
    for row, flags in enumerate(_flags(path), start=1):
        if len(flags) != len(CLASSES) or row > count:
            raise DataError(
                f"{path}, row {row} has {len(flags)} flags where NUS-WIDE has {len(CLASSES)} classes and {count} images. "
                "Fetch it again."
            )
        yield [k for k, flag in enumerate(flags) if flag]
    if row != count:
        raise DataError(f"{path} has {row} rows where the list has {count} images. Fetch it again.")


def _flags(path: Path) -> Iterator[list[int]]:
    for number, line in filled_lines(path):
        fields = line.split()
        if not all(field in ("0", "1", "-1") for field in fields):
            raise DataError(f"{path}, row {number} holds other things than 0 and 1. Fetch it again.")
        with readable(path, "flags"):
            yield [max(int(field), 0) for field in fields]
