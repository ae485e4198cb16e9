"""Average precision per class, in the two conventions of the multi-label literature.

Non-interpolated (scikit-learn; ML-GCN, ASL, MulCon): the mean over positives of the precision at their rank.
Interpolated (VOC after 2010; SADCL, Query2Label, SSGRL): precision is first replaced by its running maximum from the
right. Images with one score form one
rank: precision is taken at the end of the tie, as scikit-learn does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import checked


def average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike, interpolated: bool = True) -> npt.NDArray[np.float64]:
    """Average precision of each class.

    Args:
        scores: (N, K), higher is more confident; any monotone scale.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        interpolated: which convention.

    Returns:
        (K,) in 0..1, NaN for a class without a positive.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`.
    """
    score_array, target_array = checked(scores, targets)
    result = np.full(score_array.shape[1], np.nan)
    for k in range(score_array.shape[1]):
        known = target_array[:, k] >= 0
        result[k] = _class_average_precision(score_array[known, k], target_array[known, k], interpolated)
    return result


def _class_average_precision(scores: npt.NDArray[np.floating], targets: npt.NDArray[np.int8], interpolated: bool) -> float:
    positives = int(targets.sum())
    if positives == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(targets[order], dtype=np.int64)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last place of each tie
    precision = hits[ends] / (ends + 1)
    if interpolated:
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    new_hits = np.diff(hits[ends], prepend=0)
    return float((precision * new_hits).sum() / positives)
