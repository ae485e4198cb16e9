"""labelme and programs that write as it does: a JSON file for each image, beside it or in another folder.

    a.jpg
    a.json    {"version": "5.2.1", "flags": {"cat": true, "dog": false}, "shapes": [{"label": "car", ...}], "imagePath": "a.jpg"}

A flag of the image that is set is a label, and so is the name of every shape. An image without a file has no label.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sadcl_core.data.formats.annotation_files import read_annotations
from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.listing import Entry
from sadcl_core.data.tables import mentions, read_json, readable

SUFFIXES = ()
SUFFIX = ".json"


def recognises(path: Path) -> bool:
    """Return True if a file is an annotation."""
    return mentions(path, "shapes", "imagePath")


def _parse(path: Path, rows: LabelRows) -> Entry | None:
    with readable(path, "labelme's JSON"):
        document = read_json(path)
        if not isinstance(document, dict) or "shapes" not in document:
            return None
        flags = document.get("flags") or {}
        for name in flags:  # a class no image has is a class
            rows.label(name, str(path))
        shapes = [str(shape["label"]) for shape in document["shapes"]]
        return Entry(str(document["imagePath"]), [*(name for name, is_set in flags.items() if is_set), *shapes])


read = partial(read_annotations, kind="labelme", suffix=SUFFIX, parse=_parse)
