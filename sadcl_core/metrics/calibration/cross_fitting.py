"""The worth of calibration on images it has not seen: tuned on all folds but one, judged on that one, fold after fold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import Scores, Targets
from sadcl_core.metrics.calibration.columns import checked_probabilities
from sadcl_core.metrics.calibration.objective import Objective
from sadcl_core.metrics.calibration.probabilities import apply_probabilities, fit_probabilities
from sadcl_core.metrics.calibration.thresholds import DEFAULT, choose_thresholds, global_threshold
from sadcl_core.metrics.calibration_error import CalibrationError, bin_sums
from sadcl_core.metrics.precision_recall import class_ratios, decision_counts, ratios

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CrossFit:
    """Decisions and probabilities on held-out images, counts summed over the folds.

    Three ways to decide: `before` takes the scores as they are, above 0.5; `shared` takes them above one tuned threshold
    for all classes, the least that tuning can do and so the fair rival; `after` takes calibrated scores above a tuned
    threshold per class. Each is the seven values of `sadcl_core.metrics.precision_recall.ratios`.

    Attributes:
        before: at 0.5.
        shared: at one tuned threshold.
        after: at a tuned threshold per class.
        class_f1_before: (K,) in 0..1; NaN for a class without a positive.
        class_f1_after: (K,) the same.
        error_before: calibration error of the scores.
        error_after: of the calibrated scores.
        achieved: (K,) the F1, precision or recall of the objective, as `after` has it; NaN for a class without a
            positive, and the precision of a class that is never predicted.
        held: (K,) whether `achieved` reaches the objective, never where it is NaN; None with f1.
    """

    before: dict[str, float]
    shared: dict[str, float]
    after: dict[str, float]
    class_f1_before: Values
    class_f1_after: Values
    error_before: CalibrationError
    error_after: CalibrationError
    achieved: Values
    held: npt.NDArray[np.bool_] | None


def cross_fit(scores: npt.ArrayLike, targets: npt.ArrayLike, objective: Objective, folds: npt.ArrayLike) -> CrossFit:
    """Calibrate on all folds but one and count on that one, for each fold in turn; holds one mapped copy of the scores.

    Args:
        scores: (N, K) in 0..1, of images the model was not trained on.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        objective: what the thresholds are tuned for.
        folds: (N,) whole numbers, which fold an image is in; at least two.

    Raises:
        ValueError: see `sadcl_core.metrics.calibration.columns.checked_probabilities`; or folds are not (N,) or fewer than two.

    Example:
        >>> scores, targets = np.array([[0.4], [0.3], [0.1], [0.05]] * 4), np.array([[1], [1], [0], [0]] * 4)
        >>> result = cross_fit(scores, targets, Objective("f1"), np.arange(16) // 4)
        >>> result.before["macro_F1"], result.after["macro_F1"]
        (0.0, 1.0)
    """
    score_array, target_array = checked_probabilities(scores, targets)
    fold_array = np.asarray(folds)
    if fold_array.shape != score_array.shape[:1] or len(np.unique(fold_array)) < 2:
        raise ValueError(f"folds {fold_array.shape} must name one of two or more folds for each of {len(score_array)} images")
    parts = zip(*_folds(score_array, target_array, objective, fold_array), strict=True)
    before, shared, after, raw, calibrated = (reduce(add, part) for part in parts)
    precision, recall, f1 = class_ratios(after)
    achieved = {"precision": precision, "recall": recall, "f1": f1}[objective.kind]
    if objective.kind == "precision":
        achieved[after.true_positives + after.false_positives == 0] = np.nan
    return CrossFit(
        before=ratios(before),
        shared=ratios(shared),
        after=ratios(after),
        class_f1_before=class_ratios(before)[2],
        class_f1_after=f1,
        error_before=raw.errors(),
        error_after=calibrated.errors(),
        achieved=achieved,
        held=None if objective.at_least is None else achieved >= objective.at_least,
    )


def _folds(scores: Scores, targets: Targets, objective: Objective, folds: npt.NDArray[np.integer]) -> Iterator[tuple[Any, ...]]:
    """Yield of each fold the counts before, with one threshold and after, and the bins of the scores and of the calibrated."""
    for fold in np.unique(folds):
        away = folds == fold
        known = np.where(away[:, None], np.int8(-1), targets.astype(np.int8, copy=False))  # unknown labels are not tuned on
        fitted = fit_probabilities(scores, known)
        thresholds = choose_thresholds(scores, known, objective, probabilities=fitted).values
        raw, truth = scores[away], targets[away]
        calibrated = apply_probabilities(raw, fitted.temperatures, fitted.biases)
        yield (
            decision_counts(raw, truth, DEFAULT),
            decision_counts(raw, truth, global_threshold(scores, known, objective)),
            decision_counts(calibrated, truth, thresholds),
            bin_sums(raw, truth),
            bin_sums(calibrated, truth),
        )
