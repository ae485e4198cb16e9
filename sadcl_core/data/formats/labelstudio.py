"""The exports of Label Studio: JSON, full or minimal, and CSV, with choices, boxes, or both.

    [{"data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"},
      "annotations": [{"result": [{"type": "choices", "value": {"choices": ["cat", "dog"]}}]}]}]
    [{"image": "/data/upload/1/0a1b2c3d-a.jpg", "choice": {"choices": ["cat", "dog"]}}]
    annotation_id,annotator,choice,image
    1,1,"{""choices"": [""cat"", ""dog""]}",/data/upload/1/0a1b2c3d-a.jpg

In the minimal form and in CSV the key of the labels is the name of their tag, and each annotator has a row. A label on which
annotators disagree is unknown; a task without annotation is left out. Images are looked for by the last parts of their address.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.locate import without_scheme
from sadcl_core.data.formats.source import Source
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import detect_encoding, looks_like_image, mentions, read_json, read_lines, readable
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

SUFFIXES = (".json", ".csv")
OPTIONS = ("label_column",)
UPLOADED = re.compile(r"^[0-9a-f]{8}-")
ABOUT = ("created_at", "updated_at", "annotator", "image", "img")  # of a task, not labels
MINIMAL = ("choice", "choices", "label", "labels")
RESULTS = (  # keys of the values of results
    *("choice", "choices", "taxonomy"),
    *("rectanglelabels", "polygonlabels", "ellipselabels", "keypointlabels", "brushlabels"),
)
OF_A_ROW = ("annotation_id", "annotator")  # keys that every row of the minimal form has


def recognises(path: Path) -> bool:
    """Return True if a file is a list of tasks."""
    if path.suffix.lower() == ".csv":
        header = next((line for _, line in read_lines(path)), "").strip().split(",")
        return set(OF_A_ROW) <= {name.strip('" ') for name in header}
    with path.open(encoding=detect_encoding(path)) as file:
        if not file.read(1 << 10).lstrip().startswith("["):
            return False
    tasks = mentions(path, "data", "annotations") or mentions(path, "data", "completions")
    return tasks or mentions(path, *OF_A_ROW) or any(mentions(path, key) for key in RESULTS)


def read(source: Source) -> Manifest:
    """Read one export per split, or one of all.

    Raises:
        DataError: a task names no image, or a result is none of Label Studio's.
    """
    rows = LabelRows(source, "labelstudio")
    for split, path in source.files.items():
        with readable(path, "a Label Studio export"):
            tasks = [*_tasks_of_rows(path)] if path.suffix.lower() == ".csv" else read_json(path)
            if not isinstance(tasks, list):
                raise DataError(f"{path} is not a list of tasks. Export as JSON or JSON-MIN.")
            wrong = next((number for number, task in enumerate(tasks, start=1) if not isinstance(task, dict)), None)
            if wrong is not None:
                raise DataError(f"{path}, task {wrong} is no object. Export as JSON or JSON-MIN.")
            rows.start(path, paths="elsewhere")
            empty = _add_tasks(tasks, split, rows, path)
            if empty:
                rows.note(f"{path.name}: left out {counted(empty, 'task')} without an annotation")
    return rows.manifest()


def _tasks_of_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV as tasks of the minimal form: a cell is a text, or an object or list as JSON."""
    for row in csv.DictReader(line for _, line in read_lines(path)):
        task: dict[str, Any] = {name: text for name, text in row.items() if name and text}
        for name, text in task.items():
            with suppress(ValueError, RecursionError):
                task[name] = json.loads(text) if text.startswith(("{", "[")) else text
        yield task


def _add_tasks(tasks: list[dict[str, Any]], split: str, rows: LabelRows, path: Path) -> int:
    """Add the tasks that are annotated; returns how many are not."""
    column = rows.source.reading.label_column
    keys, empty = [column] if column else _minimal_keys(tasks), 0
    if column and not any(column in task for task in tasks):
        raise DataError(f"{path} has no column {column!r} with labels. Check --label-column.")
    texts = _other_texts(tasks, keys)
    if texts:
        rows.note(f"{path.name}: texts that were not taken for labels: {', '.join(texts)[:200]}; export as JSON to have them")
    opinions: dict[str, list[set[str]]] = {}  # of an image: of a minimal export every row is an opinion
    first: dict[str, int] = {}
    for number, task in enumerate(tasks, start=1):
        own = _opinions(task, keys)
        if not own:
            empty += 1
            continue
        image = _image(task, f"{path}, task {number}")
        if "data" in task:
            _add(image, own, number, split, rows)
        else:
            opinions.setdefault(image, []).extend(own)
            first.setdefault(image, number)
    for image, number in first.items():
        _add(image, opinions[image], number, split, rows)
    return empty


def _add(image: str, opinions: list[set[str]], number: int, split: str, rows: LabelRows) -> None:
    active = set.intersection(*opinions)
    unknown = set.union(*opinions) - active
    place = _on_this_disk(image, rows.source)
    rows.add(place, sorted(active), row=number, split=split, unknown=sorted(unknown), where=f"{rows.file}, task {number}")


def _minimal_keys(tasks: list[dict[str, Any]]) -> list[str]:
    """Keys of a minimal export that hold labels: those that do in one task or another, or are called as they usually are."""
    keys = {key: None for task in tasks if "data" not in task for key, value in task.items() if _is_result(value)}
    return list(keys) or list(MINIMAL)


def _other_texts(tasks: list[dict[str, Any]], keys: list[str]) -> list[str]:
    """Keys of a minimal export with a few texts that come again and again, as a single choice would, but are not read."""
    values: dict[str, list[str]] = {}
    for task in tasks:
        for key, value in task.items() if "data" not in task else ():
            if key not in keys and isinstance(value, str):
                values.setdefault(key, []).append(value)
    return [key for key, texts in values.items() if key not in ABOUT and len(set(texts)) * 2 <= len(texts)]


def _is_result(value: Any) -> bool:
    """Return True if a value is what several choices, or boxes, look like."""
    if isinstance(value, dict):
        return isinstance(value.get("choices"), list)
    return isinstance(value, list) and any(isinstance(inner, dict) and _labels(inner) for inner in value)


def _opinions(task: dict[str, Any], keys: list[str]) -> list[set[str]]:
    """The labels that each annotator gave; `keys` hold them in a minimal export."""
    if "data" not in task:
        given = [_labels(task[key]) for key in keys if key in task]
        return [set().union(*given)] if given else []
    annotations = task.get("annotations") or task.get("completions") or []
    return [
        {
            label
            for result in annotation.get("result", [])  # its value holds the labels under the name of its type
            for label in _labels(result.get("value", {}).get(result.get("type"), []))
        }
        for annotation in annotations
        if not annotation.get("was_cancelled")
    ]


def _labels(value: Any) -> set[str]:
    """One label, a list of them, or an object or list of objects that holds some."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {label for inner in value.values() if isinstance(inner, list) for label in _labels(inner)}
    return {label for inner in value for label in _labels(inner)} if isinstance(value, list) else set()


def _image(task: dict[str, Any], where: str) -> str:
    data = task.get("data", task)
    if not isinstance(data, dict):
        raise DataError(f"{where} has data that are no object. Export as JSON or JSON-MIN.")
    named = data.get("image") or data.get("img")
    texts = [named] if isinstance(named, str) else [value for value in data.values() if looks_like_image(value)]
    if not texts:
        raise DataError(f"{where} names no image. Its data should have the key image.")
    return str(texts[0])


def _on_this_disk(address: str, source: Source) -> str:
    """The path of an address; without the letters of an upload where only the plain name lies on this disk."""
    path = PurePosixPath(without_scheme(address))
    plain = UPLOADED.sub("", path.name)
    if plain == path.name:
        return address
    roots = (source.root, source.root.parent) if source.guess else (source.root,)
    places = [f"{folder}{name}" for name in (path.name, plain) for folder in ("", "images/")]
    return next((place for place in places for root in roots if os.path.isfile(root / place)), address)  # noqa: PTH113
