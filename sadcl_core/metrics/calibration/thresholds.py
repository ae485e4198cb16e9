"""Thresholds tuned on held-out images, one per class, those of rare classes drawn towards one for all.

The threshold that is best for a class with five positives says more of those five images than of the class. So the
threshold of a class with n positives is a mean, on the logit scale, of its own with weight n / (n + `PULL`) and of the
global one. The global threshold is the best single one for all decisions taken together ("micro"): they count as one
large class, so that the same rule finds it and no rare class sways it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from sadcl_core.metrics.arrays import COLUMN_BLOCK, Scores, Targets
from sadcl_core.metrics.calibration.columns import (
    LOGIT_LIMIT,
    Change,
    Column,
    cells,
    checked_probabilities,
    clipped_logit,
    columns,
)
from sadcl_core.metrics.calibration.objective import Objective
from sadcl_core.metrics.calibration.probabilities import ProbabilityMap

DEFAULT = 0.5  # where nothing is positive and nothing can be tuned
NEVER = 1.0  # no score is above 1
PULL = 3.0  # positives with which own and global threshold count the same; chosen on simulated scores, as in the tests
STEPS = 1024  # of the global threshold, per unit of logit


@dataclass(frozen=True)
class TunedThresholds:
    """A label counts when its score is above (not at) the threshold of its class.

    Attributes:
        values: (K,) in 0..1, those to use. 1 is never passed: no threshold reaches the required precision.
        global_value: one for all classes.
        own: (K,) each from its class alone; the global one for a class without a positive.
        weight: (K,) in 0..1, how much `own` counts in `values`; 0 for a class without a positive.
        reached: (K,) whether `values` reach the objective on these images; with f1, and for a class without a
            positive, whether it could be tuned at all.
        positives: (K,) how many images of the class are known to have it.
    """

    values: npt.NDArray[np.float64]
    global_value: float
    own: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    reached: npt.NDArray[np.bool_]
    positives: npt.NDArray[np.int64]


class _Cuts(NamedTuple):
    """Possible thresholds, from the highest down, each (C,): just below each distinct score of a positive.

    Thresholds between two negatives need no look: the one above them has the same recall and more precision.
    """

    thresholds: npt.NDArray[np.float64]
    true_positives: npt.NDArray[np.int64]
    false_positives: npt.NDArray[np.int64]


def choose_thresholds(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    objective: Objective,
    *,
    probabilities: ProbabilityMap | None = None,
    pull: float = PULL,
    block: int = COLUMN_BLOCK,
) -> TunedThresholds:
    """Tune the threshold of each class; use images the model was not trained on.

    A class's own threshold lies midway between the scores it divides:
    f1: the highest F1, and of several the one with fewest labels;
    precision>=p: the highest recall with a precision of at least p, and of several the one with fewest labels;
    recall>=r: the highest threshold with a recall of at least r.

    Where the threshold drawn towards the global one no longer reaches the precision or recall on these images, or the
    global one is out of reach, it stays the own one. A precision that no threshold reaches gives 1: the class is never
    predicted. A score of exactly 0 is above no threshold; a recall out of reach for that reason gives 0.

    A target that is just reached here is missed by about half of the classes on new images; `cross_fit` says by which.

    Args:
        scores: (N, K) in 0..1.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        objective: see `sadcl_core.metrics.calibration.objective.parse_objective`.
        probabilities: makes of the scores what the thresholds are for, class by class, without a second (N, K).
        pull: number of positives with which own and global threshold weigh the same; 0 takes the own, infinity the
            global one.
        block: entries copied together.

    Returns:
        The thresholds; 0.5 for all when nothing is positive.

    Raises:
        ValueError: see `sadcl_core.metrics.calibration.columns.checked_probabilities`; or pull is negative.

    Example:
        >>> choose_thresholds([[0.9], [0.7], [0.3]], [[1], [1], [0]], Objective("f1"), pull=0).values
        array([0.5])
    """
    if not pull >= 0:
        raise ValueError(f"pull must be 0 or more, got {pull}")
    score_array, target_array = checked_probabilities(scores, targets)
    change = None if probabilities is None else probabilities.of_class
    global_value = _pooled_threshold(score_array, target_array, objective, change, block)
    count = score_array.shape[1]
    values, own, weight = np.full(count, global_value), np.full(count, global_value), np.zeros(count)
    reached, positives = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.int64)
    for k, column in enumerate(columns(score_array, target_array, change, block=block)):
        positives[k] = len(column.positives)
        if positives[k]:
            own[k] = _best(_cuts(column), objective, int(positives[k]))
            share = positives[k] / (positives[k] + pull)
            values[k], weight[k], reached[k] = _drawn(own[k], global_value, share, column, objective)
    return TunedThresholds(values, global_value, own, weight, reached, positives)


def global_threshold(scores: npt.ArrayLike, targets: npt.ArrayLike, objective: Objective) -> float:
    """Return the best single threshold for all decisions together, to 1/1024 of a logit; arguments as of `choose_thresholds`.

    Example:
        >>> round(global_threshold([[0.9, 0.2], [0.1, 0.6]], [[1, 0], [0, 1]], Objective("f1")), 2)
        0.4
    """
    return _pooled_threshold(*checked_probabilities(scores, targets), objective)


def _cuts(column: Column) -> _Cuts:
    ranked = np.sort(column.positives)
    negatives = np.sort(column.negatives)
    starts = np.flatnonzero(np.diff(ranked, prepend=-1.0))[::-1]  # first of each tie, the highest first
    upper = ranked[starts]
    below = np.searchsorted(negatives, upper, side="left")
    lower = np.zeros_like(upper)  # under the lowest score of all, the end of the scale
    lower[starts > 0] = ranked[starts[starts > 0] - 1]
    lower[below > 0] = np.maximum(lower[below > 0], negatives[below[below > 0] - 1])
    passable = upper > 0
    return _Cuts(_midway(lower, upper)[passable], (len(ranked) - starts)[passable], (len(negatives) - below)[passable])


def _midway(lower: Scores, upper: Scores) -> npt.NDArray[np.float64]:
    """Return the middle of neighbouring scores, in their own precision: lower <= result < upper also after a return to it."""
    middle = (lower + (upper - lower) / 2).astype(upper.dtype)
    return np.where(middle < upper, middle, lower).astype(np.float64)


def _best(cuts: _Cuts, objective: Objective, positives: int) -> float:
    tp, fp = cuts.true_positives, cuts.false_positives
    if len(tp) == 0:  # every positive has score 0
        return 0.0 if objective.kind == "recall" else NEVER
    if objective.at_least is None:
        return float(cuts.thresholds[np.argmax(2 * tp / (tp + fp + positives))])
    if objective.kind == "recall":
        good = np.flatnonzero(tp / positives >= objective.at_least)
        return float(cuts.thresholds[good[0]]) if len(good) else 0.0
    good = np.flatnonzero(tp / (tp + fp) >= objective.at_least)
    return float(cuts.thresholds[good[-1]]) if len(good) else NEVER


def _drawn(own: float, towards: float, weight: float, column: Column, objective: Objective) -> tuple[float, float, bool]:
    """Return the threshold to use, the weight that `own` has in it, and whether it reaches the objective."""
    if objective.at_least is not None and {own, towards} & {0.0, NEVER}:  # one of them is out of reach
        return own, 1.0, _reaches(own, column, objective)
    exact = expit(weight * clipped_logit(own) + (1 - weight) * clipped_logit(towards))
    mixed = own if weight == 1 else float(column.positives.dtype.type(exact))  # decisions are the same in the scores' type
    if _reaches(mixed, column, objective):
        return mixed, weight, True
    return own, 1.0, _reaches(own, column, objective)


def _reaches(threshold: float, column: Column, objective: Objective) -> bool:
    if objective.at_least is None:
        return True
    tp = int(np.count_nonzero(column.positives > column.positives.dtype.type(threshold)))
    if objective.kind == "recall":
        return tp / len(column.positives) >= objective.at_least
    counted = tp + int(np.count_nonzero(column.negatives > column.negatives.dtype.type(threshold)))
    return counted > 0 and tp / counted >= objective.at_least


def _pooled_threshold(
    scores: Scores, targets: Targets, objective: Objective, change: Change | None = None, block: int = COLUMN_BLOCK
) -> float:
    """Return what `_cuts` and `_best` give for all classes as one, on a grid of the logit scale: no sorting of N * K scores.

    A score below 1e-7 counts as 0.
    """
    size = 2 * LOGIT_LIMIT * STEPS + 1
    counts = np.zeros((2, size), dtype=np.int64)  # negatives, positives
    for column in columns(scores, targets, change, block=block):
        counts[1] += np.bincount(cells(clipped_logit(column.positives), STEPS), minlength=size)
        counts[0] += np.bincount(cells(clipped_logit(column.negatives), STEPS), minlength=size)
    positives = int(counts[1].sum())
    if positives == 0:
        return DEFAULT
    full = np.flatnonzero(counts.any(axis=0))  # cells with a score in them, the lowest first
    below = np.append(-1, full[:-1]) + 1  # the upper edge of the next one down; 0 is the end of the scale
    false_positives, true_positives = counts[:, full][:, ::-1].cumsum(axis=1)[:, ::-1]
    candidates = np.flatnonzero((counts[1][full] > 0) & (full > 0))[::-1]
    middle = (expit(full[candidates] / STEPS - LOGIT_LIMIT) + expit(below[candidates] / STEPS - LOGIT_LIMIT)) / 2
    best = _best(_Cuts(middle, true_positives[candidates], false_positives[candidates]), objective, positives)
    return float(scores.dtype.type(best))
