"""Every number that is reported of a model, each under the name of its convention."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import GateError
from sadcl_core.evaluation.candidates import Candidate, file_name
from sadcl_core.evaluation.localise import Localisation
from sadcl_core.inference.score import Scores
from sadcl_core.inference.thresholds import DEFAULT, Thresholds, choose
from sadcl_core.metrics import (
    NAMES,
    average_precisions,
    bootstrap_average_precision,
    calibration_error,
    class_ratios,
    decision_counts,
    interval,
    mean_over_classes,
    precision_recall,
    ratios,
)
from sadcl_core.runtime.files import write_json, write_text
from sadcl_core.runtime.progress import Progress

SCHEMA_VERSION = 2
LEVEL = 0.95  # of the intervals
LEAST_POSITIVES = 5  # of a class, for an interval of its own: fewer images cannot say how sure they are
LEAST_IMAGES = 10  # for any interval
PERCENT = (0.0, 100.0)  # what they do not leave
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Uncertainty:
    """Intervals at 95 % by resampling images, in percent.

    Attributes:
        resamples: how many.
        map_interpolated: (low, high); NaN with fewer images than LEAST_IMAGES, like the others.
        map_non_interpolated: (low, high).
        ap_interpolated: (K, 2), NaN for a class with fewer positives than LEAST_POSITIVES.
    """

    resamples: int
    map_interpolated: tuple[float, float]
    map_non_interpolated: tuple[float, float]
    ap_interpolated: Floats


@dataclass(frozen=True)
class Evaluation:
    """Results in percent, but for scores and thresholds, which are in 0..1.

    Attributes:
        classes: K names.
        images: how many were scored.
        images_per_second: reading included; 0 when the scores came from a file.
        ap_interpolated: (K,), NaN without a positive.
        ap_non_interpolated: (K,), NaN without a positive.
        ap_eleven_point: (K,), NaN without a positive.
        positives: (K,) images of each class.
        unknown: label decisions left out because the truth is not known.
        thresholds: (K,), what the numbers of each class are taken at.
        all_labels: the seven values over all labels, at the thresholds, or as published (see `evaluate`).
        top: k -> the seven values over the k best labels of each image, the same way.
        own_thresholds: the seven values over all labels at the thresholds, where `all_labels` is as published.
        precision: (K,) at the thresholds; NaN without a positive, like the next two.
        recall: (K,).
        f1: (K,).
        calibration_error: expected calibration error over all decisions, in 0..1.
        class_calibration_error: (K,), in 0..1.
        uncertainty: where it was asked for.
        localisation: where there are boxes.
        subject: what was evaluated: dataset, split, img_size, model, limit and so on; empty for bare arrays.
    """

    classes: tuple[str, ...]
    images: int
    images_per_second: float
    ap_interpolated: Floats
    ap_non_interpolated: Floats
    ap_eleven_point: Floats
    positives: npt.NDArray[np.int64]
    unknown: int
    thresholds: Floats
    all_labels: dict[str, float]
    top: dict[int, dict[str, float]]
    own_thresholds: dict[str, float] | None
    precision: Floats
    recall: Floats
    f1: Floats
    calibration_error: float
    class_calibration_error: Floats
    uncertainty: Uncertainty | None = None
    localisation: Localisation | None = None
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
    def map_eleven_point(self) -> float:
        """Mean over the classes with a positive; NaN when there is none."""
        return _mean(self.ap_eleven_point)

    @property
    def classes_without_positives(self) -> list[str]:
        """Classes left out of every mean."""
        return [name for name, count in zip(self.classes, self.positives, strict=True) if count == 0]

    @property
    def rows(self) -> dict[str, dict[str, float]]:
        """The seven values of all labels, of the k best, and at the model's own thresholds where these are beside the others."""
        own = {} if self.own_thresholds is None else {"All, own thresholds": self.own_thresholds}
        return {"All": self.all_labels, **{f"Top-{k}": values for k, values in self.top.items()}, **own}

    @property
    def line(self) -> str:
        """The one line that says which number this is and how sure it is."""
        missing = len(self.classes_without_positives)
        low, high = self.uncertainty.map_interpolated if self.uncertainty is not None else (np.nan, np.nan)
        sure = "" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]"
        undefined = np.isnan(self.map_interpolated)
        parts = [
            "mAP not defined, no label is active" if undefined else f"mAP {self.map_interpolated:.1f}{sure} interpolated",
            *([] if undefined else [f"{self.map_non_interpolated:.1f} non-interpolated"]),
            f"{len(self.classes) - missing}/{len(self.classes)} classes",
            *([f"difficult {self.subject['difficult']}"] if self.subject.get("difficult") else []),
            *([f"{self.unknown:,} unknown labels left out"] if self.unknown else []),
            f"{self.images:,} image{'s' if self.images != 1 else ''}",
        ]
        return " · ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """One document; what has no value is null."""
        missing = self.classes_without_positives
        document: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "summary": self.line,
            "mAP_interpolated": plain(self.map_interpolated),
            "mAP_non_interpolated": plain(self.map_non_interpolated),
            "mAP_11_point": plain(self.map_eleven_point),
            "images": self.images,
            "classes": len(self.classes),
            "classes_evaluated": len(self.classes) - len(missing),
            "classes_without_positives": missing,
            "unknown_labels": self.unknown,
            "all": _plain_values(self.all_labels),
            **{f"top{k}": _plain_values(values) for k, values in self.top.items()},
            "ECE": plain(self.calibration_error),
            "per_class": [self._class_as_json(k) for k in range(len(self.classes))],
            "images_per_second": round(self.images_per_second, 1),
            **self.subject,
        }
        if self.own_thresholds is not None:
            document["own_thresholds"] = _plain_values(self.own_thresholds)
        if self.uncertainty is not None:
            document["resamples"] = self.uncertainty.resamples
            document["mAP_interpolated_interval"] = _plain_pair(self.uncertainty.map_interpolated)
            document["mAP_non_interpolated_interval"] = _plain_pair(self.uncertainty.map_non_interpolated)
        if self.localisation is not None:
            document["localisation"] = {name: plain(100 * value) for name, value in self.localisation.means().items()}
        return document

    def _class_as_json(self, k: int) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "name": self.classes[k],
            "positives": int(self.positives[k]),
            "AP_interpolated": plain(self.ap_interpolated[k]),
            "AP_non_interpolated": plain(self.ap_non_interpolated[k]),
            "AP_11_point": plain(self.ap_eleven_point[k]),
            "threshold": round(float(self.thresholds[k]), 6),
            "precision": plain(self.precision[k]),
            "recall": plain(self.recall[k]),
            "F1": plain(self.f1[k]),
            "ECE": plain(self.class_calibration_error[k]),
        }
        if self.uncertainty is not None:
            entry["AP_interpolated_interval"] = _plain_pair(self.uncertainty.ap_interpolated[k])
        if self.localisation is not None:
            entry["pointing_game"] = plain(100 * self.localisation.pointing[k])
            entry["box_energy"] = plain(100 * self.localisation.energy[k])
            entry["box_area"] = plain(100 * self.localisation.area[k])
        return entry

    def per_class_csv(self) -> str:
        """A row per class."""
        text = io.StringIO()
        rows = [_flat(entry) for entry in self.as_json()["per_class"]]
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def evaluate(
    scored: Scores,
    classes: tuple[str, ...],
    *,
    thresholds: npt.ArrayLike = 0.5,
    published: npt.NDArray[np.floating] | None = None,
    topk: tuple[int, ...] = (3,),
    resamples: int = 0,
    localisation: Localisation | None = None,
    subject: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compute every number.

    Args:
        scored: of N images.
        classes: K names.
        thresholds: one or K; a label counts when its score is above.
        published: (N, K) scores for the rows of the published tables, over all and the k best labels, at 0.5 whatever the
            thresholds are; None takes those rows at the thresholds.
        topk: each gives a set of the seven values.
        resamples: of the images, for the intervals; 0 for none.
        localisation: of the same model on the same images.
        subject: what was evaluated.
        progress: told how many resamples are done.

    Raises:
        ValueError: a score is NaN, or a k is below 1.
    """
    scores, targets = scored.scores, scored.targets
    limits = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), (len(classes),))
    counts = decision_counts(scores, targets, limits)
    said, level = (scores, limits) if published is None else (published, np.full(len(classes), DEFAULT))
    ap = average_precisions(scores, targets)
    errors = calibration_error(scores, targets)
    precision, recall, f1 = class_ratios(counts)
    return Evaluation(
        classes=classes,
        images=len(scores),
        images_per_second=scored.images_per_second if scored.seconds else 0.0,
        ap_interpolated=100 * ap.interpolated,
        ap_non_interpolated=100 * ap.non_interpolated,
        ap_eleven_point=100 * ap.eleven_point,
        positives=counts.true_positives + counts.false_negatives,
        unknown=sum(int((targets[:, k] < 0).sum()) for k in range(len(classes))),
        thresholds=limits,
        all_labels=_percent(ratios(counts) if published is None else precision_recall(said, targets, level)),
        top={k: _percent(precision_recall(said, targets, level, k)) for k in topk},
        own_thresholds=None if published is None else _percent(ratios(counts)),
        precision=100 * precision,
        recall=100 * recall,
        f1=100 * f1,
        calibration_error=errors.overall,
        class_calibration_error=errors.per_class,
        uncertainty=uncertainty(scored, 100 * ap.interpolated, 100 * ap.non_interpolated, resamples, progress)
        if resamples
        else None,
        localisation=localisation,
        subject=subject or {},
    )


def evaluate_candidate(
    candidate: Candidate,
    folder: Path,
    *,
    limits: Thresholds | None = None,
    topk: tuple[int, ...] = (3,),
    resamples: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Compute every number of a candidate, for a file in a folder.

    Args:
        candidate: what is evaluated.
        folder: where the result will be saved; decides whether its name has to name the run.
        limits: that were asked for; None takes 0.5 on the scores as trained for the rows, as in the published tables, and,
            where the model has thresholds of its own, these for the classes and for a row beside the others.
        topk: each gives a set of the seven values.
        resamples: of the images, for the intervals; 0 for none.
        progress: told how many resamples are done.

    Raises:
        ValueError: a score is NaN.
    """
    taken = limits or choose((str(DEFAULT),), candidate.classes)
    own = candidate.own_thresholds if limits is None else ()
    plain = candidate.scores.scores if candidate.as_trained is None else candidate.as_trained
    return evaluate(
        candidate.scores,
        candidate.classes,
        thresholds=own or taken.values,
        published=plain if own else None,
        topk=topk,
        resamples=resamples,
        localisation=candidate.localisation,
        subject={**candidate.about, "thresholds": taken.description, "name": file_name(candidate, taken.name, folder)},
        progress=progress,
    )


def uncertainty(
    scored: Scores, interpolated: Floats, non_interpolated: Floats, resamples: int, progress: Progress | None = None
) -> Uncertainty:
    """Intervals around AP (K,) in percent in both conventions; see `sadcl_core.metrics.bootstrap`."""
    samples = bootstrap_average_precision(scored.scores, scored.targets, samples=resamples, progress=progress)
    first, second = 100 * samples.interpolated, 100 * samples.non_interpolated  # (S, K)
    positives = np.array([np.count_nonzero(scored.targets[:, k] == 1) for k in range(first.shape[1])], dtype=np.int64)
    if len(scored.scores) < LEAST_IMAGES or positives.max(initial=0) < LEAST_POSITIVES:
        first, second = np.full((2, *first.shape), np.nan)
        interpolated, non_interpolated = np.full((2, first.shape[1]), np.nan)
    first_means, second_means = mean_over_classes(first, interpolated), mean_over_classes(second, non_interpolated)
    classes = [interval(first[:, k], interpolated[k], LEVEL, PERCENT) for k in range(first.shape[1])]
    sure = np.where((positives >= LEAST_POSITIVES)[:, None], np.array(classes, dtype=np.float64).reshape(-1, 2), np.nan)
    return Uncertainty(
        resamples=resamples,
        map_interpolated=interval(first_means, _mean(interpolated), LEVEL, PERCENT),
        map_non_interpolated=interval(second_means, _mean(non_interpolated), LEVEL, PERCENT),
        ap_interpolated=sure,
    )


def below(result: Evaluation, least: float | None) -> None:
    """Hold a result to the least interpolated mAP, in percent, that it has to reach.

    Raises:
        GateError: it does not, or has none.
    """
    value = result.map_interpolated
    if least is not None and np.isnan(value):
        raise GateError("No label is active, so there is no mAP for --min-map to hold. Check the labels, or --split.")
    if least is not None and value < least:
        raise GateError(f"mAP {value:.4f} interpolated is below --min-map {least:g}. Everything was saved.")


def save_evaluation(result: Evaluation, folder: Path) -> Path:
    """Write the document and the table of classes as JSON and CSV; return the JSON's path.

    What was written of another model, other scores or other labels under the same name is left alone: a number is added.
    """
    name, number = result.subject["name"], 1
    path = folder / f"{name}.json"
    while path.exists() and _evaluated(_read(path)) != _evaluated(result.subject):
        number += 1
        path = folder / f"{name}-{number}.json"
    write_json(path, result.as_json())
    write_text(path.with_suffix(".csv"), result.per_class_csv())
    return path


def _evaluated(subject: Mapping[str, Any]) -> dict[str, str]:
    """Which files an evaluation is of."""
    return {key: str(Path(subject[key]).resolve()) for key in ("model", "scores", "labels") if isinstance(subject.get(key), str)}


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of a class for a table: an interval becomes two columns."""
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, list):
            flat |= {f"{key}_low": value[0], f"{key}_high": value[1]}
        else:
            flat[key] = value
    return flat


def _percent(values: dict[str, float]) -> dict[str, float]:
    return {name: 100 * values[name] for name in NAMES}


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def plain(value: float, digits: int = 4) -> float | None:
    """A number as JSON has it: rounded, and null where there is none."""
    return None if np.isnan(value) else round(float(value), digits)


def _plain_pair(values: Any) -> list[float | None]:
    return [plain(value) for value in values]


def _plain_values(values: dict[str, float]) -> dict[str, float | None]:
    return {name: plain(value) for name, value in values.items()}
