"""FiftyOne's exports: image classification and detection (`labels.json`), and its own data set (`samples.json`).

    labels.json     {"classes": ["cat", "dog"], "labels": {"a": [0, 1], "b": null}}
    samples.json    {"samples": [{"filepath": "data/a.jpg", "tags": ["train"],
                                  "ground_truth": {"_cls": "Classifications", "classifications": [{"label": "cat"}]}}]}
    data/a.jpg

An image whose label is null was not annotated and is left out. A field whose labels all carry a confidence is a model's, and read
only where it is named. Beside `positive_labels`, as Open Images has them, `negative_labels` are absent and all others unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.listing import Entry, Listing, choose, read_listing
from sadcl_core.data.formats.source import SPLIT_NAMES, UNASSIGNED, Source, split_name
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import mentions, read_json
from sadcl_core.errors import DataError

SUFFIXES = (".json",)
OPTIONS = ("label_column",)
FIELDS = ("ground_truth", "labels", "label")  # of a sample that hold its labels, not those that a model predicted
LISTS = ("classifications", "detections", "polylines")
POSITIVE, NEGATIVE = "positive_labels", "negative_labels"
OF_A_SAMPLE = ("tags",)  # read only where they are named


def recognises(path: Path) -> bool:
    """Return True if a file has the keys of an export."""
    return mentions(path, "samples", "filepath") or (mentions(path, "labels", "classes") and not mentions(path, "image"))


def read(source: Source) -> Manifest:
    """Read one export per split, or one of all.

    Raises:
        DataError: a file is not an export, or several fields may hold the labels.
    """
    return read_listing(source, "fiftyone", partial(_listing, chosen=source.reading.label_column), content="a FiftyOne export")


def _listing(path: Path, chosen: str) -> Listing:
    document = read_json(path)
    if "samples" in document:
        return _samples(document["samples"], path, chosen)
    classes = [str(name) for name in document.get("classes") or []]
    return Listing(classes, (_entry(image, label, classes) for image, label in document["labels"].items()))


def _samples(samples: list[dict[str, Any]], path: Path, chosen: str) -> Listing:
    labels = [(name, value) for sample in samples for name, value in sample.items() if _holds_labels(value)]
    of_people = {name for name, value in labels if name not in OF_A_SAMPLE and not _is_predicted(value)} | {chosen}
    fields = [name for name in dict.fromkeys(name for name, _ in labels) if name in of_people]
    if POSITIVE in fields and chosen in ("", POSITIVE):
        fields = [name for name in fields if name != NEGATIVE]
    if not fields and labels:
        names = sorted(dict.fromkeys(name for name, _ in labels), key=lambda name: name in OF_A_SAMPLE)
        raise DataError(
            f"{path} has no field with labels of people, only {', '.join(names)[:200]}: tags of samples, or what a model said, "
            f"with a confidence each. Say --label-column {names[0]} if that holds the labels."
        )
    field = choose(fields, chosen, FIELDS, path, "field")
    negative = NEGATIVE if field == POSITIVE and any(name == NEGATIVE for name, _ in labels) else ""
    others = sorted({name for name, _ in labels} - {field, negative, *OF_A_SAMPLE})
    notes = [f"labels from {field}{f', and {negative} are absent' if negative else ''}"]
    notes += [f"other fields that were not read: {', '.join(others)[:200]}"] if others else []
    return Listing((), (_of_sample(sample, field, negative) for sample in samples), notes)


def _of_sample(sample: dict[str, Any], field: str, negative: str) -> Entry | None:
    entry = _entry(sample["filepath"], sample.get(field), (), _split(sample) if field not in OF_A_SAMPLE else UNASSIGNED)
    if entry is None or not negative:
        return entry
    return entry._replace(absent=[_name(value, ()) for value in _values(sample.get(negative) or [])])


def _holds_labels(value: Any) -> bool:
    """Return True for a label, a list of labels, or a list of texts."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(inner, str) for inner in value)
    return isinstance(value, dict) and ("label" in value or any(isinstance(value.get(name), list) for name in LISTS))


def _is_predicted(value: Any) -> bool:
    """Return True for labels that each carry a confidence: a model says how sure it is, a person does not, or is sure."""
    inner = (
        value if isinstance(value, list) else next((value[name] for name in LISTS if isinstance(value.get(name), list)), [value])
    )
    sure = [one.get("confidence") if isinstance(one, dict) else None for one in inner]
    return any(one not in (0, 1) for one in sure) and all(isinstance(one, int | float) for one in sure)


def _split(sample: dict[str, Any]) -> str:
    """Return the split that a sample's tags name, if they name one."""
    splits = {split_name(tag) for tag in sample.get("tags") or ()} & set(SPLIT_NAMES.values())
    return splits.pop() if len(splits) == 1 else UNASSIGNED


def _entry(image: str, label: Any, classes: list[str] | tuple[()], split: str = UNASSIGNED) -> Entry | None:
    return None if label is None else Entry(image, [_name(value, classes) for value in _values(label)], split=split)


def _values(label: Any) -> Iterator[Any]:
    """Yield the names or numbers of a label: one, a list, or an object that holds some."""
    if isinstance(label, list):
        for inner in label:
            yield from _values(inner)
    elif isinstance(label, dict):
        inner = next((label[name] for name in LISTS if isinstance(label.get(name), list)), None)
        yield from _values(label["label"] if inner is None else inner)
    else:
        yield label


def _name(value: Any, classes: list[str] | tuple[()]) -> str:
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise TypeError(f"{value!r:.60} is not a label")
    if isinstance(value, int) and classes:
        if not 0 <= value < len(classes):
            raise ValueError(f"label {value}, but there are {len(classes)} classes, counted from 0")
        return classes[value]
    return str(value)
