"""Datumaro's own format, as Datumaro and CVAT export it: a JSON file per subset.

    annotations/train.json   {"categories": {"label": {"labels": [{"name": "cat"}, {"name": "dog"}]}},
                              "items": [{"id": "a", "image": {"path": "a.jpg"},
                                         "annotations": [{"type": "label", "label_id": 1}]}]}
    images/train/a.jpg

Every annotation with a class counts: labels, boxes, polygons, masks.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.tables import mentions, read_json

SUFFIXES = (".json",)
PARTS = True


def recognises(path: Path) -> bool:
    """Return True if a file has the keys of the format."""
    return mentions(path, "items", "categories", "annotations") and not mentions(path, "images")


def _listing(path: Path) -> Listing:
    document = read_json(path)
    classes = [str(label["name"]) for label in document["categories"]["label"]["labels"]]
    return Listing(classes, (_entry(item, classes) for item in document["items"]))


def _entry(item: dict[str, Any], classes: list[str]) -> Entry:
    media = item.get("image") or item.get("media") or {}
    labelled = [entry for entry in item.get("annotations") or () if entry.get("label_id") is not None]
    numbers = [entry["label_id"] for entry in labelled]
    wrong = next((number for number in numbers if type(number) is not int or not 0 <= number < len(classes)), None)
    if wrong is not None:
        raise ValueError(f"item {item['id']!r:.60} has label {wrong!r:.20}, but there are {len(classes)} classes, counted from 0")
    boxes = [(classes[entry["label_id"]], entry["bbox"]) for entry in labelled if entry.get("type") == "bbox"]
    return Entry(media.get("path") or item["id"], [classes[number] for number in numbers], boxes=boxes)


read = partial(read_listing, kind="datumaro", parse=_listing, content="Datumaro's JSON")
