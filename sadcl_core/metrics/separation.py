"""Separation of vectors of different classes: the silhouette, and the spread between classes over that within them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST = 4000  # vectors of which the silhouette is computed, whose cost is quadratic; of more, at equal distances


@dataclass(frozen=True)
class Separation:
    """Separation of n vectors of several classes.

    Attributes:
        silhouette: mean over the vectors of (b - a) / max(a, b), in -1..1, where a is the mean cosine distance to the others of
            the class and b that to the nearest other class (Rousseeuw, 1987); 0 for a vector alone in its class.
        between_within: sum of the squared distances of the vectors' class means from the mean of all, over that of the vectors
            from their class means, of vectors of length 1; 0 or more.
        vectors: n.
        classes: that occur.
    """

    silhouette: float
    between_within: float
    vectors: int
    classes: int


def separation(vectors: npt.ArrayLike, labels: npt.ArrayLike, *, most: int = MOST) -> Separation:
    """Return how far the classes of vectors stand apart.

    Args:
        vectors: (n, P).
        labels: (n,) class indices.
        most: vectors of which the silhouette is computed, at most.

    Returns:
        Both are NaN for fewer than 2 classes or 3 vectors; the silhouette also where every vector is a class of its own.

    Raises:
        ValueError: the lengths differ.

    Example:
        >>> separation([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], [0, 0, 1, 1]).silhouette > 0.9
        True
    """
    array, classes = np.asarray(vectors, np.float64), np.asarray(labels)
    if array.ndim != 2 or classes.shape != array.shape[:1]:
        raise ValueError(f"vectors {array.shape} need one label each, got {classes.shape}")
    length = np.linalg.norm(array, axis=1, keepdims=True)
    array = array / np.where(length > 0, length, 1)
    present, index, counts = np.unique(classes, return_inverse=True, return_counts=True)
    if len(present) < 2 or len(array) < 3:
        return Separation(np.nan, np.nan, len(array), len(present))
    means = np.zeros((len(present), array.shape[1]))
    np.add.at(means, index, array)
    means /= counts[:, None]
    between = float((counts * ((means - array.mean(axis=0)) ** 2).sum(axis=1)).sum())
    within = float(((array - means[index]) ** 2).sum())
    some = slice(None, None, max(1, -(-len(array) // most)))
    return Separation(_silhouette(array[some], index[some]), between / within if within > 0 else np.inf, len(array), len(present))


def _silhouette(vectors: npt.NDArray[np.float64], labels: npt.NDArray[np.intp]) -> float:
    from sklearn.metrics import silhouette_score  # takes a second

    if not 1 < len(np.unique(labels)) < len(labels):
        return float("nan")
    return float(silhouette_score(vectors, labels, metric="cosine"))
