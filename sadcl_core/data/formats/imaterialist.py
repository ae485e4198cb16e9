"""iMaterialist challenges on Kaggle (2018): images and their labels by number, as the images are called.

train.json          {"images": [{"imageId": "1", "url": "https://..."}],
                     "annotations": [{"imageId": "1", "labelId": ["62", "17"]}]}
train/1.jpg
label_map_228.csv   labelId,taskId,labelName,taskName       if it is there
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.beside import names_of_numbers
from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.tables import mentions, read_json
from sadcl_core.errors import DataError

SUFFIXES = (".json",)


def recognises(path: Path) -> bool:
    """Return True if a file holds labels of numbered images."""
    return mentions(path, "annotations", "imageId", "labelId")


def _listing(path: Path) -> Listing:
    entries = list(_entries(path, read_json(path)["annotations"]))
    table, names = names_of_numbers([path.parent], {label for entry in entries for label in entry.active})
    if table is None:
        return Listing((), entries)
    named = [Entry(entry.image, [names[label] for label in entry.active]) for entry in entries]
    return Listing((), named, [f"names of classes from {table.name}"], beside=[table])


def _entries(path: Path, annotations: list[dict[str, Any]]) -> Iterator[Entry]:
    for number, annotation in enumerate(annotations, start=1):
        labels = annotation["labelId"]
        labels = labels if isinstance(labels, list) else [labels]
        if not all(isinstance(label, str | int) for label in labels):
            raise DataError(f"{path}, annotation {number}: labelId is not a list of numbers. Fetch it again.")
        yield Entry(str(annotation["imageId"]), [str(label) for label in labels])


read = partial(read_listing, kind="imaterialist", parse=_listing, content="labels of numbered images", paths="near")
