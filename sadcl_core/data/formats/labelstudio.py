"""The JSON export of Label Studio, full or minimal, with choices, boxes, or both.

    [{"data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"},
      "annotations": [{"result": [{"type": "choices", "value": {"choices": ["cat", "dog"]}}]}]}]
    [{"image": "/data/upload/1/0a1b2c3d-a.jpg", "choice": {"choices": ["cat", "dog"]}}]

A label on which annotators of one image disagree is unknown. A task without annotation says nothing and is left out.
Images are looked for under the root by the last parts of their address, also without the letters that an upload puts
before the name.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.locate import without_scheme
from sadcl_core.data.formats.source import Source
from sadcl_core.data.formats.text import read_json, readable
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError

SUFFIXES = (".json",)
UPLOADED = re.compile(r"^[0-9a-f]{8}-")
MINIMAL = ("choice", "choices", "label", "labels")


def recognises(path: Path) -> bool:
    """Whether a file is a list of tasks."""
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \r\n\t")
    except OSError:
        return False
    tasks = b'"data"' in start and (b'"annotations"' in start or b'"completions"' in start)
    return start.startswith(b"[") and (tasks or any(f'"{key}"'.encode() in start for key in MINIMAL))


def read(source: Source) -> Manifest:
    """Read one export per split, or one of all.

    Raises:
        DataError: a task names no image, or a result is none of Label Studio's.
    """
    rows = LabelRows(source, "labelstudio")
    for split, path in source.files.items():
        with readable(path, "a Label Studio export"):
            tasks = read_json(path)
            if not isinstance(tasks, list):
                raise DataError(f"{path} is no list of tasks. Export as JSON or JSON-MIN.")
            rows.start(path, paths="elsewhere")
            empty = sum(not _add(task, number, split, rows, path) for number, task in enumerate(tasks, start=1))
            if empty:
                rows.notes.append(f"{path.name}: {empty:,} tasks without an annotation were left out")
    return rows.manifest()


def _add(task: dict[str, Any], number: int, split: str, rows: LabelRows, path: Path) -> bool:
    """Add one task, if it is annotated."""
    opinions = _opinions(task)
    if not opinions:
        return False
    image = _image(task, f"{path}, task {number}")
    active = set.intersection(*opinions)
    unknown = set.union(*opinions) - active
    rows.add(_on_this_disk(image, rows.source.root), sorted(active), row=number, split=split, unknown=sorted(unknown))
    return True


def _opinions(task: dict[str, Any]) -> list[set[str]]:
    """The labels that each annotator gave."""
    if "data" not in task:
        return [_labels(task[key]) for key in MINIMAL if key in task][:1]
    annotations = task.get("annotations") or task.get("completions") or []
    return [
        {label for result in annotation.get("result", []) for label in _result(result)}
        for annotation in annotations
        if not annotation.get("was_cancelled")
    ]


def _result(result: dict[str, Any]) -> set[str]:
    """Labels of one result: `value` holds them under the name of its type."""
    return _labels(result.get("value", {}).get(result.get("type"), []))


def _labels(value: Any) -> set[str]:
    """One label, a list of them, or an object or list of objects that holds some."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {label for inner in value.values() if isinstance(inner, list) for label in _labels(inner)}
    return {label for inner in value for label in _labels(inner)} if isinstance(value, list) else set()


def _image(task: dict[str, Any], where: str) -> str:
    data = task.get("data", task)
    named = data.get("image") or data.get("img")
    texts = [named] if named else [value for value in data.values() if _may_be_image(value)]
    if not texts:
        raise DataError(f"{where} names no image. Its data should have the key image.")
    return str(texts[0])


def _may_be_image(value: Any) -> bool:
    return isinstance(value, str) and value.lower().endswith(EXTENSIONS)


def _on_this_disk(address: str, root: Path) -> str:
    """The path of an address; without the letters of an upload where only the plain name lies in the root."""
    path = PurePosixPath(without_scheme(address))
    plain = UPLOADED.sub("", path.name)
    if plain != path.name and not (root / path.name).is_file():
        for folder in ("", "images"):
            if (root / folder / plain).is_file():
                return str(PurePosixPath(folder) / plain)
    return address
