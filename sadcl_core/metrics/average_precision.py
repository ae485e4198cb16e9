"""Average precision per class, in the three conventions of the multi-label literature.

Non-interpolated (scikit-learn; ML-GCN, ASL, MulCon): the mean over positives of the precision at their rank.
Interpolated (VOC after 2010; SADCL, Query2Label, SSGRL): precision is first replaced by its running maximum from the right.
Eleven-point (the VOC 2007 devkit): the mean, over the recalls 0, 0.1, ..., 1, of the highest precision at that recall or above.

Images with one score form one rank: precision is taken at the end of the tie, as scikit-learn does. Only the ends of ties
that hold a positive are looked at. The other ends have the hits of the nearest such end above them and more images, so a
lower precision, or no hit at all: none of them is ever the maximum that a convention asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import COLUMN_BLOCK, Scores, Targets, all_classes, checked

Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AveragePrecisions:
    """Each (K,) in 0..1, NaN for a class without a positive."""

    interpolated: Values
    non_interpolated: Values
    eleven_point: Values


def average_precisions(scores: npt.ArrayLike, targets: npt.ArrayLike, *, block: int = COLUMN_BLOCK) -> AveragePrecisions:
    """Return the average precision of each class in the three conventions, from one sort.

    Args:
        scores: (N, K), higher is more confident; any monotone scale, infinite ends included.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        block: entries copied together.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`.

    Example:
        >>> ap = average_precisions([[0.9], [0.8], [0.7], [0.6]], [[0], [1], [1], [0]])
        >>> ap.interpolated.round(3), ap.non_interpolated.round(3)
        (array([0.667]), array([0.583]))
    """
    score_array, target_array = checked(scores, targets)
    values = np.full((3, score_array.shape[1]), np.nan)
    for k, class_scores, class_targets in all_classes(score_array, target_array, block):
        hits, ranks = ranked(class_scores, class_targets)
        if len(hits):
            values[:, k] = _three_conventions(hits, ranks)
    return AveragePrecisions(*values)


def two_sided_precisions(scores: npt.ArrayLike, targets: npt.ArrayLike) -> AveragePrecisions:
    """Return `average_precisions` of the classes with a positive and a negative; NaN also for those without a negative.

    Of these every ranking is perfect, so that they would raise a mean whatever the scores.

    Example:
        >>> two_sided_precisions([[0.9, 0.8], [0.7, 0.6]], [[1, 1], [1, 0]]).interpolated
        array([nan,  1.])
    """
    precisions = average_precisions(scores, targets)
    some = np.asarray(targets)
    ranked_against = np.array([bool((some[:, k] == 0).any()) for k in range(some.shape[1])], dtype=bool)
    return AveragePrecisions(*(np.where(ranked_against, values, np.nan) for values in vars(precisions).values()))


def ranked(scores: Scores, targets: Targets) -> tuple[Numbers, Numbers]:
    """Return the ends of the ties that hold a positive, from the best.

    Args:
        scores: (N,).
        targets: (N,) with 1, 0 or -1 for unknown.

    Returns:
        Two (G,): the positives, and the known images, with this score or a higher one. G is 0 without a positive.
    """
    ends, positives = np.unique(scores[targets == 1], return_counts=True)
    known = np.sort(scores[targets >= 0])
    below = np.searchsorted(known, ends, side="left")
    return positives[::-1].cumsum(), len(known) - below[::-1]


def running_maximum(precision: Values) -> Values:
    """Return each precision replaced by the highest from there to the right, along the first axis."""
    return np.maximum.accumulate(precision[::-1], axis=0)[::-1]


def _three_conventions(hits: Numbers, ranks: Numbers) -> tuple[float, float, float]:
    positives, new_hits = hits[-1], np.diff(hits, prepend=0)
    precision = hits / ranks
    highest = running_maximum(precision)
    # recall >= i / 10 in whole numbers: 3 positives of 10 do reach 0.3, which 3 / 10 >= 0.1 * 3 denies in floating point
    at_recall = np.searchsorted(10 * hits, positives * np.arange(11))
    return highest @ new_hits / positives, precision @ new_hits / positives, highest[at_recall].mean()
