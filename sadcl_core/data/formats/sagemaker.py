"""Augmented manifests of Amazon SageMaker Ground Truth and Rekognition: a JSON object a line.

    {"source-ref": "s3://bucket/a.jpg", "job": [0, 2],
     "job-metadata": {"class-map": {"0": "cat", "2": "dog"}, "type": "groundtruth/image-classification-multilabel"}}
    {"source-ref": "s3://bucket/b.jpg", "cat": 1, "cat-metadata": {"class-name": "cat", ...}}

Several classes, one class, or boxes; where an image has several jobs, all of them count. Images are found by the last parts of
their address.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.tables import filled_lines, first_line, json_line
from sadcl_core.errors import DataError

SUFFIXES = (".manifest", ".jsonl", ".json")
PARTS = True
DEEPER = ("*/output/output.manifest", "*/*/output/output.manifest")  # as it lies in a bucket
# types of jobs without labels of images
OTHERS = ("semantic-segmentation", "label-verification", "adjustment", "worker-selection")
IMAGE = "source-ref"
ABOUT = "-metadata"


def recognises(path: Path) -> bool:
    """Return True if the first line names an image as Ground Truth does."""
    row = json.loads(first_line(path) or "null")
    return isinstance(row, dict) and IMAGE in row


def _listing(path: Path) -> Listing:
    entries: list[Entry | None] = []
    others: dict[str, str] = {}  # jobs that are not read, and their types
    for number, line in filled_lines(path):
        row = json_line(line, path, number)
        types = {name: str(row[f"{name}{ABOUT}"].get("type", "")) for name in row if f"{name}{ABOUT}" in row}
        others |= {name: kind for name, kind in types.items() if kind.endswith(OTHERS)}
        jobs = [name for name in types if name not in others]
        labels = [label for job in jobs for label in _labels(job, row[job], row[f"{job}{ABOUT}"])]
        entries.append(Entry(row[IMAGE], labels) if jobs else None)  # None: no job has labelled it
    shown = ", ".join(f"{name} ({kind.rpartition('/')[2]})" for name, kind in others.items())[:200]
    if shown and not any(entries):
        raise DataError(f"{path} has no labels of images or boxes, only {shown}. Give the manifest of a labelling job.")
    return Listing((), entries, [f"jobs that were not read: {shown}"] if shown else [])


def _labels(job: str, value: Any, about: dict[str, Any]) -> list[str]:
    """Return the names of one job's labels."""
    if isinstance(value, dict):  # boxes
        return [str(about["class-map"][str(box["class_id"])]) for box in value["annotations"]]
    if isinstance(value, list):  # several classes
        return [str(about["class-map"][str(number)]) for number in value]
    if not isinstance(value, (int, float)):
        raise TypeError(f"{value!r:.60} is not a label")
    name = str(about["class-name"])
    return [name] if value or not job.endswith(name) else []  # a job called after its class says 1 or 0


read = partial(read_listing, kind="sagemaker", parse=_listing, content="a manifest of Ground Truth")
