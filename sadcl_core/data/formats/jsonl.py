"""JSON lines: an object per image.

    {"image": "photos/a.jpg", "labels": ["cat", "dog"], "split": "train", "unknown": ["car"]}
    {"image_url": "azureml://.../photos/a.jpg", "label": ["cat", "dog"]}                              (Azure)
    {"imageGcsUri": "gs://bucket/photos/a.jpg", "classificationAnnotations": [{"displayName": "cat"}]}  (Vertex)

Labels may also be one text (several, with --delimiter), or an object of class and 1, 0 or null (unknown). Also the
`metadata.jsonl` of a Hugging Face imagefolder. Paths of Azure and Vertex are looked for under the root by their last parts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.cells import labels_in
from sadcl_core.data.formats.columns import ACTIVE, FLAGS, INACTIVE, SPLIT, UNKNOWN
from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.source import Source, split_name
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS, read_lines, readable
from sadcl_core.errors import DataError

SUFFIXES = (".jsonl", ".ndjson", ".json")
ELSEWHERE = ("imageGcsUri", "image_url", "imageUrl")  # an address in a bucket or datastore
IMAGE_KEYS = (*ELSEWHERE, *IMAGE_COLUMNS)
LABEL_KEYS = (*LABEL_COLUMNS, "classificationAnnotations", "classificationAnnotation")
NAME_KEYS = ("displayName", "name", "label", "tag")
VERTEX_SPLIT = ("dataItemResourceLabels", "aiplatform.googleapis.com/ml_use")


def recognises(path: Path) -> bool:
    """Return True if the first line is an object that names an image, and labels where the file need not be of lines."""
    try:
        row = json.loads(next((line for _, line in read_lines(path) if line.strip()), "null"))
    except (DataError, ValueError, RecursionError):
        return False
    needed = (IMAGE_KEYS, LABEL_KEYS) if path.suffix.lower() == ".json" else (IMAGE_KEYS,)
    return isinstance(row, dict) and all(_key(row, keys) for keys in needed)


def read(source: Source) -> Manifest:
    """Read one file per split, or one of all.

    Raises:
        DataError: a line is no object, or says nothing of its image or labels.
    """
    rows = LabelRows(source, "jsonl")
    for split, path in source.files.items():
        with readable(path, "JSON lines"):
            _read_file(path, split, rows)
    return rows.manifest()


def _read_file(path: Path, split: str, rows: LabelRows) -> None:
    started, unlabelled = False, 0
    for number, line in read_lines(path):
        if not line.strip():
            continue
        row = _object(line, f"{path}, row {number}")
        image_key, label_key = _key(row, IMAGE_KEYS), _key(row, LABEL_KEYS)
        if image_key is None or label_key is None:
            lacking = "image" if image_key is None else "labels"
            raise DataError(f'{path}, row {number} names no {lacking}. Write {{"image": "a.jpg", "labels": ["cat"]}}.')
        if not started:
            rows.start(path, paths="elsewhere" if image_key in ELSEWHERE else "near")
            started = True
        if row[label_key] is None:
            unlabelled += 1
            continue
        where = f"{path}, row {number}"
        active, unknown = _labels(row[label_key], where, rows.source.reading.delimiter)
        more = _key(row, UNKNOWN)
        unknown += _labels(row[more], where, rows.source.reading.delimiter)[0] if more else []
        rows.add(row[image_key], active, row=number, split=_split(row, where) or split, unknown=unknown)
    if not started:
        raise DataError(f"{path} has no row. Give a file with an object per image.")
    if unlabelled:
        rows.note(f"{path.name}: {unlabelled:,} images whose labels are null were left out")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON ({str(error)[:100]}). Mend the line.") from None
    if not isinstance(row, dict):
        raise DataError(f"{where} is no JSON object. Write one object per image.")
    return row


def _key(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in row), None)


def _labels(value: Any, where: str, delimiter: str) -> tuple[list[Any], list[Any]]:
    """Active and unknown labels of a list, a text, or an object of class and flag."""
    if isinstance(value, dict) and not isinstance(value.get(_key(value, NAME_KEYS) or ""), str):
        flags = {name: FLAGS.get("" if flag is None else str(flag).strip().lower()) for name, flag in value.items()}
        if None in flags.values():
            raise DataError(f"{where}: the labels are neither 1, 0 nor null. Mend the line.")
        unknown = [name for name, flag in flags.items() if flag not in (ACTIVE, INACTIVE)]
        return [name for name, flag in flags.items() if flag == ACTIVE], unknown
    if isinstance(value, str):
        return labels_in(value, delimiter or "none", where), []
    entries = value if isinstance(value, list) else [value]
    labels = [entry.get(_key(entry, NAME_KEYS) or "") if isinstance(entry, dict) else entry for entry in entries]
    if not all(isinstance(label, (str, int)) and not isinstance(label, bool) for label in labels):
        raise DataError(f'{where}: the labels are no list of names. Write ["cat", "dog"].')
    return labels, []


def _split(row: dict[str, Any], where: str) -> str:
    """The split a row names; Vertex says it in a label of its own."""
    outer, inner = VERTEX_SPLIT
    vertex = row.get(outer)
    if isinstance(vertex, dict) and inner in vertex:
        return split_name(str(vertex[inner]).replace("UNASSIGNED", ""))
    value = row[key] if (key := _key(row, SPLIT)) else None
    if not isinstance(value, (str, int, type(None))):
        raise DataError(f'{where}: the split is no text. Write "split": "train".')
    return "" if value is None else split_name(str(value))
