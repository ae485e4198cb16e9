"""The precision-recall curve of each class, with few enough points to draw.

A million images give a curve of as many points, of which a figure shows a hundred. The recalls are divided into bins of one
width, and of each bin the points of the highest and the lowest precision are kept: what stands out upwards, the corners of
the interpolated curve, and what falls to is as far out in the thinned curve as in the whole one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import all_classes, checked
from sadcl_core.metrics.average_precision import Numbers, Values, ranked


@dataclass(frozen=True)
class Curve:
    """Points of a class from the highest score to the lowest, as two (M,) in 0..1; M is 0 without a positive.

    Each point is the end of a tie that holds a positive: recall rises from point to point and the last is 1.
    """

    recall: Values
    precision: Values


def precision_recall_curves(scores: npt.ArrayLike, targets: npt.ArrayLike, points: int = 100) -> list[Curve]:
    """Return the K curves, not interpolated.

    Args:
        scores: (N, K), higher is more confident.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        points: most points of a curve, at least 4. The first and the last are kept, and of each bin of recall the highest
            and the lowest precision.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or points < 4.

    Example:
        >>> (curve,) = precision_recall_curves([[0.9], [0.8], [0.7]], [[1], [0], [1]])
        >>> curve.recall, curve.precision.round(2)
        (array([0.5, 1. ]), array([1.  , 0.67]))
    """
    if points < 4:
        raise ValueError(f"points must be at least 4, got {points}")
    score_array, target_array = checked(scores, targets)
    curves = []
    for _, class_scores, class_targets in all_classes(score_array, target_array):
        hits, ranks = ranked(class_scores, class_targets)
        recall, precision = hits / hits[-1:], hits / ranks
        kept = slice(None) if len(hits) <= points else _outermost(recall, precision, (points - 2) // 2)
        curves.append(Curve(recall[kept], precision[kept]))
    return curves


def _outermost(recall: Values, precision: Values, bins: int) -> Numbers:
    """Return the rising indexes of the first and last point, and of the highest and lowest precision in each bin of recall."""
    bin_of = np.minimum((recall * bins).astype(np.int64), bins - 1)
    order = np.lexsort((precision, bin_of))
    ends = np.flatnonzero(np.diff(bin_of[order]))
    lowest, highest = order[np.append(0, ends + 1)], order[np.append(ends, len(order) - 1)]
    return np.unique(np.concatenate([[0, len(recall) - 1], lowest, highest]))
