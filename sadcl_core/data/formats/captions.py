"""Captions: with each image a text of the same name with its tags between commas, or what else stands between them in all texts.

    photos/a.jpg
    photos/a.txt      cat, dog, sitting on a sofa        or a.caption, a.jpg.txt, captions/a.txt

An image without a text has no label. Folders called train, val or test are the splits.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.cells import find_separator, labels_of_text, refuse_boxes, refuse_values
from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.source import Source, split_above
from sadcl_core.data.formats.texts import LOOKED_AT, Texts
from sadcl_core.data.formats.walk import images_under
from sadcl_core.data.formats.yolo import is_boxes
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import read_lines
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

SUFFIXES = ()
OPTIONS = ("delimiter",)
ENDINGS = (".txt", ".caption", ".TXT")


def recognises(folder: Path) -> bool:
    """Return True if an image has a text that holds no boxes."""
    images = list(islice(images_under(folder), LOOKED_AT))
    texts = map(Path, filter(None, map(Texts(folder, images, ENDINGS).of, images)))
    first = next((text for text in texts if text.stat().st_size), None)  # an empty one says nothing
    return first is not None and not is_boxes(first)


def read(source: Source) -> Manifest:
    """Read the tags of every image below the root.

    Raises:
        DataError: no image has a text, a text cannot be read or holds no tags, or two marks may stand between them.
    """
    rows = LabelRows(source, "captions")
    images = list(images_under(source.root))
    texts = Texts(source.root, images, ENDINGS)
    found = [list(texts.all_of(image)) for image in images]
    if not any(found):
        raise DataError(f"{source.root} has no image with a text beside it. Write the tags of a.jpg into a.txt.")
    lines = [[line.strip() for _, line in read_lines(Path(own[0]))] if own else [] for own in found]
    every = [line for of_image in lines for line in of_image]
    if document := next((line for line in every if line.startswith('{"')), ""):
        raise DataError(
            f"{source.root}: the texts beside the images hold JSON, such as {document[:60]}. Write the tags alone: cat, dog."
        )
    refuse_boxes(every, str(source.root), alone=True)
    between = source.reading.delimiter or find_separator(every, str(source.root)) or ","
    rows.start(source.root, paths="exact", separator=between)
    for number, (image, own, written) in enumerate(zip(images, found, lines, strict=True), start=1):
        text = own[0] if own else str(source.root / image)
        rows.watch(Path(text).parent)
        tags = dict.fromkeys(tag for line in written for tag in labels_of_text(line, between))
        rows.add(image, tags, row=number, split=split_above(image), where=text)
    refuse_values(list(rows.index), str(source.root))
    if without := found.count([]):
        rows.note(f"{counted(without, 'image')} without a text beside it, so without labels")
    if second := next((own for own in found if len(own) > 1), []):
        count = sum(len(own) > 1 for own in found)
        rows.note(
            f"{counted(count, 'image')} with several texts: {Path(second[0]).name} was read, {Path(second[1]).name} was not"
        )
    return rows.manifest()
