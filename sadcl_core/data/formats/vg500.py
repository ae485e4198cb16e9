"""Visual Genome with its 500 most frequent categories, as SADCL and SSGRL use it.

    train_list_500.txt, test_list_500.txt      1.jpg
    vg_category_500_labels_index.json          {"1.jpg": [12, 44, 260]}
    VG_100K/1.jpg                              (and VG_100K_2/)

The index numbers its classes only; a `classes.txt` beside it gives them names.
"""

from __future__ import annotations

import os
from pathlib import Path

from sadcl_core.data.formats.labels import CLASS_LIST, LabelRows
from sadcl_core.data.formats.source import Source
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import filled_lines, read_json, readable
from sadcl_core.errors import DataError

SUFFIXES = ()
LISTS = {"train": "train_list_500.txt", "test": "test_list_500.txt"}
INDEX = "vg_category_500_labels_index.json"
FOLDERS = ("VG_100K", "VG_100K_2", "images")
CLASSES = tuple(f"category {k}" for k in range(500))


def recognises(folder: Path) -> bool:
    """Return True if the index is there."""
    return (folder / INDEX).is_file()


def read(source: Source) -> Manifest:
    """Read both splits.

    Raises:
        DataError: a file is missing, or an image has no entry in the index.
    """
    root = source.root
    missing = [name for name in (*LISTS.values(), INDEX) if not (root / name).is_file()]
    folders = [name for name in FOLDERS if (root / name).is_dir()]
    if missing or not folders:
        raise DataError(f"{root} lacks {', '.join([*missing, *([] if folders else ['VG_100K/'])])} of VG500. Put them there.")
    named = (root / CLASS_LIST).is_file()  # the numbers alone say nothing
    rows = LabelRows(source, "vg500", classes=() if named else CLASSES)
    rows.watch(root / INDEX)
    with readable(root / INDEX, "the index of VG500"):
        index = read_json(root / INDEX)
        if not isinstance(index, dict):
            raise DataError(f"{root / INDEX} is not an object of image and class numbers. Fetch it again.")
        for split, name in LISTS.items():
            rows.start(root / name, paths="exact")
            for number, image in filled_lines(root / name):
                if image not in index:
                    raise DataError(f"{root / name}, row {number}: {image[:100]!r} is not in {INDEX}. Use files of one data set.")
                if not isinstance(index[image], list):
                    raise DataError(f"{root / INDEX}: the entry of {image} is not a list of class numbers. Fetch it again.")
                rows.add(_place(root, folders, image), index[image], row=number, split=split)
    return rows.manifest()


def _place(root: Path, folders: list[str], image: str) -> str:
    """Return the path of an image in the root or a folder; in the first folder if it is missing, which is reported later."""
    places = (image, *(f"{folder}/{image}" for folder in folders))
    return next((place for place in places if os.path.isfile(root / place)), places[1])  # noqa: PTH113 - False for what is no path
