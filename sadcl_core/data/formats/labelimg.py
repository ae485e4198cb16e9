"""XML files beside images, in the form of PASCAL VOC: as labelImg, and Roboflow's export for VOC, write them.

    train/a.jpg
    train/a.xml       <annotation><object><name>cat</name>...

An image without a file has no label. Folders called train, val or test are the splits.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.source import Source, split_above
from sadcl_core.data.formats.voc import read_objects
from sadcl_core.data.formats.walk import images_under
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

SUFFIXES = ()
OPTIONS = ("difficult",)
LOOKED_AT = 200  # images, until one has a file beside it


def recognises(folder: Path) -> bool:
    """Return True if an image has an annotation beside it."""
    files = ((folder / image).with_suffix(".xml") for image in islice(images_under(folder), LOOKED_AT))
    first = next((file for file in files if file.is_file()), None)
    if first is None:
        return False
    try:
        with first.open("rb") as file:
            return b"<annotation" in file.read(1 << 10)
    except OSError:
        return True  # a file that cannot be read is better complained of than passed over


def read(source: Source) -> Manifest:
    """Read the file of every image below the root.

    Raises:
        DataError: no image has a file, or one is damaged.
    """
    rows = LabelRows(source, "labelimg")
    rows.start(source.root, paths="exact")
    without = 0
    for number, image in enumerate(images_under(source.root), start=1):
        path = (source.root / image).with_suffix(".xml")
        rows.watch(path.parent)
        there = path.is_file()
        without += not there
        active, unknown, boxes = read_objects(path, rows, source.reading.difficult) if there else ([], [], [])
        rows.add(image, active, row=number, split=split_above(image), unknown=unknown, boxes=tuple(boxes), where=str(path))
    if without == len(rows.rows):
        raise DataError(f"{source.root} has no image with an XML file beside it. Name the folder of both.")
    if without:
        rows.note(f"{counted(without, 'image')} without an XML file beside it, so without labels")
    return rows.manifest()
