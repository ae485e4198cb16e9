"""Calibrate a model on held-out images: a temperature, a bias and a threshold for each class, and what they are good for.

What they are good for is measured by cross-fitting: they are made on four fifths of the images and tried on the others, five
times. What is kept is made on all of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from sadcl_core.data.prepare.stratify import stratify
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.columns import plain
from sadcl_core.evaluation.evaluate import refuse_bad_output, results_folder
from sadcl_core.evaluation.scored_split import ScoredSplit, ScoringOptions, score_or_read
from sadcl_core.inference.load import Model, ModelFile, find_card, load_trained
from sadcl_core.inference.thresholds import AS_THEY_ARE, CALIBRATED, SCALE, ThresholdRequest, write_thresholds
from sadcl_core.metrics.calibration import (
    CrossFit,
    Objective,
    ProbabilityMap,
    TunedThresholds,
    before_calibration,
    choose_thresholds,
    cross_fit,
    fit_probabilities,
    parse_objective,
)
from sadcl_core.runs.card import is_checkpoint, read_card
from sadcl_core.runs.onnx_file import is_onnx
from sadcl_core.runtime.launcher import is_main_process
from sadcl_core.runtime.progress import StagedProgress

FOLDS = 5
SEED = 0
SCHEMA_VERSION = 1
BY_HAND = "thresholds by hand"


@dataclass(frozen=True)
class Calibration:
    """Temperatures, biases and thresholds of a scored split.

    Attributes:
        objective: what the thresholds were chosen for.
        scored: the images, with scores as trained.
        probabilities: temperature and bias per class.
        thresholds: per class, for the calibrated scores.
        benefit: measured by cross-fitting.
        path: the file of thresholds, once it is written.
    """

    objective: Objective
    scored: ScoredSplit
    probabilities: ProbabilityMap
    thresholds: TunedThresholds
    benefit: CrossFit
    path: Path | None = None

    @property
    def about(self) -> dict[str, Any]:
        """Return the objective and the data of the calibration, as they go into the model file."""
        keys = ("dataset", "split", "img_size", "data_fingerprint", "limit")
        data = {key: self.scored.about[key] for key in keys if self.scored.about.get(key) is not None}
        return {"objective": str(self.objective), "images": len(self.scored), **data}

    def as_json(self) -> dict[str, Any]:
        """Return everything that was measured; percent where the tables have it."""
        benefit, tuned = self.benefit, self.thresholds
        rows = {"at_0.5": benefit.before, "one_threshold": benefit.shared, "per_class": benefit.after}
        classes = [
            {
                "name": name,
                "positives": int(tuned.positives[k]),
                "threshold": plain(tuned.values[k], 6),
                "threshold_alone": plain(tuned.own[k], 6),
                "reached": bool(tuned.reached[k]),
                "temperature": plain(self.probabilities.temperatures[k], 6),
                "bias": plain(self.probabilities.biases[k], 6),
                "F1_at_0.5": plain(100 * benefit.class_f1_before[k]),
                "F1_held_out": plain(100 * benefit.class_f1_after[k]),
                "achieved_held_out": plain(100 * benefit.achieved[k]),
            }
            for k, name in enumerate(self.scored.classes)
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            **self.about,
            "folds": FOLDS,
            "held_out": {name: {key: plain(100 * value) for key, value in row.items()} for name, row in rows.items()},
            "ECE_before": plain(benefit.error_before.overall),
            "ECE_after": plain(benefit.error_after.overall),
            "threshold_for_all": plain(tuned.global_value, 6),
            "per_class": classes,
        }

    def save(self, folder: Path) -> Path:
        """Write the thresholds, and all that was measured, as one JSON file that `--threshold` reads; return its path.

        Thresholds of a model are for its calibrated scores; those of a file of scores, which nothing calibrates, for the scores
        as they are.
        """
        values, scale = self.thresholds.values, CALIBRATED
        if self.scored.model is None:
            values, scale = before_calibration(values, self.probabilities), AS_THEY_ARE
        name = self.scored.file_name(f"thresholds-{str(self.objective).replace('>=', '-')}", folder)
        return write_thresholds(folder / f"{name}.json", self.scored.classes, values.tolist(), {**self.as_json(), SCALE: scale})

    def store(self, model: Model) -> None:
        """Put the calibration into the model's file, and leave its weights as they are.

        Raises:
            UsageError: the model was run at another image size than its file is for, or the file cannot be written.
        """
        refuse_to_store(model.path, model.card.img_size)
        _write(
            model,
            temperatures=tuple(self.probabilities.temperatures.tolist()),
            biases=tuple(self.probabilities.biases.tolist()),
            thresholds=tuple(self.thresholds.values.tolist()),
            calibrated=self.about,
        )


def calibrate(
    run_or_scores: str | Path | None = None,
    objective: str = "f1",
    *,
    img_size: int | None = None,
    output: str | Path | None = None,
    progress: StagedProgress | None = None,
    **scoring: Unpack[ScoringOptions],
) -> Calibration:
    """Choose temperatures, biases and thresholds on held-out images, write them, and put them into the model file.

    Args:
        run_or_scores: a run, a model file, None for the run that finished last; or a file of scores.
        objective: `f1`, `precision>=P` or `recall>=R`.
        img_size: the size that the model file is for; no other is allowed.
        output: folder for the file of thresholds; `eval` inside the run, or here, unless given.
        progress: called with what is done, how far, and of how many.
        **scoring: data, split, labels, logits, by_order, batch_size, limit, device, precision, workers and listen, as
            of `sadcl_core.evaluate`.

    Raises:
        DataError: there are too few images, or nothing is active.
        UsageError: the objective makes no sense, the model was trained on the images, or its file cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> targets = np.arange(40)[:, None] % 4 == 0
        >>> np.savez(folder / "s.npz", scores=np.where(targets, 0.3, 0.1), targets=targets.astype(np.int8))
        >>> calibration = calibrate(folder / "s.npz", output=folder)
        >>> calibration.path.name, calibration.benefit.after["macro_F1"]
        ('s-eval-thresholds-f1.json', 1.0)
    """
    refuse_bad_output(output)
    aim = parse_objective(objective)

    def check_split(file: ModelFile, images: Split) -> None:
        from sadcl_core.inference.split import refuse_trained_on

        refuse_trained_on(file, images)

    scored = score_or_read(
        run_or_scores,
        img_size=img_size,
        uncalibrated=True,
        check_card=lambda path, card: refuse_to_store(path, img_size),
        check_split=check_split,
        progress=progress,
        **scoring,
    )
    calibration = fit_calibration(scored, aim)
    if is_main_process():
        calibration = replace(calibration, path=calibration.save(results_folder(scored, output)))
        if isinstance(scored.model, Model):
            calibration.store(scored.model)
    return calibration


def remove_calibration(run_or_file: str | Path | None = None) -> Path:
    """Write a model's file without its calibration, its weights unchanged, and return its path.

    Args:
        run_or_file: a run, a model file, or None for the run that finished last.

    Raises:
        DataError: there is no model, or it is damaged.
        UsageError: the file cannot be written.
    """
    path, _, _ = find_card(run_or_file)
    refuse_to_store(path)
    _write(load_trained(path, device="cpu"))
    return path


def store_thresholds(model: Model, thresholds: ThresholdRequest) -> Model:
    """Put thresholds of a person's choice into a model's file, and return the model with them.

    Weights and calibrated probabilities do not change; a class that is not named keeps its threshold.

    Raises:
        UsageError: there is no such class, a threshold is not in 0..1, or the file cannot be written.
    """
    refuse_to_store(model.path, model.card.img_size)
    card = model.card
    _write(
        model,
        temperatures=card.temperatures,
        biases=card.biases,
        thresholds=model.choose_thresholds(thresholds).values,
        calibrated={**card.calibrated, "objective": BY_HAND} if card.calibrated else {},
    )
    return replace(model, card=read_card(model.path))


def fit_calibration(scored: ScoredSplit, objective: Objective) -> Calibration:
    """Fit on all images of a split, by their scores as trained.

    Raises:
        DataError: there are fewer images than folds, or nothing is positive.
    """
    scores, targets = scored.scores, scored.targets
    if len(scores) < 2 * FOLDS or not (targets == 1).any():
        raise DataError(
            f"{scored.name}: {len(scores):,} images with {int((targets == 1).sum()):,} labels are too few to calibrate on. "
            f"Give at least {2 * FOLDS} images that show something."
        )
    benefit = cross_fit(scores, targets, objective, make_folds(targets))
    probabilities = fit_probabilities(scores, targets)
    thresholds = choose_thresholds(scores, targets, objective, probabilities=probabilities)
    return Calibration(objective, scored, probabilities, thresholds, benefit)


def make_folds(targets: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Return the fold of each image, (N,), every class spread evenly over them (iterative stratification)."""
    rows, labels = np.nonzero(targets == 1)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(targets)))]).astype(np.int64)
    return stratify(labels.astype(np.int32), ends, [1 / FOLDS] * FOLDS, seed=SEED)


def refuse_to_store(path: Path, img_size: int | None = None) -> None:
    """Raise a UsageError when a model file cannot be written, or the model is run at another image size than it is for."""
    if is_checkpoint(path):
        raise UsageError(
            f"{path} is of another program, so no calibration is kept in it. Import it: sadcl import {quote(str(path))} -o RUN."
        )
    if is_onnx(path):
        raise UsageError(f"The calibration of {path} is a part of its network. Calibrate the run, and export it again.")
    folder = path.resolve().parent
    if not os.access(folder, os.W_OK):
        raise UsageError(
            f"{folder} cannot be written to, so the calibration cannot be kept in the model. "
            "Copy the model file to another place, and name the copy with -w and the data with --data."
        )
    own = read_card(path).img_size
    if img_size not in (None, own):
        raise UsageError(f"{path} is for images of {own} px, and thresholds belong to a size. Calibrate without --img-size.")


def _write(model: Model, **calibration: Any) -> None:
    """Write the model file with this calibration, and none of the one before; where it is a link, the file behind it."""
    from sadcl_core.runs.checkpoint import save_model

    card = model.card.as_trained.model_copy(update=calibration)
    save_model(model.path.resolve(), model.classifier.state_dict(), card)
