"""Captions: beside each image a text of the same name with its tags between commas, or another delimiter that is given.

    photos/a.jpg
    photos/a.txt      cat, dog, sitting on a sofa        or a.caption

An image without a text has no label. Folders called train, val or test are the splits.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.cells import labels_of_text
from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.source import Source, split_above
from sadcl_core.data.formats.walk import images_under
from sadcl_core.data.formats.yolo import is_boxes
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import read_lines
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

SUFFIXES = ()
OPTIONS = ("delimiter",)
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
    between = source.reading.delimiter or ","
    rows.start(source.root, paths="exact", separator=between)
    without, commas = 0, False
    for number, image in enumerate(images_under(source.root), start=1):
        text = _text_beside(source.root / image)
        tags: list[str] = []
        rows.watch(text.parent)
        if text.is_file():
            lines = [line.strip() for _, line in read_lines(text)]
            commas = commas or any("," in line for line in lines)
            tags = [tag for line in lines for tag in labels_of_text(line, between)]
        else:
            without += 1
        rows.add(image, dict.fromkeys(tags), row=number, split=split_above(image), where=str(text))
    if without == len(rows.rows):
        raise DataError(f"{source.root} has no image with a text beside it. Write the tags of a.jpg into a.txt.")
    if without:
        rows.note(f"{counted(without, 'image')} without a text beside it, so without labels")
    spaced = next((tag for tag in rows.index if " " in tag), "")
    if spaced and not commas and not source.reading.delimiter:
        rows.note(
            f"tags such as {spaced[:60]!r} are kept whole, for none stands between commas; --delimiter ' ' takes them apart"
        )
    return rows.manifest()


def _text_beside(image: Path) -> Path:
    """Return the text with an image's tags: a.txt, or a.caption where that is there instead."""
    stem = os.path.splitext(image)[0]  # noqa: PTH122 - many
    caption = f"{stem}.caption"
    return Path(caption if not os.path.isfile(f"{stem}.txt") and os.path.isfile(caption) else f"{stem}.txt")  # noqa: PTH113
