"""What dividing a large data set costs: python benchmarks/splits.py [IMAGES] [CLASSES].

Prints, for generated labels whose classes have Zipf's frequencies, the seconds and the memory of one stratification into
0.8, 0.1 and 0.1, as a ratio also to the time Python needs to walk over the same labels as plain lists. Then both this and
the library `iterative-stratification`, which needs the dense matrix, divide sizes that both can: seconds, and by how many
images a class differs from its fraction of a split, on average.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from iterstrat.ml_stratifiers import IterativeStratification

from sadcl_core.data.prepare.stratify import stratify

FRACTIONS = (0.8, 0.1, 0.1)
BOTH = ((20_000, 80), (118_000, 80), (100_000, 500))  # images and classes


def generate(images: int, classes: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Up to three labels an image, and where those of each image start and end."""
    rng = np.random.default_rng(0)
    often = 1 / np.arange(1, classes + 1)
    drawn = np.sort(rng.choice(classes, (images, 3), p=often / often.sum()).astype(np.int32), axis=1)
    first = np.diff(drawn, axis=1, prepend=-1) > 0
    return drawn[first], np.concatenate([[0], np.cumsum(first.sum(axis=1))])


def walk(labels: npt.NDArray[np.int32], ends: npt.NDArray[np.int64]) -> Callable[[], Any]:
    """Counts the labels one by one."""
    rows = np.split(labels, ends[1:-1])
    lists, counts = [row.tolist() for row in rows], [0] * (int(labels.max()) + 1)

    def count() -> None:
        for row in lists:
            for label in row:
                counts[label] += 1

    return count


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def memory() -> float:
    """Peak of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def difference(dense: npt.NDArray[np.bool_], split: npt.NDArray[Any], fractions: Sequence[float]) -> float:
    """Images by which a class differs from its fraction of a split, on average."""
    counts = np.array([dense[split == number].sum(axis=0) for number in range(len(fractions))])
    return float(np.abs(counts - np.outer(fractions, dense.sum(axis=0))).mean())


def compare(images: int, classes: int) -> None:
    """Both ways on the same labels."""
    labels, ends = generate(images, classes)
    dense = np.zeros((images, classes), dtype=bool)
    dense[np.repeat(np.arange(images), np.diff(ends)), labels] = True
    ours, split = timed(lambda: stratify(labels, ends, FRACTIONS, seed=0))
    theirs, other = timed(lambda: IterativeStratification(dense, np.array(FRACTIONS), np.random.RandomState(0)))
    print(f"{images:,} images, {classes:,} classes, both ways")
    print(f"sparse            {ours:8.3f} s   {difference(dense, split, FRACTIONS):6.3f} images off")
    print(f"dense             {theirs:8.3f} s   {difference(dense, other, FRACTIONS):6.3f} images off")
    print(f"ratio             {theirs / ours:8.2f}")


def main(images: int, classes: int) -> None:
    """Measure and print."""
    labels, ends = generate(images, classes)
    before = memory()
    seconds, split = timed(lambda: stratify(labels, ends, FRACTIONS, seed=0))
    extra = memory() - before
    walked, _ = timed(walk(labels, ends))
    print(f"{images:,} images, {classes:,} classes, {len(labels):,} labels")
    print(f"divided           {seconds:8.3f} s   {seconds / walked:6.1f} walks over plain lists")
    print(f"peak memory       {extra:+8.1f} MiB")
    print(f"images            {', '.join(f'{count:,}' for count in np.bincount(split))}")
    for size in BOTH:
        compare(*size)


if __name__ == "__main__":
    main(*(int(argument) for argument in (sys.argv[1:] + ["1000000", "1000"][len(sys.argv) - 1 :])))
