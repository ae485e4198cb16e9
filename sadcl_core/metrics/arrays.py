"""The checks of the two arrays of every metric, and walks over them without a copy of their size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[Any]
Targets = npt.NDArray[Any]

ROW_BLOCK = 1 << 18  # entries: a block of rows and the masks made of it stay in the cache
COLUMN_BLOCK = 1 << 25  # entries: 128 MiB of float32


def checked(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Scores, Targets]:
    """Return both as arrays of one shape (N, K), of the type they came in; checked in blocks of rows, so nothing large is copied.

    Infinite scores are allowed: they are the ends of a scale (a log probability of an impossible label is -inf).

    Raises:
        ValueError: the shapes differ, an array does not hold numbers, a score is NaN, or a target is none of 1, 0, -1.
    """
    score_array, target_array = np.asarray(scores), np.asarray(targets)
    if score_array.ndim != 2 or score_array.shape != target_array.shape:
        raise ValueError(f"scores {score_array.shape} and targets {target_array.shape} must both be (N, K)")
    if not {score_array.dtype.kind, target_array.dtype.kind} <= set("biuf"):
        raise ValueError(f"scores ({score_array.dtype}) and targets ({target_array.dtype}) must be real numbers")
    unclear = 0
    for rows in row_blocks(score_array.shape):
        unclear += int(np.count_nonzero(np.isnan(score_array[rows])))
        block = target_array[rows]
        if not ((block == 1) | (block == 0) | (block == -1)).all():
            raise ValueError("targets must be 1 (active), 0 (inactive) or -1 (unknown)")
    if unclear:
        raise ValueError(f"scores hold {unclear} NaN: a ranking with NaN means nothing")
    return score_array, target_array


def row_blocks(shape: tuple[int, ...], entries: int = ROW_BLOCK) -> Iterator[slice]:
    """Yield slices that cover the N rows of an (N, K) array, about `entries` each, though never less than one row."""
    rows = max(1, entries // max(1, shape[1]))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def column_blocks(shape: tuple[int, ...], entries: int) -> Iterator[slice]:
    """Yield slices that cover the K columns of an (N, K) array, at most `entries` each, though never less than one column."""
    columns = max(1, entries // max(1, shape[0]))
    for start in range(0, shape[1], columns):
        yield slice(start, min(start + columns, shape[1]))


def by_class(scores: Scores, targets: Targets, classes: slice) -> Iterator[tuple[int, Scores, Targets]]:
    """Yield for each of some classes its number, its scores (N,) and its targets (N,), each contiguous.

    A single column of a row-major array touches a cache line for each image, so the columns are copied out together.
    """
    some_scores, some_targets = np.ascontiguousarray(scores[:, classes].T), np.ascontiguousarray(targets[:, classes].T)
    yield from zip(range(classes.start, classes.stop), some_scores, some_targets, strict=True)


def all_classes(scores: Scores, targets: Targets, entries: int = COLUMN_BLOCK) -> Iterator[tuple[int, Scores, Targets]]:
    """Yield every class as `by_class` does, about `entries` copied at a time."""
    for classes in column_blocks(scores.shape, entries):
        yield from by_class(scores, targets, classes)
