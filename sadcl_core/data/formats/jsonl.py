"""JSON lines, or a list in JSON: an object per image.

    {"image": "photos/a.jpg", "labels": ["cat", "dog"], "split": "train", "unknown": ["car"]}
    {"image_url": "azureml://.../photos/a.jpg", "label": ["cat", "dog"]}                              (Azure)
    {"imageGcsUri": "gs://bucket/photos/a.jpg", "classificationAnnotations": [{"displayName": "cat"}]}  (Vertex)
    {"image": "photos/a.jpg", "annotations": [{"label": "cat", "coordinates": {...}}]}                (Create ML)
    {"a.jpg": ["cat", "dog"], "b.jpg": []}                               (one object: the labels of each image)
    {"image": ["a.jpg", "b.jpg"], "labels": [["cat", "dog"], []]}        (one object: a list per column, as pandas writes)

Labels may also be one text (several, with --delimiter), an object of class and 1, 0 or null (unknown), a vector of 0 and 1, or a
key of 1 and 0 per class. Also the `metadata.jsonl` of a Hugging Face imagefolder. Paths of Azure and Vertex are looked for under
the root by their last parts. The keys of the objects are columns, which are identified as those of a table are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sadcl_core.data import tables
from sadcl_core.data.formats.columns import SPLIT, UNKNOWN, Row
from sadcl_core.data.formats.source import Source
from sadcl_core.data.formats.table import LOOKED_AT, OPTIONS, Opened, read_tables
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError

__all__ = ["OPTIONS", "SUFFIXES", "read", "recognises"]

SUFFIXES = (".jsonl", ".ndjson", ".json")
ELSEWHERE = ("imageGcsUri", "image_url", "imageUrl")  # an address in a bucket or datastore
IMAGE_KEYS = (*ELSEWHERE, *tables.IMAGE_COLUMNS)
VERTEX = {"classificationAnnotations": "labels", "classificationAnnotation": "labels"}
LABEL_KEYS = (*tables.LABEL_COLUMNS, *VERTEX, "annotations", "boundingBoxAnnotations")
MAX_START = 5000  # characters that show what a file is: spaces and the first key
FIRST_KEY = re.compile(r'\{\s*"([^"]*)"\s*:')
VERTEX_SPLIT = ("dataItemResourceLabels", "aiplatform.googleapis.com/ml_use")


def recognises(path: Path) -> bool:
    """Return True if the first object names an image, and labels or a path where the file need not be of lines."""
    if _is_mapping(path):
        return True
    if _is_list(path):
        with tables.readable(path, "JSON"), path.open(encoding=tables.detect_encoding(path)) as file:
            text = file.read(tables.MAX_LINE)
        row = json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    else:
        row = json.loads(tables.first_line(path) or "null")
    if not isinstance(row, dict) or row.keys().isdisjoint(IMAGE_KEYS):
        return False
    firsts = (
        next(iter(value.values() if isinstance(value, dict) else value), None) for value in row.values() if _is_column(value)
    )
    told = any(map(tables.looks_like_image, (*row.values(), *firsts))) or not row.keys().isdisjoint(LABEL_KEYS)
    return path.suffix.lower() != ".json" or told


def read(source: Source) -> Manifest:
    """Read one file per split, or one of all.

    Raises:
        DataError: a line is not an object, or lacks its image or labels.
    """
    return read_tables(source, "jsonl", _open, words="JSON lines")


def _is_list(path: Path) -> bool:
    return _start(path).startswith("[")


def _is_column(value: Any) -> bool:
    return isinstance(value, (list, dict))


def _is_mapping(path: Path) -> bool:
    """Return True if a file is one object whose keys are images."""
    match = FIRST_KEY.match(_start(path))
    return match is not None and tables.looks_like_image(match[1])


def _start(path: Path) -> str:
    with tables.readable(path, "JSON"), path.open(encoding=tables.detect_encoding(path)) as file:
        return file.read(MAX_START).lstrip()


def _open(path: Path) -> Opened:
    """Open a file of JSON lines as a table whose columns are the keys."""
    if _is_mapping(path):
        return opened_mapping(tables.read_json(path))
    if _is_list(path):
        objects = ((number, _checked(row, path, number)) for number, row in enumerate(tables.read_json(path), start=1))
    else:
        lines = ((number, tables.json_line(line, path, number)) for number, line in tables.filled_lines(path))
        objects = ((number, _checked(row, path, number)) for number, row in lines)
    head = list(islice(objects, LOOKED_AT))
    if not head:
        raise DataError(f"{path} has no row. Give a file with an object per image.")
    columns = head[0][1] if len(head) == 1 and all(map(_is_column, head[0][1].values())) else {}
    if len({len(values) for values in columns.values()}) == 1:
        cells = zip(*(values.values() if isinstance(values, dict) else values for values in columns.values()), strict=True)
        return Opened(list(columns), enumerate(map(list, cells), start=1), whole=True, nulls=True)
    keys = list(dict.fromkeys(key for _, row in head for key in row))
    elsewhere = next((key for key in ELSEWHERE if key in keys), None)
    return Opened(
        ["image" if key == elsewhere else key for key in keys],
        _cells(chain(head, objects), keys, path, needed=elsewhere),
        elsewhere=elsewhere is not None,
        whole=True,
        nulls=True,
    )


def opened_mapping(labels: Mapping[str, Any], classes: Sequence[str] = ()) -> Opened:
    """Return the labels of each image, or an object that holds them, as a table."""
    names = {"labels": tuple(classes)} if classes else {}
    objects = {image: entry if isinstance(entry, dict) else {} for image, entry in labels.items()}
    keys = list(dict.fromkeys(key for entry in objects.values() for key in entry if key != "image"))
    if not set(keys).isdisjoint(LABEL_KEYS):
        rows = ([image, *map(entry.get, keys)] for image, entry in objects.items())
        return Opened(["image", *keys], enumerate(rows, start=1), names, whole=True, nulls=True)
    return Opened(["image", "labels"], enumerate(map(list, labels.items()), start=1), names, whole=True, nulls=True)


def _checked(row: Any, path: Path, number: int) -> dict[str, Any]:
    """Return an object with what Vertex nests at the top."""
    if not isinstance(row, dict):
        raise DataError(f"{path}, row {number} is not a JSON object. Write one object per image.")
    outer, inner = VERTEX_SPLIT
    if isinstance(vertex := row.get(outer), dict) and inner in vertex:
        del row[outer]
        row["split"] = str(vertex[inner])
    return {str(VERTEX.get(key, key)): value for key, value in row.items()} if not VERTEX.keys().isdisjoint(row) else row


def _cells(rows: Iterator[tuple[int, dict[str, Any]]], keys: list[str], path: Path, *, needed: str | None) -> Iterator[Row]:
    """Yield the values of each object in the order of the keys; None for a key that it lacks."""
    image = needed or next((key for key in tables.IMAGE_COLUMNS if key in keys), None)
    labels = next((key for key in tables.LABEL_COLUMNS if key in keys), None)
    known, late = set(keys), {*SPLIT, *UNKNOWN}.difference(keys)
    for number, row in rows:
        if [*row] == keys:  # as in most files
            yield number, [*row.values()]
            continue
        for what, key in (("image", image), ("labels", labels)):
            if key is not None and key not in row:
                raise DataError(f'{path}, row {number} names no {what}. Write {{"image": "a.jpg", "labels": ["cat"]}}.')
        if not row.keys() <= known and (more := late.intersection(row)):
            raise DataError(
                f"{path}, row {number} has the key {min(more)!r}, which none of the first {LOOKED_AT:,} rows has. Write it there "
                "as well."
            )
        yield number, [row.get(key) for key in keys]
