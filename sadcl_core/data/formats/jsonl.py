"""JSON lines, or a list in JSON: an object per image.

    {"image": "photos/a.jpg", "labels": ["cat", "dog"], "split": "train", "unknown": ["car"]}
    {"image_url": "azureml://.../photos/a.jpg", "label": ["cat", "dog"]}                              (Azure)
    {"imageGcsUri": "gs://bucket/photos/a.jpg", "classificationAnnotations": [{"displayName": "cat"}]}  (Vertex)
    {"image": "photos/a.jpg", "annotations": [{"label": "cat", "coordinates": {...}}]}                (Create ML)

Labels may also be one text (several, with --delimiter), an object of class and 1, 0 or null (unknown), a vector of 0 and 1, or a
key of 1 and 0 per class. Also the `metadata.jsonl` of a Hugging Face imagefolder. Paths of Azure and Vertex are looked for under
the root by their last parts. The keys of the objects are columns, which are identified as those of a table are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
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
MAX_SPACE = 100  # characters that may stand before a list
VERTEX_SPLIT = ("dataItemResourceLabels", "aiplatform.googleapis.com/ml_use")


def recognises(path: Path) -> bool:
    """Return True if the first object names an image, and labels where the file need not be of lines."""
    if _is_list(path):
        with tables.readable(path, "JSON"), path.open(encoding=tables.detect_encoding(path)) as file:
            text = file.read(tables.MAX_LINE)
        row = json.JSONDecoder().raw_decode(text, text.index("{"))[0]
    else:
        row = json.loads(next((line for _, line in tables.read_lines(path) if line.strip()), "null"))
    needed = (IMAGE_KEYS, LABEL_KEYS) if path.suffix.lower() == ".json" else (IMAGE_KEYS,)
    return isinstance(row, dict) and all(any(key in row for key in keys) for keys in needed)


def read(source: Source) -> Manifest:
    """Read one file per split, or one of all.

    Raises:
        DataError: a line is no object, or says nothing of its image or labels.
    """
    return read_tables(source, "jsonl", _open, words="JSON lines")


def _is_list(path: Path) -> bool:
    with tables.readable(path, "JSON"), path.open(encoding=tables.detect_encoding(path)) as file:
        return file.read(MAX_SPACE).lstrip().startswith("[")


def _open(path: Path) -> Opened:
    """Open a file of JSON lines as a table whose columns are the keys."""
    if _is_list(path):
        objects = ((number, _checked(row, path, number)) for number, row in enumerate(tables.read_json(path), start=1))
    else:
        lines = ((number, tables.json_line(line, path, number)) for number, line in tables.read_lines(path) if line.strip())
        objects = ((number, _checked(row, path, number)) for number, row in lines)
    head = list(islice(objects, LOOKED_AT))
    if not head:
        raise DataError(f"{path} has no row. Give a file with an object per image.")
    keys = list(dict.fromkeys(key for _, row in head for key in row))
    elsewhere = next((key for key in ELSEWHERE if key in keys), None)
    return Opened(
        ["image" if key == elsewhere else key for key in keys],
        _cells(chain(head, objects), keys, path, needed=elsewhere),
        elsewhere=elsewhere is not None,
        whole=True,
        nulls=True,
    )


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
