"""Two sets of scores on the same images: how far apart they are, how sure that is, and in which classes.

Both are resampled with the same images at a time (a paired bootstrap; Efron and Tibshirani, 1993), so that what makes
an image hard for both cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import DataError
from sadcl_core.evaluation.candidates import Candidate
from sadcl_core.evaluation.evaluate import LEAST_IMAGES, LEAST_POSITIVES, LEVEL, plain
from sadcl_core.metrics import average_precisions, bootstrap_average_precision, interval, mean_over_classes
from sadcl_core.runtime.progress import Progress

SCHEMA_VERSION = 1
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Second minus first, in points, with its interval at 95 %.

    Attributes:
        first: percent.
        second: percent.
        low: end of the interval of the difference; NaN where there are too few images for one.
        high: the other end.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Second minus first."""
        return self.second - self.first

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def as_json(self) -> dict[str, Any]:
        """As numbers; None where there is none."""
        values = {"first": self.first, "second": self.second, "difference": self.value}
        numbers = {name: plain(value) for name, value in values.items()}
        return {**numbers, "interval": [plain(self.low), plain(self.high)], "clear": self.clear}


@dataclass(frozen=True)
class Paired:
    """Result of a comparison.

    Attributes:
        names: of the first and the second.
        classes: K names.
        images: how many.
        resamples: of the images.
        map_interpolated: over all classes.
        map_non_interpolated: over all classes.
        per_class: K of the interpolated AP, or None without a positive.
    """

    names: tuple[str, str]
    classes: tuple[str, ...]
    images: int
    resamples: int
    map_interpolated: Difference
    map_non_interpolated: Difference
    per_class: tuple[Difference | None, ...]

    @property
    def moved(self) -> list[tuple[str, Difference]]:
        """Classes whose interval leaves 0 out, the largest difference first."""
        found = [(name, d) for name, d in zip(self.classes, self.per_class, strict=True) if d is not None and d.clear]
        return sorted(found, key=lambda pair: -abs(pair[1].value))

    @property
    def by_chance(self) -> float:
        """How many classes would move if the two were equally good in all."""
        return (1 - LEVEL) * sum(d is not None and not np.isnan(d.low) for d in self.per_class)

    def as_json(self) -> dict[str, Any]:
        """One document."""
        classes = [
            {"name": name, **({} if d is None else d.as_json())} for name, d in zip(self.classes, self.per_class, strict=True)
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            "first": self.names[0],
            "second": self.names[1],
            "images": self.images,
            "resamples": self.resamples,
            "mAP_interpolated": self.map_interpolated.as_json(),
            "mAP_non_interpolated": self.map_non_interpolated.as_json(),
            "classes_that_moved": [name for name, _ in self.moved],
            "classes_moved_by_chance": round(self.by_chance, 2),
            "per_class": classes,
        }


def compare(first: Candidate, second: Candidate, *, resamples: int, progress: Progress | None = None) -> Paired:
    """Compare two; the second is put into the order of the first.

    Args:
        first: what is compared with.
        second: what is compared.
        resamples: of the images, at least 1.
        progress: told how many resamples are done.

    Raises:
        DataError: they have other classes, other images or other labels, or no label is active.
    """
    second = second.same_as(first)
    if not (first.scores.targets == 1).any():
        raise DataError(
            f"No label is active in the {len(first.scores.targets):,} images, so no mAP can be compared. Check the labels."
        )
    points, samples = [], []
    for number, candidate in enumerate((first, second)):
        scored = candidate.scores
        points.append(average_precisions(scored.scores, scored.targets))
        report = None if progress is None else _part(progress, number)
        samples.append(bootstrap_average_precision(scored.scores, scored.targets, samples=resamples, progress=report))
    positives = np.array([np.count_nonzero(column == 1) for column in first.scores.targets.T])
    sure = positives >= (LEAST_POSITIVES if len(first.scores.scores) >= LEAST_IMAGES else np.inf)
    both = [[getattr(one, name) for one in (*points, *samples)] for name in ("interpolated", "non_interpolated")]
    interpolated, plain = (_differences(*values, sure=sure) for values in both)
    return Paired(
        names=(first.name, second.name),
        classes=first.classes,
        images=len(first.scores.scores),
        resamples=resamples,
        map_interpolated=interpolated[0],
        map_non_interpolated=plain[0],
        per_class=interpolated[1],
    )


def _part(progress: Progress, number: int) -> Progress:
    return lambda done, total: progress(number * total + done, 2 * total)


def _differences(
    first: Floats, second: Floats, first_samples: Floats, second_samples: Floats, *, sure: npt.NDArray[np.bool_]
) -> tuple[Difference, tuple[Difference | None, ...]]:
    """Of the mean over classes, and of each class, from AP (K,) and its resamples (S, K) in 0..1; `sure` ones get intervals."""
    means = [mean_over_classes(100 * values[None])[0] for values in (first, second)]
    over_classes = mean_over_classes(100 * second_samples, 100 * second) - mean_over_classes(100 * first_samples, 100 * first)
    whole = _difference(means[0], means[1], over_classes if sure.any() else np.full(1, np.nan))
    classes = tuple(
        None
        if np.isnan(first[k])
        else _difference(
            100 * first[k], 100 * second[k], 100 * (second_samples[:, k] - first_samples[:, k]) if sure[k] else np.full(1, np.nan)
        )
        for k in range(len(first))
    )
    return whole, classes


def _difference(first: float, second: float, samples: Floats) -> Difference:
    low, high = interval(samples, second - first, LEVEL, (-100.0, 100.0))
    return Difference(float(first), float(second), low, high)
