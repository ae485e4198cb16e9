"""The share of labels that are decided wrongly (Schapire and Singer, Machine Learning 2000)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import ROW_BLOCK, checked, row_blocks
from sadcl_core.metrics.precision_recall import in_precision_of


def hamming_loss(
    scores: npt.ArrayLike, targets: npt.ArrayLike, threshold: npt.ArrayLike = 0.5, *, block: int = ROW_BLOCK
) -> float:
    """Return the share of the known labels whose decision is wrong, as `sklearn.metrics.hamming_loss`.

    Args:
        scores: (N, K).
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        threshold: one, or (K,); a label counts when its score is above it.
        block: entries looked at together.

    Returns:
        In 0..1, 0 is best; NaN when nothing is known.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or there are neither one nor K thresholds, or one is NaN.

    Example:
        >>> hamming_loss([[0.9, 0.2], [0.6, 0.7]], [[1, 0], [0, -1]])
        0.3333333333333333
    """
    score_array, target_array = checked(scores, targets)
    above = in_precision_of(score_array, threshold)
    wrong = known = 0
    for rows in row_blocks(score_array.shape, block):
        truth = target_array[rows]
        wrong += int(np.count_nonzero((truth >= 0) & ((score_array[rows] > above) != (truth == 1))))
        known += int(np.count_nonzero(truth >= 0))
    return wrong / known if known else float("nan")
