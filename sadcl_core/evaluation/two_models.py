"""Two sets of scores on the same images: how far apart they are, how sure that is, and in which classes.

Both are resampled with the same images at a time (a paired bootstrap; Efron and Tibshirani, 1993), so that what makes
an image hard for both cancels out.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import DataError
from sadcl_core.evaluation.columns import plain
from sadcl_core.evaluation.intervals import LEAST_IMAGES, LEAST_POSITIVES, LEVEL, choose_resamples, count_positives
from sadcl_core.evaluation.scored_split import ScoredSplit, ScoringOptions, score_or_read
from sadcl_core.evaluation.scores_file import is_scores_file
from sadcl_core.metrics import bootstrap_average_precision, interval, mean_over_classes, two_sided_precisions
from sadcl_core.runtime.progress import Progress, StagedProgress, stage

SCHEMA_VERSION = 1
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Second minus first, both in percent, with the interval of the difference at 95 %; NaN where there are too few images."""

    first: float
    second: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Return second minus first."""
        return self.second - self.first

    @property
    def clear(self) -> bool:
        """Return True if the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    def as_json(self) -> dict[str, Any]:
        """Return the numbers; None where there is none."""
        numbers = {"first": self.first, "second": self.second, "difference": self.value, "interval": (self.low, self.high)}
        return {**plain(numbers), "clear": self.clear}


@dataclass(frozen=True)
class PairedComparison:
    """The second of two models, or files of scores, compared with the first on the same images.

    Attributes:
        names: of the first and the second.
        classes: K names.
        per_class: K of the interpolated AP, or None without a positive or without a negative.
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
        """Return the classes whose interval leaves 0 out, the largest difference first."""
        clear = [(name, d) for name, d in zip(self.classes, self.per_class, strict=True) if d is not None and d.clear]
        return sorted(clear, key=lambda pair: -abs(pair[1].value))

    @property
    def by_chance(self) -> float:
        """Return how many classes would move if the two were equally good in all."""
        return (1 - LEVEL) * sum(d is not None and not np.isnan(d.low) for d in self.per_class)

    def as_json(self) -> dict[str, Any]:
        """Return one document."""
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


def compare_models(
    first: str | Path,
    second: str | Path,
    *,
    bootstrap: int | None = None,
    uncalibrated: bool = False,
    img_size: int | None = None,
    progress: StagedProgress | None = None,
    **scoring: Unpack[ScoringOptions],
) -> PairedComparison:
    """Compare two models, two files of scores, or one of each, on the same images.

    Args:
        first: a run, a model file or a file of scores.
        second: the same. A file of scores without labels takes those of the model beside it.
        bootstrap: resamples of the images, at least 100.
        uncalibrated: use the models as they were trained.
        img_size: in pixels; that of the training unless given.
        progress: called with what is done, how far, and of how many.
        **scoring: data, split, labels, logits, by_order, batch_size, limit, device, precision, workers and listen, as
            of `sadcl_core.evaluate`.

    Raises:
        DataError: they have other classes, other images or other labels, or no label is active.
        UsageError: an argument makes no sense.

    Example:
        >>> import tempfile
        >>> folder, targets = Path(tempfile.mkdtemp()), np.eye(12, 2)[::-1]
        >>> for name, scores in (("a", targets), ("b", 1 - targets)):
        ...     np.savez(folder / f"{name}.npz", scores=scores, targets=targets)
        >>> compare_models(folder / "a.npz", folder / "b.npz").map_interpolated.second < 20
        True
    """
    choose_resamples(bootstrap, (1, 1), needed=True)
    with ExitStack() as stack:
        if not all(is_scores_file(Path(path)) for path in (first, second)):
            from sadcl_core.runtime.launcher import process_group

            stack.enter_context(process_group())  # one for both
        scored: dict[str | Path, ScoredSplit] = {}
        for path in sorted((first, second), key=lambda path: is_scores_file(Path(path))):  # models first: they have labels
            scored[path] = score_or_read(
                path,
                final=True,
                img_size=img_size,
                uncalibrated=uncalibrated,
                beside=next(iter(scored.values()), None),
                progress=progress,
                **scoring,
            )
    resamples = choose_resamples(bootstrap, scored[first].scores.shape, needed=True)
    return compare_scored(scored[first], scored[second], resamples=resamples, progress=stage(progress, "resampling images"))


def compare_scored(
    first: ScoredSplit, second: ScoredSplit, *, resamples: int, progress: Progress | None = None
) -> PairedComparison:
    """Compare the second of two scored splits with the first, in whose order it is put; `resamples` are at least 1.

    Raises:
        DataError: they have other classes, other images or other labels, or no label is active.
    """
    second = second.same_as(first)
    if not (first.targets == 1).any():
        raise DataError(f"No label is active in the {len(first):,} images, so no mAP can be compared. Check the labels.")
    points, draws = [], []
    for number, scored in enumerate((first, second)):
        points.append(two_sided_precisions(scored.scores, scored.targets))
        report = None if progress is None else partial(_half, progress, number)
        draws.append(bootstrap_average_precision(scored.scores, scored.targets, samples=resamples, progress=report))
    has_interval = count_positives(first.targets) >= (LEAST_POSITIVES if len(first) >= LEAST_IMAGES else np.inf)
    (interpolated, per_class), (non_interpolated, _) = (
        _differences(*(getattr(one, name) for one in (*points, *draws)), has_interval=has_interval)
        for name in ("interpolated", "non_interpolated")
    )
    return PairedComparison(
        names=(first.name, second.name),
        classes=first.classes,
        images=len(first),
        resamples=resamples,
        map_interpolated=interpolated,
        map_non_interpolated=non_interpolated,
        per_class=per_class,
    )


def _half(progress: Progress, number: int, done: int, total: int) -> None:
    progress(number * total + done, 2 * total)


def _differences(
    first: Values, second: Values, first_draws: Values, second_draws: Values, *, has_interval: npt.NDArray[np.bool_]
) -> tuple[Difference, tuple[Difference | None, ...]]:
    """Return the difference of the mean over classes, and of each class, from AP (K,) and its resamples (S, K) in 0..1."""

    def difference(one: float, other: float, draws: Values) -> Difference:
        return Difference(one, other, *interval(draws, other - one, LEVEL, (-100.0, 100.0)))

    none = np.full(1, np.nan)
    first_draws, second_draws = (np.where(np.isnan(first), np.nan, draws) for draws in (first_draws, second_draws))
    means = [float(mean_over_classes(100 * values[None])[0]) for values in (first, second)]
    moves = mean_over_classes(100 * second_draws, 100 * second) - mean_over_classes(100 * first_draws, 100 * first)
    per_class = tuple(
        None
        if np.isnan(first[k])
        else difference(
            float(100 * first[k]),
            float(100 * second[k]),
            100 * (second_draws[:, k] - first_draws[:, k]) if has_interval[k] else none,
        )
        for k in range(len(first))
    )
    return difference(means[0], means[1], moves if has_interval.any() else none), per_class
