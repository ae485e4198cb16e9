"""Ranking of the labels of each image, whatever the thresholds (Tsoumakas et al., Mining Multi-label Data, 2010)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import ROW_BLOCK, Scores, Targets, checked, row_blocks


@dataclass(frozen=True)
class LabelRanking:
    """Means over the images that have an active and an inactive label; NaN when there is none.

    Attributes:
        ranking_loss: share of the pairs of an active and an inactive label in which the inactive one scores as high or higher,
            in 0..1; 0 is best.
        coverage_error: how many known labels must be taken, from the best, to have all active ones; the number of active labels
            is best.
        images: how many images these are. Scikit-learn also counts the others, with a loss of 0.
    """

    ranking_loss: float
    coverage_error: float
    images: int


def label_ranking(scores: npt.ArrayLike, targets: npt.ArrayLike, *, block: int = ROW_BLOCK) -> LabelRanking:
    """Return ranking loss and coverage error, as `label_ranking_loss` and `coverage_error` of scikit-learn; ties count as wrong.

    Args:
        scores: (N, K), higher is more confident; comparable between classes.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries take no place in the ranking.
        block: entries sorted together.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`.

    Example:
        >>> label_ranking([[0.9, 0.8, 0.1], [0.5, 0.6, 0.1]], [[1, 0, 0], [1, 0, 0]])
        LabelRanking(ranking_loss=0.25, coverage_error=1.5, images=2)
    """
    score_array, target_array = checked(scores, targets)
    loss = coverage = 0.0
    images = 0
    for rows in row_blocks(score_array.shape, block):
        truth = target_array[rows]
        both = (truth == 1).any(axis=1) & (truth == 0).any(axis=1)
        losses, depths = _rank(score_array[rows][both], truth[both])
        loss, coverage, images = loss + losses.sum(), coverage + depths.sum(), images + len(losses)
    if not images:
        return LabelRanking(float("nan"), float("nan"), 0)
    return LabelRanking(float(loss / images), float(coverage / images), images)


def _rank(scores: Scores, targets: Targets) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the ranking loss and the coverage of each image (n,); all have an active and an inactive label."""
    order = np.argsort(scores, axis=1)
    ranked, truth = np.take_along_axis(scores, order, axis=1), np.take_along_axis(targets, order, axis=1)
    active, inactive = truth == 1, truth == 0
    higher = np.pad(ranked[:, 1:] != ranked[:, :-1], ((0, 0), (1, 0)))  # than the label before
    tie_starts = np.maximum.accumulate(np.where(higher, np.arange(scores.shape[1]), 0), axis=1)
    below = np.take_along_axis(inactive.cumsum(axis=1) - inactive, tie_starts, axis=1)  # inactive labels with a lower score
    positives, negatives = active.sum(axis=1), inactive.sum(axis=1)
    not_below = np.where(active, negatives[:, None] - below, 0)
    return not_below.sum(axis=1) / (positives * negatives), positives + not_below.max(axis=1)
