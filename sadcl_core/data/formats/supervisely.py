"""Supervisely's format: a folder of images and one of annotations for each data set of a project.

    meta.json
    ds0/img/a.jpg
    ds0/ann/a.jpg.json    {"tags": [{"name": "cat", "value": null}], "objects": [{"classTitle": "dog", ...}]}

Every tag of the image is a label, `name: value` where it has a value, and so is the class of every object. An image without an
annotation has no label; data sets called train, val or test are the splits.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.annotation_files import read_annotations
from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.listing import Entry
from sadcl_core.data.tables import mentions, read_json, readable

SUFFIXES = ()
SUFFIX = ".json"


def recognises(path: Path) -> bool:
    """Return True if a file is an annotation."""
    return mentions(path, "tags", "objects", "size", "description")


def _parse(path: Path, _: LabelRows) -> Entry | None:
    with readable(path, "Supervisely's JSON"):
        document = read_json(path)
        if not isinstance(document, dict) or "objects" not in document:
            return None
        classes = [str(one["classTitle"]) for one in document["objects"]]
        return Entry("", [*map(_tag, document["tags"]), *classes])


def _tag(tag: dict[str, Any]) -> str:
    value = tag.get("value")
    return str(tag["name"]) if value is None else f"{tag['name']}: {value}"


read = partial(read_annotations, kind="supervisely", suffix=SUFFIX, parse=_parse)
