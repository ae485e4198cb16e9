"""Every number that is reported of a model, each under the name of its convention."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.data.dataset import make_loader
from sadcl_core.data.manifest import Split
from sadcl_core.files import write_json, write_text
from sadcl_core.inference.opening import OpenedModel
from sadcl_core.inference.scoring import Scores, score
from sadcl_core.metrics import average_precision, precision_recall
from sadcl_core.progress import Progress

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Evaluation:
    """Results in percent.

    Attributes:
        classes: K names.
        images: how many were scored.
        images_per_second: reading included.
        threshold: a label counts when its score is above it.
        ap_interpolated: (K,), NaN without a positive.
        ap_non_interpolated: (K,), NaN without a positive.
        positives: (K,) images of each class.
        unknown: label decisions left out because the truth is not known.
        all_labels: the seven values over all labels.
        top: k -> the seven values over the k best labels of each image.
        subject: what was evaluated: dataset, split, img_size, model, limit; empty for bare arrays, which are not saved.
    """

    classes: tuple[str, ...]
    images: int
    images_per_second: float
    threshold: float
    ap_interpolated: npt.NDArray[np.float64]
    ap_non_interpolated: npt.NDArray[np.float64]
    positives: npt.NDArray[np.int64]
    unknown: int
    all_labels: dict[str, float]
    top: dict[int, dict[str, float]]
    subject: dict[str, Any] = field(default_factory=dict)

    @property
    def map_interpolated(self) -> float:
        """Mean over the classes with a positive; NaN when there is none."""
        return _mean(self.ap_interpolated)

    @property
    def map_non_interpolated(self) -> float:
        """Mean over the classes with a positive; NaN when there is none."""
        return _mean(self.ap_non_interpolated)

    @property
    def classes_without_positives(self) -> list[str]:
        """Classes left out of every mean."""
        return [name for name, count in zip(self.classes, self.positives, strict=True) if count == 0]

    def as_json(self) -> dict[str, Any]:
        """One document; what has no value is null."""
        per_class = [
            {
                "name": name,
                "positives": int(self.positives[k]),
                "AP_interpolated": _plain(self.ap_interpolated[k]),
                "AP_non_interpolated": _plain(self.ap_non_interpolated[k]),
            }
            for k, name in enumerate(self.classes)
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            "mAP_interpolated": _plain(self.map_interpolated),
            "mAP_non_interpolated": _plain(self.map_non_interpolated),
            "images": self.images,
            "classes": len(self.classes),
            "classes_evaluated": len(self.classes) - len(self.classes_without_positives),
            "classes_without_positives": self.classes_without_positives,
            "unknown_labels": self.unknown,
            "threshold": self.threshold,
            "all": {name: _plain(value) for name, value in self.all_labels.items()},
            **{f"top{k}": {name: _plain(value) for name, value in values.items()} for k, values in self.top.items()},
            "per_class": per_class,
            "images_per_second": round(self.images_per_second, 1),
            **self.subject,
        }

    def per_class_csv(self) -> str:
        """A row per class."""
        text = io.StringIO()
        rows = self.as_json()["per_class"]
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def evaluate_split(
    opened: OpenedModel,
    images: Split,
    *,
    threshold: float = 0.5,
    topk: tuple[int, ...] = (3,),
    batch_size: int = 32,
    workers: int | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score the images of a split and compute every number; `limit` keeps the first images only."""
    card = opened.model.card
    scored = score(
        opened.model.classifier,
        make_loader(images, card.preprocessing.resize, batch_size=batch_size, workers=workers, limit=limit),
        preprocessing=card.preprocessing,
        device=opened.device,
        precision=opened.precision,
        progress=progress,
    )
    subject = {
        "dataset": images.manifest.description.name,
        "split": images.name,
        "img_size": card.img_size,
        "model": str(opened.model.path),
        "limit": limit,
    }
    return evaluate(scored, card.classes, threshold=threshold, topk=topk, subject=subject)


def save_evaluation(result: Evaluation, folder: Path) -> Path:
    """Write the document and the table of classes as JSON and CSV; return the JSON's path.

    The name says what was evaluated, so that another model, size, threshold or number of images does not overwrite it; the
    run's name is left out inside the run.
    """
    subject = result.subject
    model = Path(subject["model"]).absolute()
    run = model.parent.parent
    parts = [subject["dataset"], subject["split"], str(subject["img_size"])]
    if not folder.absolute().is_relative_to(run):
        parts.insert(0, run.name)
    if model.stem != "best":
        parts.append(model.stem)
    if result.threshold != 0.5:
        parts.append(f"above-{result.threshold:g}")
    if subject["limit"] is not None:
        parts.append(f"first-{subject['limit']}")
    path = folder / f"{'-'.join(parts)}.json"
    write_json(path, result.as_json())
    write_text(path.with_suffix(".csv"), result.per_class_csv())
    return path


def evaluate(
    scored: Scores,
    classes: tuple[str, ...],
    *,
    threshold: float = 0.5,
    topk: tuple[int, ...] = (3,),
    subject: dict[str, Any] | None = None,
) -> Evaluation:
    """Compute every number.

    Args:
        scored: of N images.
        classes: K names.
        threshold: a label counts when its score is above it.
        topk: each gives a set of the seven values.
        subject: what was evaluated.

    Raises:
        ValueError: a score is NaN, or a k is below 1.
    """
    scores, targets = scored.scores, scored.targets
    return Evaluation(
        classes=classes,
        images=len(scores),
        images_per_second=scored.images_per_second,
        threshold=threshold,
        ap_interpolated=100 * average_precision(scores, targets, interpolated=True),
        ap_non_interpolated=100 * average_precision(scores, targets, interpolated=False),
        positives=(targets == 1).sum(axis=0),
        unknown=int((targets < 0).sum()),
        all_labels=_percent(precision_recall(scores, targets, threshold=threshold)),
        top={k: _percent(precision_recall(scores, targets, threshold=threshold, topk=k)) for k in topk},
        subject=subject or {},
    )


def _percent(values: dict[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in values.items()}


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
