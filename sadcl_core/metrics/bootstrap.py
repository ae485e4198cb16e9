"""The bootstrap over images: how far average precision would move with other images (Efron and Tibshirani 1993).

A resample draws N of the N images with replacement, which gives each image a weight 0, 1, 2, ... It holds as many known images
up to a score as their weights add up to, so nothing is sorted again. Each class is ranked once; what is needed of a
resample are the sums of weights between the ends of its ties, and only of ties that hold a positive: where an end holds
none, precision is below that of the nearest end above it that does, in every resample (the same hits among more images).
The sums of a block of resamples are a sparse matrix of ones times the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sadcl_core.metrics.arrays import COLUMN_BLOCK, Scores, Targets, by_class, checked, column_blocks
from sadcl_core.metrics.average_precision import Values, running_maximum

BLOCK = 16  # resamples at a time: the weights of an image are one cache line

Weights = npt.NDArray[np.int32]


@dataclass(frozen=True)
class BootstrapSamples:
    """Average precision of each resample and class, each (S, K) in 0..1; NaN where no positive of the class was drawn."""

    interpolated: Values
    non_interpolated: Values


def default_samples(images: int, classes: int) -> int:
    """Return 1000, or as many resamples as keep images x classes x samples below 4e9, though at least 100.

    Example:
        >>> default_samples(40_137, 80), default_samples(100_000, 80)
        (1000, 500)
    """
    return int(np.clip(4e9 // max(1, images * classes), 100, 1000))


def bootstrap_average_precision(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    samples: int,
    seed: int = 0,
    block: int = COLUMN_BLOCK,
    progress: Callable[[int, int], None] | None = None,
) -> BootstrapSamples:
    """Return the average precision in resamples of the images, in two conventions.

    Equal to `average_precisions` of the images repeated as often as they were drawn. Resample s depends on `seed`, s and N
    alone: two models scored on the same images are resampled alike, so their differences are paired.

    Args:
        scores: (N, K), higher is more confident; any monotone scale.
        targets: (N, K) with 1, 0 or -1 for unknown; unknown entries are left out.
        samples: S, how many resamples.
        seed: at least 0.
        block: images x classes ranked at a time, up to 16 bytes each.
        progress: called with how many resamples are done, of how many.

    Raises:
        ValueError: see `sadcl_core.metrics.arrays.checked`; or samples < 1.

    Example:
        >>> bootstrap_average_precision([[0.9], [0.5], [0.1]], [[1], [1], [0]], samples=2).interpolated
        array([[1.],
               [1.]])
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    score_array, target_array = checked(scores, targets)
    images, count = score_array.shape
    values = np.full((2, samples, count), np.nan)
    for classes in column_blocks(score_array.shape, block):
        rankings = {k: _rank(s, t) for k, s, t in by_class(score_array, target_array, classes) if (t == 1).any()}
        for resamples, weights in _weights(images, samples, seed):
            for k, ranking in rankings.items():
                values[:, resamples, k] = _resampled(*ranking, weights)
            if progress is not None:
                pairs = classes.start * samples + (classes.stop - classes.start) * resamples.stop
                progress(pairs // count, samples)
    return BootstrapSamples(*values)


def mean_over_classes(samples: Values, missing: Values | None = None) -> Values:
    """Return the mean (S,) of (S, K) over the classes with a value in that resample; NaN where there is none.

    A class of which no positive was drawn takes its value from `missing` (K,), where that is given: so the mean is over the same
    classes in every resample.

    Example:
        >>> mean_over_classes(np.array([[0.2, 0.4], [np.nan, 0.6]]))
        array([0.3, 0.6])
    """
    if missing is not None:
        samples = np.where(np.isnan(samples), missing, samples)
    known = np.count_nonzero(~np.isnan(samples), axis=1)
    return np.where(known > 0, np.nansum(samples, axis=1) / np.maximum(known, 1), np.nan)


def interval(
    samples: Values, estimate: float, level: float = 0.95, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float]:
    """Return the basic bootstrap interval (Davison and Hinkley 1997, section 5.2): quantiles mirrored at the estimate.

    AP of few positives is too high on average, and once more so in resamples, where drawn images repeat. Percentiles of the
    resamples carry that error twice; mirrored, the second takes away most of the first. How often 95 % intervals held mAP of
    the population, in 400 draws of generated images (`benchmarks/evaluation.py --coverage`, ± 0.02):

    | images x classes | interpolated: percentile, bias-corrected, basic | non-interpolated: the same |
    | --- | --- | --- |
    | 200 x 20 | 0.47, 0.79, 0.83 | 0.71, 0.88, 0.88 |
    | 1000 x 20 | 0.61, 0.85, 0.88 | 0.84, 0.91, 0.92 |
    | 5000 x 80 | 0.16, 0.51, 0.85 | 0.58, 0.83, 0.92 |

    So the interval is too narrow for the name: the population's mAP, where it is missed, mostly lies below.

    Args:
        samples: (S,) values of the resamples; NaN are left out.
        estimate: the value on the images themselves.
        level: in 0..1.
        bounds: values that cannot be, such as above 1, are cut off here.

    Returns:
        Lowest and highest value, the estimate between them; NaN without resamples.

    Raises:
        ValueError: level is not between 0 and 1.

    Example:
        >>> interval(np.linspace(0, 1, 101), 0.5, level=0.5)
        (0.25, 0.75)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    drawn = samples[~np.isnan(samples)]
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    mirrored = min(2 * estimate - high, estimate), max(2 * estimate - low, estimate)
    return max(float(mirrored[0]), bounds[0]), min(float(mirrored[1]), bounds[1])


def _weights(images: int, samples: int, seed: int) -> Iterator[tuple[slice, Weights]]:
    """Blocks of resamples: which they are, and (N, up to BLOCK) how often each image was drawn."""
    for start in range(0, samples, BLOCK):
        resamples = slice(start, min(start + BLOCK, samples))
        weights = np.empty((images, resamples.stop - start), dtype=np.int32)
        for column, s in enumerate(range(start, resamples.stop)):
            drawn = np.random.default_rng((seed, s)).integers(max(images, 1), size=images)
            weights[:, column] = np.bincount(drawn, minlength=images)
        yield resamples, weights


def _rank(scores: Scores, targets: Targets) -> tuple[Any, Any]:
    """Return two sparse (G, N): row g has ones at the known, or the positive, images after end g - 1 and up to end g."""
    ends = np.unique(scores[targets == 1])  # (G,) rising
    end_of = len(ends) - np.searchsorted(ends, scores, side="right")  # (N,) the first end, from the best, that includes it
    known = np.flatnonzero((targets >= 0) & (end_of < len(ends)))
    return _ones(end_of, known, len(ends)), _ones(end_of, np.flatnonzero(targets == 1), len(ends))


def _ones(end_of: npt.NDArray[np.int64], images: npt.NDArray[np.int64], ends: int) -> Any:
    """Compressed by columns: the product then reads the weights of the images in order, and only its small result at random."""
    places = end_of[images].astype(np.int32), images.astype(np.int32)  # else scipy keeps indexes of twice the size
    return sparse.csc_array((np.ones(len(images), dtype=np.int32), places), shape=(ends, len(end_of)))


def _resampled(known: Any, positive: Any, weights: Weights) -> tuple[Values, Values]:
    """Both average precisions of each resample."""
    new_hits = positive @ weights  # (G, resamples), whole numbers as all sums here
    hits, ranks = new_hits.cumsum(axis=0, dtype=np.int32), (known @ weights).cumsum(axis=0, dtype=np.int32)
    precision = hits / np.maximum(ranks, 1)
    positives = np.where(hits[-1] > 0, hits[-1], np.nan)
    return (
        np.einsum("gs,gs->s", running_maximum(precision), new_hits) / positives,
        np.einsum("gs,gs->s", precision, new_hits) / positives,
    )
