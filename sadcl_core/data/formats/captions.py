"""Captions: beside each image a text of the same name with its tags between commas.

    photos/a.jpg
    photos/a.txt      cat, dog, sitting on a sofa

An image without a text has no label. Folders called train, val or test are the splits.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.source import Source, split_above
from sadcl_core.data.formats.walk import images_under
from sadcl_core.data.formats.yolo import is_boxes
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import read_lines
from sadcl_core.errors import DataError

SUFFIXES = ()
LOOKED_AT = 200  # images, until one has a text beside it


def recognises(folder: Path) -> bool:
    """Return True if an image has a text beside it that holds no boxes."""
    texts = (_text_beside(folder / image) for image in islice(images_under(folder), LOOKED_AT))
    first = next((text for text in texts if text.is_file() and text.stat().st_size), None)  # an empty one says nothing
    return first is not None and not is_boxes(first)


def read(source: Source) -> Manifest:
    """Read the tags of every image below the root.

    Raises:
        DataError: there is no image, or a text is none.
    """
    rows = LabelRows(source, "captions")
    rows.start(source.root, paths="exact")
    without = 0
    for number, image in enumerate(images_under(source.root), start=1):
        text = _text_beside(source.root / image)
        tags: list[str] = []
        rows.watch(text.parent)
        if text.is_file():
            tags = [tag.strip() for _, line in read_lines(text) for tag in line.split(",")]
        else:
            without += 1
        active = dict.fromkeys(tag for tag in tags if tag)
        rows.add(image, active, row=number, split=split_above(image), where=str(text))
    if without == len(rows.rows):
        raise DataError(f"{source.root} has no image with a text beside it. Write the tags of a.jpg into a.txt.")
    if without:
        rows.note(f"{without:,} images have no text beside them and count as without labels")
    return rows.manifest()


def _text_beside(image: Path) -> Path:
    return Path(os.path.splitext(image)[0] + ".txt")  # noqa: PTH122 - many
