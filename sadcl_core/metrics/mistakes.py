"""The decisions that went wrong: the worst of each class, and which labels fired in the place of a missed one.

Both go through the scores in blocks, so that a million images with hundreds of classes need no second array of that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from sadcl_core.metrics.arrays import COLUMN_BLOCK, Scores, all_classes, checked, row_blocks
from sadcl_core.metrics.precision_recall import in_precision_of

BLOCK = 1 << 21  # decisions counted together
PAIRS = 1 << 22  # of classes, counted together
BUDGET = 800  # pictures of a page


@dataclass(frozen=True)
class Mistake:
    """An image (its index) and the score in 0..1 of the class that is wrong in it."""

    image: int
    score: float


@dataclass(frozen=True)
class ClassMistakes:
    """The worst decisions of one class.

    Attributes:
        label: class index.
        false_positives: labelled inactive, score above the threshold; the highest score first.
        misses: labelled active, score not above it; the lowest score first.
        false_positive_count: how many there are in all.
        miss_count: how many there are in all.
    """

    label: int
    false_positives: tuple[Mistake, ...]
    misses: tuple[Mistake, ...]
    false_positive_count: int
    miss_count: int


@dataclass(frozen=True)
class Confusion:
    """A class that fired though absent where another was missed.

    Attributes:
        label: index of the class that fired.
        fired: images in which it did.
        known: images in which the other was missed and this one is known to be absent.
        rate_found: how often it fires, in 0..1, where it is absent and the other class is present and found; NaN without such
            an image. Where this is as high as `rate`, the class fires beside the other, not instead of it.
        lift: `rate` over how often it fires in all images where it is absent; above 1.
    """

    label: int
    fired: int
    known: int
    rate_found: float
    lift: float

    @property
    def rate(self) -> float:
        """Return how often it fires in 0..1, of the images where it could do so wrongly."""
        return self.fired / self.known


@dataclass(frozen=True)
class ClassConfusions:
    """Classes that fired in the images where a class (its index) was missed: `misses` of them."""

    label: int
    misses: int
    instead: tuple[Confusion, ...]


def worst_mistakes(
    scores: npt.ArrayLike, targets: npt.ArrayLike, thresholds: npt.ArrayLike, per_class: int = 4, *, block: int = COLUMN_BLOCK
) -> list[ClassMistakes]:
    """Return the most certain false positives and the most certain misses of every class.

    Args:
        scores: (N, K) in 0..1.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are never mistakes.
        thresholds: one, or (K,); a label counts when its score is above it.
        per_class: how many of each kind are named. Of equal scores the first image comes first.
        block: entries copied together.

    Returns:
        K of them, in the order of the classes.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or there are neither one nor K thresholds.

    Example:
        >>> (one,) = worst_mistakes([[0.9], [0.2], [0.8]], [[0], [1], [1]], 0.5)
        >>> one.false_positives, one.misses
        ((Mistake(image=0, score=0.9),), (Mistake(image=1, score=0.2),))
    """
    score_array, target_array = checked(scores, targets)
    limits = np.broadcast_to(in_precision_of(score_array, thresholds), score_array.shape[1:])
    mistakes = []
    for k, column, truth in all_classes(score_array, target_array, block):
        false_positives = np.flatnonzero((truth == 0) & (column > limits[k]))
        misses = np.flatnonzero((truth == 1) & ~(column > limits[k]))
        mistakes.append(
            ClassMistakes(
                label=k,
                false_positives=_lowest(false_positives, column, -1, per_class),
                misses=_lowest(misses, column, 1, per_class),
                false_positive_count=len(false_positives),
                miss_count=len(misses),
            )
        )
    return mistakes


def _lowest(images: npt.NDArray[np.intp], column: Scores, sign: int, count: int) -> tuple[Mistake, ...]:
    """Return the `count` images of lowest (sign 1) or highest (sign -1) score, sorted."""
    values = sign * column[images]
    if 0 < count < len(images):
        near = values <= np.partition(values, count - 1)[count - 1]
        images, values = images[near], values[near]
    order = np.argsort(values, kind="stable")[:count]
    return tuple(Mistake(int(i), float(column[i])) for i in images[order])


def pictured(mistakes: Sequence[ClassMistakes], budget: int = BUDGET) -> list[tuple[int, int]]:
    """Return the mistakes to show, as (image, label): the worst of all classes before the second worst of any, up to a budget.

    Among mistakes of one rank those furthest from the label come first.
    """
    ranked: list[tuple[int, float, int, int]] = []  # rank, minus the distance of score and label, image, class
    for one in mistakes:
        ranked += [(rank, -mistake.score, mistake.image, one.label) for rank, mistake in enumerate(one.false_positives)]
        ranked += [(rank, mistake.score - 1, mistake.image, one.label) for rank, mistake in enumerate(one.misses)]
    return [(image, label) for _, _, image, label in sorted(ranked)[:budget]]


def confusions(
    scores: npt.ArrayLike, targets: npt.ArrayLike, thresholds: npt.ArrayLike, most: int = 3, *, block: int = BLOCK
) -> list[ClassConfusions]:
    """Return for each class with misses the classes that fired though absent in the images where it was missed.

    They are ranked by their excess, fired - known x (how often they fire wrongly in all images): a class that fires wrongly
    everywhere is no confusion, nor is one that fired once in a thousand misses. Only classes with an excess are named.

    Args:
        scores: (N, K) in 0..1.
        targets: (N, K) with 1, 0 or -1 for unknown; a class is neither missed nor wrong where it is unknown.
        thresholds: one, or (K,); a label counts when its score is above it.
        most: how many are named for each class.
        block: decisions counted together.

    Returns:
        One for each class with a miss, in the order of the classes.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or there are neither one nor K thresholds.

    Example:
        >>> (missed,) = confusions([[0.1, 0.9], [0.9, 0.1]], [[1, 0], [1, 0]], 0.5)
        >>> missed.label, missed.instead[0].label, missed.instead[0].lift
        (0, 1, 2.0)
    """
    score_array, target_array = checked(scores, targets)
    limits = in_precision_of(score_array, thresholds)
    count = score_array.shape[1]
    wrong, absent = np.zeros(count), np.zeros(count)
    misses = np.zeros(count, dtype=np.int64)
    for rows in row_blocks(score_array.shape, block):
        fired, truth = score_array[rows] > limits, target_array[rows]
        misses += ((truth == 1) & ~fired).sum(axis=0)
        wrong += (fired & (truth == 0)).sum(axis=0)
        absent += (truth == 0).sum(axis=0)
    overall, missed = wrong / np.maximum(absent, 1), np.flatnonzero(misses)
    size = max(1, PAIRS // count)  # classes whose counts with all others are in memory at a time
    parts = [missed[start : start + size] for start in range(0, len(missed), size)]
    return [
        ClassConfusions(k, int(misses[k]), _instead(pair, overall, most))
        for part in parts
        for k, pair in zip(part.tolist(), _together(score_array, target_array, limits, part, block), strict=True)
    ]


def _together(
    scores: Scores, targets: npt.NDArray[np.int8], limits: npt.NDArray[Any], classes: npt.NDArray[np.intp], block: int
) -> npt.NDArray[np.float64]:
    """Return how often every class fired though absent, and was absent, where each of n classes was missed, and found.

    Returns:
        (n, 2, 2K): for each class the rows missed and found; the columns fired though absent, and absent.
    """
    together = np.zeros((2 * len(classes), 2 * scores.shape[1]))
    for rows in row_blocks(scores.shape, block):
        fired, truth = scores[rows] > limits, targets[rows]
        could, own = truth == 0, truth[:, classes] == 1
        outcome = csr_array(np.hstack([own & ~fired[:, classes], own & fired[:, classes]]), dtype=np.float32)
        together += outcome.T @ np.hstack([fired & could, could]).astype(np.float32)  # exact: counts far below 2^24
    return np.stack(np.split(together, 2), axis=1)


def _instead(counts: npt.NDArray[np.float64], overall: npt.NDArray[np.float64], most: int) -> tuple[Confusion, ...]:
    """Return what fired, from the counts (2, 2K) of one class, see `confusions`, and the overall rates (K,)."""
    (fired, fired_found), (known, known_found) = np.split(counts, 2, axis=1)
    excess = fired - known * overall
    above = np.flatnonzero(excess > 1e-9 * known)  # not by rounding
    order = above[np.argsort(-excess[above], kind="stable")[:most]]
    return tuple(
        Confusion(
            label=j,
            fired=int(fired[j]),
            known=int(known[j]),
            rate_found=float(fired_found[j] / known_found[j]) if known_found[j] else float("nan"),
            lift=float(fired[j] / known[j] / overall[j]),
        )
        for j in order.tolist()
    )
