"""The result of an evaluation: its numbers, its files, and the gate that it may have to pass."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import GateError
from sadcl_core.evaluation.columns import INTERVAL, MEASURES, NUMBERS, PER_CLASS, plain
from sadcl_core.runtime.files import to_cell, write_json, write_text
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from sadcl_core.evaluation.published_rows import RowsWithOurs
    from sadcl_core.metrics.label_errors import SuspectedError

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one model, or of scores from a file. `sadcl_core.evaluation.columns` says what each means.

    Attributes:
        classes: K names.
        numbers: of the whole set, by the keys of `columns.NUMBERS`; percent unless the column says otherwise.
        per_class: (K,) each, or (K, 2) of an interval, by the keys of `columns.PER_CLASS`; NaN where a class has no value.
        rows: the seven values of `columns.MEASURES` in percent, of "all" labels, of the k best of each image ("top3"), and, where
            those are as published, at the model's "own_thresholds".
        subject: what was evaluated: dataset, split, img_size, model, limit and so on; empty for bare arrays.
        tuned_here: the thresholds of the model were chosen on these very images, so the numbers at them are too good.
        suspects: suspected label errors, the most suspicious first; None unless requested.
        against: our row beside those of a table; None unless requested.
        files: what was written, by kind: json, csv, scores, label_errors, report.
    """

    classes: tuple[str, ...]
    numbers: dict[str, Any]
    per_class: dict[str, npt.NDArray[Any]]
    rows: dict[str, dict[str, float]]
    subject: dict[str, Any] = field(default_factory=dict)
    tuned_here: bool = False
    suspects: tuple[SuspectedError, ...] | None = None
    against: RowsWithOurs | None = None
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def map_interpolated(self) -> float:
        """Return the mean AP in percent over the classes with a positive; NaN when there is none."""
        return float(self.numbers["mAP_interpolated"])

    @property
    def map_non_interpolated(self) -> float:
        """Return the mean AP in percent over the classes with a positive; NaN when there is none."""
        return float(self.numbers["mAP_non_interpolated"])

    @property
    def thresholds(self) -> npt.NDArray[np.float64]:
        """Return the score above which each class counts, (K,) in 0..1."""
        return self.per_class["threshold"]

    @property
    def classes_without_positives(self) -> list[str]:
        """Return the classes that are left out of every mean."""
        return [name for name, count in zip(self.classes, self.per_class["positives"], strict=True) if count == 0]

    @property
    def classes_without_negatives(self) -> list[str]:
        """Return the classes that are left out of the mAP, because every ranking of theirs is perfect."""
        columns = (self.classes, self.per_class["positives"], self.per_class["AP_interpolated"])
        return [name for name, count, ap in zip(*columns, strict=True) if count and np.isnan(ap)]

    @property
    def summary(self) -> str:
        """Return the line that says which mAP this is, and how sure it is."""
        n = self.numbers
        low, high = n.get(f"mAP_interpolated{INTERVAL}", (np.nan, np.nan))
        around = "" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]"
        if np.isnan(self.map_interpolated):
            none = "no class is active in some images and inactive in others" if any(self.per_class["positives"]) else ""
            parts = [f"mAP not defined, {none or 'no label is active'}"]
        else:
            parts = [f"mAP {self.map_interpolated:.1f}{around} interpolated", f"{self.map_non_interpolated:.1f} non-interpolated"]
        parts.append(f"{n['classes_evaluated']}/{n['classes']} classes")
        if self.subject.get("difficult"):
            parts.append(f"difficult {self.subject['difficult']}")
        if n["unknown_labels"]:
            kind = "given or unknown" if self.subject.get("known_share") else "unknown"
            parts.append(f"{n['unknown_labels']:,} {kind} labels left out")
        return " · ".join([*parts, counted(n["images"], "image")])

    def as_json(self) -> dict[str, Any]:
        """Return one document; what has no value is None."""
        return {
            "schema_version": SCHEMA_VERSION,
            "summary": self.summary,
            **{column.key: plain(self.numbers[column.key], column.stored) for column in NUMBERS if column.key in self.numbers},
            "classes_without_positives": self.classes_without_positives,
            "classes_without_negatives": self.classes_without_negatives,
            **{row: {column.key: plain(column.value(values)) for column in MEASURES} for row, values in self.rows.items()},
            "per_class": [self._class_as_json(k) for k in range(len(self.classes))],
            **self.subject,
        }

    def _class_as_json(self, k: int) -> dict[str, Any]:
        columns = [column for column in PER_CLASS if column.key in self.per_class]
        values = {column.key: plain(self.per_class[column.key][k], column.stored) for column in columns}
        return {"name": self.classes[k], **values}

    def as_csv(self) -> str:
        """Return the table of classes, a row each; an interval is two columns."""
        text = io.StringIO()
        columns = [column.key for column in PER_CLASS if column.key in self.per_class]
        header = [name for key in columns for name in ((f"{key}_low", f"{key}_high") if key.endswith(INTERVAL) else (key,))]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["name", *header])
        for k in range(len(self.classes)):
            name, *values = self._class_as_json(k).values()
            cells = [cell for value in values for cell in (value if isinstance(value, list) else [value])]
            writer.writerow([to_cell(name), *cells])
        return text.getvalue()

    def save(self, folder: Path) -> Path:
        """Write the document and the table of classes as JSON and CSV into a folder; return the path of the JSON.

        A file of another model, other scores or other labels under the same name is left alone: a number is added.

        Raises:
            UsageError: the folder cannot be written to.
        """
        name, number = self.subject["name"], 1
        path = folder / f"{name}.json"
        while path.exists() and _sources(_read(path)) != _sources(self.subject):
            number += 1
            path = folder / f"{name}-{number}.json"
        write_json(path, self.as_json())
        write_text(path.with_suffix(".csv"), self.as_csv())
        return path

    def require_map(self, least: float | None) -> None:
        """Raise a GateError unless the interpolated mAP reaches this, in percent; None is always reached."""
        value = self.map_interpolated
        if least is not None and np.isnan(value):
            raise GateError("No mAP is defined for --min-map to hold: see what was left out. Check the labels, or --split.")
        if least is not None and value < least:
            raise GateError(f"mAP {value:.4f} interpolated is below --min-map {least:g}. Everything was saved.")


def row_title(key: str) -> str:
    """Return the heading of one of the `rows` of an evaluation.

    Example:
        >>> [row_title(key) for key in ("all", "top3", "own_thresholds")]
        ['All', 'Top-3', 'All, own thresholds']
    """
    return {"all": "All", "own_thresholds": "All, own thresholds"}.get(key) or key.replace("top", "Top-")


def _sources(subject: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that an evaluation is of."""
    return {key: str(Path(subject[key]).resolve()) for key in ("model", "scores", "labels") if isinstance(subject.get(key), str)}


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}
