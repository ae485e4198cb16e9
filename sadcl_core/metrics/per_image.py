"""Decisions judged image by image ("samples" or "example-based" averages; Godbole and Sarawagi, PAKDD 2004)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics.arrays import ROW_BLOCK, checked, row_blocks
from sadcl_core.metrics.precision_recall import in_precision_of


@dataclass(frozen=True)
class PerImage:
    """Means over the images with a known label, in 0..1; NaN when there is none.

    Attributes:
        f1: mean of the F1 of each image.
        subset_accuracy: share of the images in which every known label is decided rightly.
    """

    f1: float
    subset_accuracy: float


def per_image(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    threshold: npt.ArrayLike = 0.5,
    *,
    zero_division: float = 0.0,
    block: int = ROW_BLOCK,
) -> PerImage:
    """Return F1 and accuracy per image, as `f1_score(average="samples")` and `accuracy_score` of scikit-learn.

    Args:
        scores: (N, K).
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        threshold: one, or (K,); a label counts when its score is above it.
        zero_division: the F1 of an image without an active label in which none counts; 0 as in scikit-learn.
        block: entries looked at together.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or there are neither one nor K thresholds, or one is NaN.

    Example:
        >>> per_image([[0.9, 0.7, 0.2], [0.1, 0.8, 0.3]], [[1, 0, 0], [0, 1, 0]])
        PerImage(f1=0.8333333333333333, subset_accuracy=0.5)
    """
    score_array, target_array = checked(scores, targets)
    above = in_precision_of(score_array, threshold)
    f1, right, images = 0.0, 0, 0
    for rows in row_blocks(score_array.shape, block):
        truth = target_array[rows]
        known = truth >= 0
        counted, active = (score_array[rows] > above) & known, truth == 1
        hits, labels = (counted & active).sum(axis=1), counted.sum(axis=1) + active.sum(axis=1)
        some = known.any(axis=1)
        f1 += np.where(labels > 0, 2 * hits / np.maximum(labels, 1), zero_division)[some].sum()
        right += int(np.count_nonzero((counted == active).all(axis=1) & some))
        images += int(np.count_nonzero(some))
    return PerImage(float(f1 / images), right / images) if images else PerImage(float("nan"), float("nan"))
