"""The VGG Image Annotator, version 1 and 2: a project, the annotations as JSON, or as CSV.

    {"_via_img_metadata": {"a.jpg1000": {"filename": "a.jpg", "file_attributes": {"content": {"cat": true}},
                                         "regions": [{"region_attributes": {"type": "dog"}}]}}}
    filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes

The labels are the values of one attribute of files or of regions: several check boxes, or a text with one label or several. Where
there are more attributes, each is a class if all say yes or no; else --label-column says which holds the labels. Also projects of
version 3, whose attributes of files and regions are read in the same way.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.cells import find_separator, flag_of, labels_of_text
from sadcl_core.data.formats.listing import Entry, Listing, choose, read_listing
from sadcl_core.data.formats.source import Source
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import mentions, read_json, read_lines
from sadcl_core.errors import DataError

SUFFIXES = (".json", ".csv")
OPTIONS = ("label_column", "delimiter")
PARTS = True
IMAGES = "_via_img_metadata"
VERSION_3 = "# Exported using VGG Image Annotator"
ABOUT = ("caption", "public_domain", "image_url", "image_quality")  # attributes that every new project has


def recognises(path: Path) -> bool:
    """Return True if a file has the keys or columns of an export."""
    if path.suffix.lower() != ".csv":
        return mentions(path, "file_attributes", "regions") or mentions(path, "attribute", "file", "metadata", "view")
    header = next((line for _, line in read_lines(path)), "")
    return header.startswith(VERSION_3) or ("file_attributes" in header and "region_attributes" in header)


def read(source: Source) -> Manifest:
    """Read one export per split, or one of all.

    Raises:
        DataError: a file is not an export, no attribute holds labels, or several may.
    """
    chosen, between = source.reading.label_column, source.reading.delimiter
    return read_listing(source, "via", partial(_listing, chosen=chosen, between=between), content="a VIA export")


def _listing(path: Path, chosen: str, between: str) -> Listing:
    images: dict[str, list[dict[str, Any]]] = {}  # attributes of each image and its regions
    for name, attributes in _csv(path) if path.suffix.lower() == ".csv" else _json(path):
        images.setdefault(name, []).append(attributes)
    fields = [field for every in images.values() for attributes in every for field, value in attributes.items() if value]
    fields = [field for field in fields if field == chosen or field not in ABOUT]
    names = list(dict.fromkeys(fields))
    values = [own[name] for every in images.values() for own in every for name in names if own.get(name)]
    if not chosen and len(names) > 1 and all(isinstance(value, str) and flag_of(value) for value in values):
        flags = ([name for own in every for name in names if flag_of(own.get(name)) == "1"] for every in images.values())
        entries = [Entry(image, labels) for image, labels in zip(images, flags, strict=True)]
        return Listing(names, entries, [f"each attribute is a class: {', '.join(names)[:200]}"])
    field = choose(fields, chosen, (), path, "attribute")
    others = sorted(set(fields) - {field})
    notes = [f"labels from the attribute {field}", *([f"attributes that were not read: {', '.join(others)}"] if others else [])]
    texts = [value for every in images.values() for own in every if isinstance(value := own.get(field), str)]
    between = between or find_separator([text for text in texts if text.strip()], str(path))
    entries = [
        Entry(name, [label for own in every for label in _labels(own.get(field), between)]) for name, every in images.items()
    ]
    return Listing((), entries, [*notes, *([f"labels of a text stand between {between!r}"] if between else [])])


def _json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    document = read_json(path)
    if "view" in document:
        yield from _json_3(document)
        return
    for image in document.get(IMAGES, document).values():
        regions = image["regions"]
        yield image["filename"], image["file_attributes"]
        for region in regions.values() if isinstance(regions, dict) else regions:
            yield image["filename"], region["region_attributes"]


def _json_3(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield image and attributes of a project of version 3, in which all refer to each other by their numbers."""
    attributes, files = document["attribute"], document["file"]
    images = {view: [files[str(number)]["fname"] for number in value["fid_list"]] for view, value in document["view"].items()}
    for names in images.values():
        yield from ((name, {}) for name in names)
    for entry in document["metadata"].values():
        values = {attributes[number]["aname"]: _value_3(value, attributes[number]) for number, value in entry["av"].items()}
        yield from ((name, values) for name in images[str(entry["vid"])])


def _value_3(value: str, attribute: dict[str, Any]) -> Any:
    """Return the value of an attribute as version 2 has it: the options that are checked, or a text."""
    options = attribute.get("options") or {}
    return {options[number]: True for number in value.split(",") if number} if options else value


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if next((line for _, line in read_lines(path)), "").startswith(VERSION_3):
        raise DataError(
            f"{path} is the CSV of VIA 3, which does not say what its attributes are called. Save the project as JSON."
        )
    rows = csv.DictReader(line for _, line in read_lines(path))
    for row in rows:
        for column in ("file_attributes", "region_attributes"):
            try:
                attributes = json.loads(row[column] or "{}")
            except ValueError:
                raise DataError(f"{path}, row {rows.line_num}: {column} is not JSON. Export it again.") from None
            yield row.get("filename") or row["#filename"], attributes


def _labels(value: Any, between: str) -> list[str]:
    """Return the labels of an attribute: the boxes that are checked, or those of its text."""
    if isinstance(value, dict):
        return [name for name, checked in value.items() if checked]
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no value of an attribute")
    return labels_of_text(value, between) if value else []
