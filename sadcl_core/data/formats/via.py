"""The VGG Image Annotator, version 1 and 2: a project, the annotations as JSON, or as CSV.

    {"_via_img_metadata": {"a.jpg1000": {"filename": "a.jpg", "file_attributes": {"content": {"cat": true}},
                                         "regions": [{"region_attributes": {"type": "dog"}}]}}}
    filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes

The labels are the values of one attribute of files or of regions: several check boxes, or one text. Where there are more
attributes, --label-column says which.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.listing import Entry, Listing, choose, read_listing
from sadcl_core.data.formats.source import Source
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import mentions, read_json, read_lines
from sadcl_core.errors import DataError

SUFFIXES = (".json", ".csv")
OPTIONS = ("label_column",)
IMAGES = "_via_img_metadata"
ABOUT = ("caption", "public_domain", "image_url", "image_quality")  # attributes that every new project has


def recognises(path: Path) -> bool:
    """Return True if a file has the keys or columns of an export."""
    if path.suffix.lower() != ".csv":
        return mentions(path, "file_attributes", "regions")
    header = next((line for _, line in read_lines(path)), "")
    return "file_attributes" in header and "region_attributes" in header


def read(source: Source) -> Manifest:
    """Read one export per split, or one of all.

    Raises:
        DataError: a file is no export, no attribute holds labels, or several may.
    """
    return read_listing(source, "via", partial(_listing, chosen=source.reading.label_column), content="a VIA export")


def _listing(path: Path, chosen: str) -> Listing:
    images: dict[str, list[dict[str, Any]]] = {}  # attributes of each image and its regions
    for name, attributes in _csv(path) if path.suffix.lower() == ".csv" else _json(path):
        images.setdefault(name, []).append(attributes)
    fields = [field for every in images.values() for attributes in every for field, value in attributes.items() if value]
    fields = [field for field in fields if field == chosen or field not in ABOUT]
    field = choose(fields, chosen, (), path, "attribute")
    others = sorted(set(fields) - {field})
    notes = [f"labels from the attribute {field}", *([f"attributes that were not read: {', '.join(others)}"] if others else [])]
    entries = (Entry(name, [label for own in every for label in _labels(own.get(field))]) for name, every in images.items())
    return Listing((), entries, notes)


def _json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    document = read_json(path)
    for image in document.get(IMAGES, document).values():
        regions = image["regions"]
        yield image["filename"], image["file_attributes"]
        for region in regions.values() if isinstance(regions, dict) else regions:
            yield image["filename"], region["region_attributes"]


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = csv.DictReader(line for _, line in read_lines(path))
    for row in rows:
        for column in ("file_attributes", "region_attributes"):
            try:
                attributes = json.loads(row[column] or "{}")
            except ValueError:
                raise DataError(f"{path}, row {rows.line_num}: {column} is not JSON. Export it again.") from None
            yield row.get("filename") or row["#filename"], attributes


def _labels(value: Any) -> list[str]:
    """Return the labels of an attribute: the boxes that are checked, or its text."""
    if isinstance(value, dict):
        return [name for name, checked in value.items() if checked]
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no value of an attribute")
    return [value.strip()] if value and value.strip() else []
