"""Time and memory against the number of images. Run: python benchmarks/growth.py [PART ...].

Each part runs in a process of its own for 10,000, 100,000 and 1,000,000 images of 80 classes with about three labels each. The
last column has the powers of the number of images that time and memory grow with, from the last step: 1 is proportional. `report`
does the same for other numbers, as of classes in benchmarks/classes.py.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

IMAGES = (10_000, 100_000, 1_000_000)
CLASSES, LABELS, WIDTH = 80, 3, 256
Work = Callable[[], object]
Part = Callable[[int], Work]


def measure(part: Part, count: int, queue: multiprocessing.Queue[tuple[float, float]]) -> None:
    """Put the seconds of one call, and the memory that it took at most, in MB, into a queue."""
    work = part(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    queue.put((seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def report(parts: Sequence[Part], sizes: Sequence[int], of: str) -> None:
    """Measure parts at every size, and print a table in Markdown."""
    context = multiprocessing.get_context("spawn")
    print(
        f"| part | {of} | seconds | MB more | us for each | kB for each | grows as |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for part in parts:
        last: tuple[float, float] | None = None
        for before, count in zip((0, *sizes), sizes, strict=False):
            queue: multiprocessing.Queue[tuple[float, float]] = context.Queue()
            process = context.Process(target=measure, args=(part, count, queue))
            process.start()
            process.join()
            if process.exitcode:
                print(f"| {part.__name__} | {count:,} | ended with {process.exitcode} | | | | |")
                break
            values = queue.get()
            powers = [
                math.log(max(now, 1e-9) / max(then, 1e-9)) / math.log(count / before)
                for now, then in zip(values, last or (), strict=False)
            ]
            cells = (f"{values[0]:.2f}", f"{values[1]:.0f}", f"{1e6 * values[0] / count:.1f}", f"{1000 * values[1] / count:.1f}")
            print(f"| {part.__name__} | {count:,} | {' | '.join(cells)} | {', '.join(f'{p:.1f}' for p in powers)} |", flush=True)
            last = values


def prepare(count: int) -> Work:
    """Read a table of labels, divide it, and store the manifest."""
    from prepare import read_and_store, write_csv

    path = write_csv(Path(tempfile.mkdtemp()), count, CLASSES)
    return lambda: read_and_store(path)


def epoch(count: int) -> Work:
    """Choose the images of every batch of an epoch."""
    from sadcl_core.data.sampling import EpochBatches

    batches = EpochBatches(count, 64, seed=0)
    return lambda: sum(map(len, batches))


def evaluation(count: int) -> Work:
    """Compute average precision in three conventions, precision, recall and F1 over all labels and the best three."""
    from sadcl_core.metrics import average_precisions, precision_recall

    scores, targets = scored(count)

    def work() -> None:
        average_precisions(scores, targets)
        precision_recall(scores, targets)
        precision_recall(scores, targets, topk=LABELS)

    return work


def calibration(count: int) -> Work:
    """Choose a threshold per class."""
    from sadcl_core.metrics.calibration.objective import Objective
    from sadcl_core.metrics.calibration.thresholds import choose_thresholds

    scores, targets = scored(count)
    return lambda: choose_thresholds(scores, targets, Objective("f1"))


def search(count: int) -> Work:
    """Find the 20 vectors that are nearest to one."""
    from sadcl_core.inference.search import nearest

    vectors = np.random.default_rng(0).standard_normal((count, WIDTH), np.float32)
    return lambda: nearest(vectors, vectors[0], 20)


def scored(
    count: int,
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], np.ndarray[tuple[int, int], np.dtype[np.int8]]]:
    """Return random scores and targets of so many images."""
    rng = np.random.default_rng(0)
    return rng.random((count, CLASSES), np.float32), (rng.random((count, CLASSES), np.float32) < LABELS / CLASSES).astype(np.int8)


PARTS = {part.__name__: part for part in (prepare, epoch, evaluation, calibration, search)}

if __name__ == "__main__":
    report([PARTS[name] for name in sys.argv[1:] or PARTS], IMAGES, "images")
