"""What every metric asks of its two arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating[Any]]
Targets = npt.NDArray[np.integer[Any]]


def checked(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Scores, Targets]:
    """Both as arrays of one shape (N, K).

    Raises:
        ValueError: the shapes differ, a score is NaN, or a target is none of 1, 0, -1.
    """
    score_array = np.asarray(scores)
    target_array = np.asarray(targets)
    if score_array.ndim != 2 or score_array.shape != target_array.shape:
        raise ValueError(f"scores {score_array.shape} and targets {target_array.shape} must both be (N, K)")
    if not np.issubdtype(score_array.dtype, np.floating):
        score_array = score_array.astype(np.float64)
    if np.isnan(score_array).any():
        raise ValueError(f"scores hold {int(np.isnan(score_array).sum())} NaN: a ranking with NaN means nothing")
    if not np.isin(target_array, (-1, 0, 1)).all():
        raise ValueError("targets must be 1 (active), 0 (inactive) or -1 (unknown)")
    return score_array, target_array.astype(np.int8)
