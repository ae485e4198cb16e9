"""Intervals at 95 % of average precision, by resampling the images; see `sadcl_core.metrics.bootstrap`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import UsageError
from sadcl_core.metrics import AveragePrecisions, bootstrap_average_precision, default_samples, interval, mean_over_classes
from sadcl_core.runtime.progress import Progress

LEVEL = 0.95
LEAST_POSITIVES = 5  # of a class, for an interval of its own: fewer images cannot say how sure they are
LEAST_IMAGES = 10  # for any interval
LEAST_RESAMPLES = 100  # for the ends of an interval at 95 % to mean something
PERCENT = (0.0, 100.0)  # intervals end there
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Intervals:
    """Intervals in percent.

    Attributes:
        map_interpolated: (low, high); NaN with fewer images than LEAST_IMAGES, like the others.
        map_non_interpolated: (low, high).
        ap_interpolated: (K, 2), NaN for a class with fewer positives than LEAST_POSITIVES.
    """

    map_interpolated: tuple[float, float]
    map_non_interpolated: tuple[float, float]
    ap_interpolated: Values


def bootstrap_intervals(
    scores: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    ap: AveragePrecisions,
    resamples: int,
    *,
    progress: Progress | None = None,
) -> Intervals:
    """Return the intervals of scores (N, K) with targets (N, K), around their average precisions.

    Example:
        >>> from sadcl_core.metrics import average_precisions
        >>> scores, targets = np.linspace(1, 0, 20)[:, None], (np.arange(20) % 3 == 0).astype(int)[:, None]
        >>> ap = average_precisions(scores, targets)
        >>> low, high = bootstrap_intervals(scores, targets, ap, 100).map_interpolated
        >>> bool(low < 100 * ap.interpolated[0] < high)
        True
    """
    samples = bootstrap_average_precision(scores, targets, samples=resamples, progress=progress)
    has_interval = count_positives(targets) >= (LEAST_POSITIVES if len(scores) >= LEAST_IMAGES else np.inf)
    points = 100 * ap.interpolated, 100 * ap.non_interpolated  # (K,)
    defined = np.where(np.isnan(ap.interpolated), np.nan, 100.0)  # classes without an AP have none in resamples
    draws = defined * samples.interpolated, defined * samples.non_interpolated  # (S, K)
    means = [
        interval(mean_over_classes(drawn, point), float(mean_over_classes(point[None])[0]), LEVEL, PERCENT)
        if has_interval.any()
        else (np.nan, np.nan)
        for point, drawn in zip(points, draws, strict=True)
    ]
    per_class = np.full((scores.shape[1], 2), np.nan)
    for k in np.flatnonzero(has_interval):
        per_class[k] = interval(draws[0][:, k], points[0][k], LEVEL, PERCENT)
    return Intervals(means[0], means[1], per_class)


def count_positives(targets: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return how many images (N, K) have each label, (K,), without an array of their size."""
    return np.array([np.count_nonzero(targets[:, k] == 1) for k in range(targets.shape[1])], dtype=np.int64)


def choose_resamples(request: int | None, shape: tuple[int, ...], *, needed: bool = False) -> int:
    """Return how many resamples to draw of scores of a shape (N, K): the requested number, else what suits it.

    Raises:
        UsageError: they are too few for an interval.

    Example:
        >>> choose_resamples(None, (40_137, 80))
        1000
    """
    if request is None:
        return default_samples(*shape)
    if request < LEAST_RESAMPLES and (request or needed):
        none = "" if needed else ", or 0 for no intervals"
        raise UsageError(f"--bootstrap {request} is too few for an interval. Give {LEAST_RESAMPLES} or more{none}.")
    return request
