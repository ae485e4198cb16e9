"""Calibrate a model on held-out images: a temperature, a bias and a threshold for each class, and what they are good for.

What they are good for is measured by cross-fitting: they are made on four fifths of the images and tried on the others, five
times. What is kept is made on all of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.data.prepare.stratify import stratify
from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.candidates import Candidate, file_name
from sadcl_core.evaluation.evaluate import plain
from sadcl_core.inference.load import Model
from sadcl_core.inference.thresholds import AS_THEY_ARE, CALIBRATED, SCALE, write_thresholds
from sadcl_core.metrics.calibration import (
    CrossFit,
    Objective,
    ProbabilityMap,
    TunedThresholds,
    before_calibration,
    choose_thresholds,
    cross_fit,
    fit_probabilities,
)
from sadcl_core.runs.checkpoint import ModelCard, read_card, save_model

FOLDS = 5
SEED = 0
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Calibrated:
    """What calibration made of a candidate.

    Attributes:
        objective: what the thresholds were chosen for.
        candidate: as it was given.
        probabilities: temperature and bias per class.
        thresholds: per class, for the calibrated scores.
        benefit: measured by cross-fitting.
    """

    objective: Objective
    candidate: Candidate
    probabilities: ProbabilityMap
    thresholds: TunedThresholds
    benefit: CrossFit

    @property
    def about(self) -> dict[str, Any]:
        """What it was made for and on; goes into the model file."""
        about = self.candidate.about
        kept = ("dataset", "split", "img_size", "data_fingerprint", "limit")
        known = {key: about[key] for key in kept if about.get(key) is not None}
        return {"objective": str(self.objective), "images": len(self.candidate.scores.scores), **known}

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured; percent where the tables have it."""
        benefit, own = self.benefit, self.thresholds
        rows = {"at_0.5": benefit.before, "one_threshold": benefit.shared, "per_class": benefit.after}
        classes = [
            {
                "name": name,
                "positives": int(own.positives[k]),
                "threshold": plain(own.values[k], 6),
                "threshold_alone": plain(own.own[k], 6),
                "reached": bool(own.reached[k]),
                "temperature": plain(self.probabilities.temperatures[k], 6),
                "bias": plain(self.probabilities.biases[k], 6),
                "F1_at_0.5": plain(100 * benefit.class_f1_before[k]),
                "F1_held_out": plain(100 * benefit.class_f1_after[k]),
                "achieved_held_out": plain(100 * benefit.achieved[k]),
            }
            for k, name in enumerate(self.candidate.classes)
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            **self.about,
            "folds": FOLDS,
            "held_out": {name: {key: plain(100 * value) for key, value in row.items()} for name, row in rows.items()},
            "ECE_before": plain(benefit.error_before.overall),
            "ECE_after": plain(benefit.error_after.overall),
            "threshold_for_all": plain(own.global_value, 6),
            "per_class": classes,
        }


def calibrate(candidate: Candidate, objective: Objective) -> Calibrated:
    """Fit on all images of a candidate whose scores are as trained.

    Raises:
        DataError: there are fewer images than folds, or nothing is positive.
    """
    scores, targets = candidate.scores.scores, candidate.scores.targets
    if len(scores) < 2 * FOLDS or not (targets == 1).any():
        raise DataError(
            f"{candidate.name}: {len(scores):,} images with {int((targets == 1).sum()):,} labels are too few to calibrate on. "
            f"Give at least {2 * FOLDS} images that show something."
        )
    benefit = cross_fit(scores, targets, objective, folds(targets))
    probabilities = fit_probabilities(scores, targets)
    thresholds = choose_thresholds(scores, targets, objective, probabilities=probabilities)
    return Calibrated(objective, candidate, probabilities, thresholds, benefit)


def folds(targets: npt.NDArray[np.int8], number: int = FOLDS) -> npt.NDArray[np.int8]:
    """(N,) fold of each image, every class spread evenly over them (iterative stratification)."""
    rows, labels = np.nonzero(targets == 1)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(targets)))]).astype(np.int64)
    return stratify(labels.astype(np.int32), ends, [1 / number] * number, seed=SEED)


def store(made: Calibrated, opened: Model) -> None:
    """Put the calibration into the model's file; its weights stay what they are.

    Raises:
        UsageError: the model was run at another image size than its file is for, or the file cannot be written.
    """
    card = opened.card.as_trained.model_copy(
        update={
            "temperatures": tuple(float(value) for value in made.probabilities.temperatures),
            "biases": tuple(float(value) for value in made.probabilities.biases),
            "thresholds": tuple(float(value) for value in made.thresholds.values),
            "calibrated": made.about,
        }
    )
    _write(opened, card)


def take_away(opened: Model) -> None:
    """Write a model's file without its calibration; its weights stay what they are.

    Raises:
        UsageError: the file cannot be written.
    """
    _write(opened, opened.card.as_trained)


def _write(opened: Model, card: ModelCard) -> None:
    refuse_to_store(opened)
    save_model(opened.path.resolve(), opened.classifier.state_dict(), card)  # where it is a link, the file it means


def refuse_to_store(opened: Model) -> None:
    """Raise a UsageError when a model is run at another image size than its file is for, or its file cannot be written."""
    file = opened.path.resolve()
    if not os.access(file.parent, os.W_OK):
        raise UsageError(
            f"{file.parent} cannot be written to, so the calibration cannot be kept in the model. "
            "Copy the model file to another place, and name the copy with -w and the data with --data."
        )
    own = read_card(opened.path).img_size
    if own != opened.card.img_size:
        raise UsageError(
            f"{opened.path} is for images of {own} px, and thresholds belong to a size. Calibrate without --img-size."
        )


def save_calibration(made: Calibrated, folder: Path) -> Path:
    """Write the thresholds, and all that was measured, as one JSON file that `--threshold` reads; return its path.

    Thresholds of a model are for its calibrated scores; those of a file of scores, which nothing calibrates, for the scores
    as they are.
    """
    candidate, values = made.candidate, made.thresholds.values
    objective = str(made.objective).replace(">=", "-")
    name = file_name(candidate, f"thresholds-{objective}", folder)
    scale = CALIBRATED
    if candidate.opened is None:
        values, scale = before_calibration(values, made.probabilities), AS_THEY_ARE
    document = {**made.as_json(), SCALE: scale}
    return write_thresholds(folder / f"{name}.json", candidate.classes, values.tolist(), document)
