"""Scores class by class and on the logit scale, without a second array of the size of the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from sadcl_core.metrics.arrays import COLUMN_BLOCK, Scores, Targets, all_classes, checked

Change = Callable[[Scores, int], Scores]  # scores (N,) of a class, and which one
LOGIT_LIMIT = 16  # float32 scores next to 1 have logit 16.6: what lies beyond is rounding, not evidence


class Column(NamedTuple):
    """The known scores of a class, in no order."""

    positives: Scores
    negatives: Scores


def checked_probabilities(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Scores, Targets]:
    """Return both as arrays of one shape (N, K), scores of a floating type.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or a score is not in 0..1.
    """
    score_array, target_array = checked(scores, targets)
    if score_array.size and not (score_array.min() >= 0 and score_array.max() <= 1):
        raise ValueError(f"scores must lie in 0..1, got {score_array.min():g} to {score_array.max():g}")
    return score_array if score_array.dtype.kind == "f" else score_array.astype(np.float64), target_array


def columns(scores: Scores, targets: Targets, change: Change | None = None, *, block: int = COLUMN_BLOCK) -> Iterator[Column]:
    """Yield the K classes in order; `block` entries are copied at a time, and changed when a `change` is given."""
    for k, column, labels in all_classes(scores, targets, block):
        changed = column if change is None else change(column, k)
        yield Column(changed[labels == 1], changed[labels == 0])


def clipped_logit(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return log(s / (1 - s)) in float64, held within `LOGIT_LIMIT` of 0 on both sides."""
    clipped: npt.NDArray[np.float64] = np.clip(logit(np.asarray(scores, dtype=np.float64)), -LOGIT_LIMIT, LOGIT_LIMIT)
    return clipped


def cells(logits: npt.NDArray[np.float64], steps: int) -> npt.NDArray[np.int64]:
    """Return the cell of a grid with `steps` to a unit each clipped logit falls in, 0..2 * `LOGIT_LIMIT` * `steps`."""
    return np.floor((logits + LOGIT_LIMIT) * steps).astype(np.int64)
