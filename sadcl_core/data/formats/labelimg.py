"""An XML file for each image, in the form of PASCAL VOC: as labelImg, Roboflow, FiftyOne and Label Studio write it.

    train/a.jpg  train/a.xml      <annotation><object><name>cat</name>...
    images/a.jpg annotations/a.xml

An image without a file has no label. Folders called train, val or test are the splits.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from sadcl_core.data.formats.annotation_files import read_annotations
from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.listing import Entry
from sadcl_core.data.formats.source import Source
from sadcl_core.data.formats.voc import read_objects
from sadcl_core.data.manifest import Manifest

SUFFIXES = ()
OPTIONS = ("difficult",)
SUFFIX = ".xml"
HEAD = 1 << 10  # bytes in which a file begins


def recognises(path: Path) -> bool:
    """Return True if a file begins as those of VOC do, or cannot be read, so that reading it says why."""
    with suppress(OSError), path.open("rb") as file:
        return re.search(rb"<annotation[\s>]", file.read(HEAD)) is not None
    return True


def read(source: Source) -> Manifest:
    """Read every file below the root.

    Raises:
        DataError: no image has a file, or one is damaged.
    """

    def parse(path: Path, rows: LabelRows) -> Entry | None:
        is_other = not recognises(path) and path.stat().st_size
        return None if is_other else read_objects(path, rows, source.reading.difficult)

    return read_annotations(source, "labelimg", SUFFIX, parse)
