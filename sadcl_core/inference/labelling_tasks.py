"""Write images with suggested labels for programs in which people label; what nobody confirms there is read back as unknown.

labelstudio  tasks with predictions; in the export a task without an annotation is left out
cvat         tags of source "auto"; where a person leaves them so they are unknown, and an image with no other has no known label
fiftyone     samples with a field of predictions, which carry a confidence; those without another field are left out
csv          a row an image, every class in its column `unknown` until a person fills in `labels`
"""

from __future__ import annotations

import csv
import json
from os.path import commonpath
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from sadcl_core.data.images import NamedImage, image_size
from sadcl_core.data.prepare.export import label_cell
from sadcl_core.errors import UsageError
from sadcl_core.inference.predict import printable_name
from sadcl_core.inference.suggest import Suggestions
from sadcl_core.registry import TASKS, resolve
from sadcl_core.runtime.files import replacing, to_cell, write_json, write_text

SUFFIXES = {"csv": ".csv", "cvat": ".xml"}  # .json unless named
SUGGESTED = "predictions"  # name of what a model says, as Label Studio and FiftyOne call it


def check_tasks(form: str, path: Path | None, *, exist_ok: bool) -> Path:
    """Return the file that a form is written to.

    Raises:
        UsageError: there is no such form, or the file exists.
    """
    resolve(TASKS, form, kind="form of suggestions")
    chosen = path or Path(f"to-label{SUFFIXES.get(form, '.json')}")
    if chosen.exists() and not exist_ok:
        raise UsageError(f"{chosen} is there already. Choose another with -o, or replace it with --exist-ok.")
    return chosen


def write_tasks(suggestions: Suggestions, form: str, path: Path) -> None:
    """Write images in a form of TASKS, the first to label first.

    Raises:
        DataError: for CVAT, the size of an image cannot be read.
        UsageError: the file cannot be written.
    """
    resolve(TASKS, form, kind="form of suggestions")(suggestions, path)


def _place(image: NamedImage) -> str:
    return printable_name(image.source.absolute() if isinstance(image.source, Path) else image.name)


def write_csv(suggestions: Suggestions, path: Path) -> None:
    """Write a row an image, the likeliest labels in its column `suggested`."""
    join = label_cell(suggestions.classes)
    unknown = json.dumps(suggestions.classes, ensure_ascii=False)  # a name may hold whatever separates labels
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "labels", "unknown", "suggested", "uncertainty", "distance"])
        for one in suggestions.chosen:
            texts = (_place(one.image), "", unknown, join([name for name, _ in one.labels]))
            distance = "" if one.distance is None else f"{one.distance:.4f}"
            writer.writerow([*map(to_cell, texts), f"{one.uncertainty:.4f}", distance])


def write_label_studio(suggestions: Suggestions, path: Path) -> None:
    """Write tasks with predictions in JSON."""
    tasks = [
        {
            "data": {"image": _place(one.image), "uncertainty": round(one.uncertainty, 4)},
            "annotations": [],
            SUGGESTED: [
                {
                    "model_version": "sadcl",
                    "score": round(one.labels[0][1], 6),
                    "result": [
                        {
                            "from_name": "labels",
                            "to_name": "image",
                            "type": "choices",
                            "value": {"choices": [name for name, _ in one.labels]},
                        }
                    ],
                }
            ],
        }
        for one in suggestions.chosen
    ]
    write_text(path, json.dumps(tasks, ensure_ascii=False, indent=1))


def write_cvat(suggestions: Suggestions, path: Path) -> None:
    """Write tags of source auto in XML; raises a DataError where the size of an image cannot be read."""
    places = [_place(one.image) for one in suggestions.chosen]
    files = [one.image.source.absolute() for one in suggestions.chosen if isinstance(one.image.source, Path)]
    above = commonpath([file.parent for file in files]) if files else ""
    names = [place.removeprefix(f"{printable_name(above)}/") for place in places]
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", "  <meta><task><labels>"]
    lines += [f"    <label><name>{escape(name)}</name><type>tag</type></label>" for name in suggestions.classes]
    lines.append("  </labels></task></meta>")
    for number, (name, one) in enumerate(zip(names, suggestions.chosen, strict=True)):
        source = one.image.fetch()
        width, height = image_size(source) if isinstance(source, Path) else (0, 0)
        lines.append(f'  <image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">')
        lines += [f'    <tag label={quoteattr(label)} source="auto"></tag>' for label, _ in one.labels]
        lines.append("  </image>")
    write_text(path, "\n".join([*lines, "</annotations>", ""]))


def write_fiftyone(suggestions: Suggestions, path: Path) -> None:
    """Write samples with a field of predictions in JSON."""
    samples = [
        {
            "filepath": _place(one.image),
            "tags": [],
            "uncertainty": round(one.uncertainty, 4),
            SUGGESTED: {
                "_cls": "Classifications",
                "classifications": [
                    {"_cls": "Classification", "label": name, "confidence": round(score, 6)} for name, score in one.labels
                ],
            },
        }
        for one in suggestions.chosen
    ]
    write_json(path, {"samples": samples})
