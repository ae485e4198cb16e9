"""The exports of Label Studio: JSON, full or minimal, and CSV, with choices, boxes, or both.

    [{"data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"},
      "annotations": [{"result": [{"type": "choices", "value": {"choices": ["cat", "dog"]}}]}]}]
    [{"image": "/data/upload/1/0a1b2c3d-a.jpg", "choice": {"choices": ["cat", "dog"]}}]
    annotation_id,annotator,choice,image
    1,1,"{""choices"": [""cat"", ""dog""]}",/data/upload/1/0a1b2c3d-a.jpg

In the minimal form and in CSV the key of the labels is the name of their tag, and each annotator has a row. Where several tags
hold labels, --label-column says which; of a taxonomy every step is a label, as Animal and Animal/Cat. A label on which
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

SUFFIXES = (".json", ".csv", ".tsv")
OPTIONS = ("label_column",)
UPLOADED = re.compile(r"^[0-9a-f]{8}-")
ABOUT = ("id", "inner_id", "annotation_id", "created_at", "updated_at", "lead_time", "annotator", "image", "img")  # of a task
MINIMAL = ("choice", "choices", "label", "labels")
CHOICES = ("choice", "choices", "taxonomy")  # types of results that are about the whole image
RESULTS = (  # keys of the values of results
    *CHOICES,
    *("rectanglelabels", "polygonlabels", "ellipselabels", "keypointlabels", "brushlabels"),
)
OF_A_ROW = ("annotation_id", "annotator")  # keys that every row of the minimal form has


def recognises(path: Path) -> bool:
    """Return True if a file is a list of tasks."""
    if path.suffix.lower() != ".json":
        header, between = _header(path)
        return set(OF_A_ROW) <= {name.strip('" ') for name in header.split(between)}
    with path.open(encoding=detect_encoding(path)) as file:
        if not file.read(1 << 10).lstrip().startswith("["):
            return False
    tasks = mentions(path, "data", "annotations") or mentions(path, "data", "completions")
    return tasks or mentions(path, *OF_A_ROW) or any(mentions(path, key) for key in RESULTS)


def read(source: Source) -> Manifest:
    """Read one export per split, or one of all.

    Raises:
        DataError: a task names no image, or a result is not Label Studio's.
    """
    rows = LabelRows(source, "labelstudio")
    for split, path in source.files.items():
        with readable(path, "a Label Studio export"):
            tasks = read_json(path) if path.suffix.lower() == ".json" else [*_tasks_of_rows(path)]
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


def _header(path: Path) -> tuple[str, str]:
    """Return the first line of a table, and what stands between its cells."""
    header = next((line for _, line in read_lines(path)), "").strip()
    return header, max(",;\t", key=header.count)


def _tasks_of_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV as tasks of the minimal form: a cell is a text, or an object or list as JSON."""
    for row in csv.DictReader((line for _, line in read_lines(path)), delimiter=_header(path)[1]):
        task: dict[str, Any] = {name: text for name, text in row.items() if name and text}
        for name, text in task.items():
            with suppress(ValueError, RecursionError):
                task[name] = json.loads(text) if text.startswith(("{", "[")) else text
        yield task


def _add_tasks(tasks: list[dict[str, Any]], split: str, rows: LabelRows, path: Path) -> int:
    """Add the tasks that are annotated; return how many are not."""
    keys, empty = _keys(tasks, rows.source.reading.label_column, path), 0
    if len(keys) > 1:
        rows.note(f"{path.name}: labels of the tags {', '.join(keys)[:200]}; --label-column takes those of one")
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


def _keys(tasks: list[dict[str, Any]], chosen: str, path: Path) -> list[str]:
    """Return the tags whose labels are read: the one that a person chose, else those of choices, boxes and other shapes.

    Raises:
        DataError: there are several, or the chosen one is not there.
    """
    about_image: dict[str, bool] = {}
    for task in tasks:
        for key, value in task.items() if "data" not in task else ():
            if _is_result(value):
                shapes = isinstance(value, list) and any(isinstance(inner, dict) for inner in value)
                about_image[key] = about_image.get(key, False) or not shapes
        for result in (result for annotation in _annotations(task) for result in annotation.get("result", [])):
            if _labels(result.get("value", {}).get(result.get("type"), [])):
                about_image.setdefault(str(result.get("from_name", "")), result["type"] in CHOICES)
    if chosen:
        if chosen not in about_image and not any(chosen in task for task in tasks if "data" not in task):
            raise DataError(f"{path} has no column {chosen!r} with labels. Check --label-column.")
        return [chosen]
    if not about_image:  # of a minimal export in which no task has two labels
        usual = [key for key in MINIMAL if any(key in task for task in tasks)]
        about_image = dict.fromkeys(usual or _other_texts(tasks, []), True)
    of_image = [key for key, about in about_image.items() if about]
    if len(of_image) > 1:
        shown = ", ".join(of_image)[:200]
        raise DataError(f"{path}: the tags {shown} may each hold the labels. Say which: --label-column NAME.")
    return list(about_image)


def _other_texts(tasks: list[dict[str, Any]], keys: list[str]) -> list[str]:
    """Return the keys of a minimal export that are not read, but hold a few texts again and again, as single choices do."""
    values: dict[str, list[str]] = {}
    for task in tasks:
        for key, value in task.items() if "data" not in task else ():
            if key not in keys and isinstance(value, str):
                values.setdefault(key, []).append(value)
    return [key for key, texts in values.items() if key not in ABOUT and len(set(texts)) * 2 <= len(texts)]


def _is_result(value: Any) -> bool:
    """Return True if a value is what several choices, a taxonomy or boxes look like."""
    if isinstance(value, dict):
        return isinstance(value.get("choices"), list)
    return isinstance(value, list) and any(isinstance(inner, dict | list) and bool(_labels(inner)) for inner in value)


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the annotations of a task of the full export that were not skipped."""
    annotations = (task.get("annotations") or task.get("completions") or []) if "data" in task else []
    return [annotation for annotation in annotations if not annotation.get("was_cancelled")]


def _opinions(task: dict[str, Any], keys: list[str]) -> list[set[str]]:
    """Return the labels of each annotator; `keys` hold them in a minimal export."""
    if "data" not in task:
        given = [_labels(task[key]) for key in keys if key in task]
        return [set().union(*given)] if given or task.get("annotation_id") else []
    return [
        {
            label
            for result in annotation.get("result", [])  # its value holds the labels under the name of its type
            if str(result.get("from_name", "")) in keys
            for label in _labels(result.get("value", {}).get(result.get("type"), []))
        }
        for annotation in _annotations(task)
    ]


def _labels(value: Any) -> set[str]:
    """Return the labels in a text, a list, an object or list of objects that hold some, or the paths of a taxonomy."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {label for inner in value.values() if isinstance(inner, list) for label in _labels(inner)}
    if not isinstance(value, list):
        return set()
    labels = {label for inner in value if not isinstance(inner, list) for label in _labels(inner)}
    paths = [path for path in value if isinstance(path, list) and all(isinstance(step, str) for step in path)]
    return labels | {"/".join(path[: k + 1]) for path in paths for k in range(len(path))}


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
    """Return an address, or the path of its image on this disk, with or without the letters of an upload before its name."""
    path = PurePosixPath(without_scheme(address))
    plain = UPLOADED.sub("", path.name)
    if plain == path.name:
        return address
    roots = (source.root, source.root.parent) if source.guess else (source.root,)
    places = [f"{folder}{name}" for name in (path.name, plain) for folder in ("", "images/")]
    return next((place for place in places for root in roots if os.path.isfile(root / place)), address)  # noqa: PTH113
