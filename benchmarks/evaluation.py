"""What the numbers of a model cost: python benchmarks/evaluation.py [--large] [--coverage].

On one thread, for generated scores of the size of COCO's validation images (40,137 x 80, 2.9 labels an image, long-tailed):
average precision in all conventions and precision and recall over all labels and the 3 best, as ratios to the same from
torchmetrics in the same run; the bootstrap, as the ratio of 1,000 resamples to one evaluation. `--large` also evaluates
1,000,000 images x 500 classes in a process of its own and prints its peak of memory. `--coverage` instead counts how
often intervals of the bootstrap hold the mAP of the population that the images were drawn from.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from sadcl_core.metrics import (
    average_precisions,
    bootstrap_average_precision,
    interval,
    mean_over_classes,
    precision_recall,
)

IMAGES, CLASSES, LARGE = 40_137, 80, (1_000_000, 500)
LABELS = 2.9  # of an image, on average
SAMPLES, REPEATS = 1000, 5
SIZES = ((200, 20), (1000, 20), (5000, 80))  # images and classes of the coverage
POPULATION, DRAWS, RESAMPLES = 600_000, 400, 400
Floats = npt.NDArray[np.float64]


def generate(images: int, classes: int, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Scores in 0..1 and targets, made in blocks of rows; classes differ in how frequent and how easy they are."""
    rng = np.random.default_rng(seed)
    often = np.arange(1, classes + 1) ** -0.8
    often = np.minimum(often * LABELS / often.sum(), 0.5)
    ease = np.random.default_rng(1).uniform(1, 3, classes)  # the same in every draw
    scores, targets = np.empty((images, classes), np.float32), np.empty((images, classes), np.int8)
    for start in range(0, images, 1000):
        rows = slice(start, min(start + 1000, images))
        shape = (rows.stop - start, classes)
        targets[rows] = rng.random(shape, dtype=np.float32) < often
        hard = 0.5 * rng.standard_normal((shape[0], 1), dtype=np.float32)  # what the classes of an image share
        scores[rows] = 1 / (1 + np.exp(2 + hard - targets[rows] * ease - rng.standard_normal(shape, dtype=np.float32)))
    return scores, targets


def evaluate(scores: npt.NDArray[np.float32], targets: npt.NDArray[np.int8]) -> None:
    """What a published table holds of a model."""
    average_precisions(scores, targets)
    precision_recall(scores, targets)
    precision_recall(scores, targets, topk=3)


def of_torchmetrics(scores: npt.NDArray[np.float32], targets: npt.NDArray[np.int8]) -> Callable[[], None]:
    """The same as far as torchmetrics has it: one convention of average precision, and the counts that all ratios follow from."""
    import torch
    from torchmetrics.functional import classification as reference
    from torchmetrics.utilities.data import select_topk

    torch.set_num_threads(1)
    count = scores.shape[1]
    predicted, truth = torch.from_numpy(scores), torch.from_numpy(targets).long()

    def run() -> None:
        reference.multilabel_average_precision(predicted, truth, count, average="none", thresholds=None)
        reference.multilabel_stat_scores(predicted, truth, count, average="none")
        best = select_topk(predicted, 3, dim=1) * (predicted > 0.5)
        reference.multilabel_stat_scores(best, truth, count, average="none")

    return run


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The shortest of several runs."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def measure_large() -> dict[str, float]:
    """Seconds and MiB of one evaluation; runs in its own process."""
    scores, targets = generate(*LARGE)
    before = peak()
    taken = seconds(lambda: evaluate(scores, targets), 1)
    return {"seconds": taken, "arrays": (scores.nbytes + targets.nbytes) / 2**20, "before": before, "peak": peak()}


def peak() -> float:
    """Highest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def intervals(samples: Floats, estimate: float) -> Iterator[tuple[str, float, float]]:
    """Three usual intervals at 95 %."""
    low, high = np.quantile(samples, [0.025, 0.975])
    yield "percentile", float(low), float(high)
    yield "basic", *interval(samples, estimate)
    normal, share = NormalDist(), float(np.clip((samples < estimate).mean(), 0.5 / len(samples), 1 - 0.5 / len(samples)))
    shifted = [normal.cdf(2 * normal.inv_cdf(share) + side * normal.inv_cdf(0.975)) for side in (-1, 1)]
    low, high = np.quantile(samples, shifted)
    yield "bias-corrected", float(low), float(high)


def coverage(images: int, classes: int) -> None:
    """Print how often each interval holds the mAP of the population."""
    whole = average_precisions(*generate(POPULATION, classes, seed=10**6))
    truth = {name: float(getattr(whole, name).mean()) for name in ("interpolated", "non_interpolated")}
    held: dict[tuple[str, str], list[tuple[bool, float]]] = {}
    for seed in range(DRAWS):
        scores, targets = generate(images, classes, seed)
        here, samples = average_precisions(scores, targets), bootstrap_average_precision(scores, targets, samples=RESAMPLES)
        for name, value in truth.items():
            means = mean_over_classes(getattr(samples, name), getattr(here, name))
            for kind, low, high in intervals(means, float(np.nanmean(getattr(here, name)))):
                held.setdefault((name, kind), []).append((low <= value <= high, high - low))
    for (name, kind), found in held.items():
        share, width = np.mean(found, axis=0)
        print(f"| {images} | {classes} | {name} | {kind} | {share:.3f} | {width:.3f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--large", action="store_true", help="also 1,000,000 images x 500 classes")
    parser.add_argument("--coverage", action="store_true", help="how often intervals hold the mAP of the population; minutes")
    parser.add_argument("--measure-large", action="store_true", help="that alone, as JSON")
    arguments = parser.parse_args()
    if arguments.measure_large:
        print(json.dumps(measure_large()))
    elif arguments.coverage:
        print("| images | classes | convention | interval | coverage | width |\n| --- | --- | --- | --- | --- | --- |")
        for size in SIZES:
            coverage(*size)
    else:
        report(arguments.large)


def report(large: bool) -> None:
    """The costs, line by line."""
    scores, targets = generate(IMAGES, CLASSES)
    ours, theirs = seconds(lambda: evaluate(scores, targets)), seconds(of_torchmetrics(scores, targets), 3)
    bootstrap = seconds(lambda: bootstrap_average_precision(scores, targets, samples=SAMPLES), 1)
    print(f"{IMAGES:,} x {CLASSES}, {targets.sum() / IMAGES:.1f} labels an image")
    print(f"  evaluation            {ours:7.3f} s; torchmetrics {theirs:.3f} s, {theirs / ours:.1f} times as long")
    print(f"  {SAMPLES:,} resamples       {bootstrap:7.2f} s, {bootstrap / ours:.1f} evaluations")
    if large:
        done = subprocess.run([sys.executable, __file__, "--measure-large"], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        print(f"{LARGE[0]:,} x {LARGE[1]}")
        print(f"  evaluation            {found['seconds']:7.2f} s, {found['seconds'] / ours:.1f} times the small one")
        print(f"  peak memory           {found['peak']:7.0f} MiB, of which the arrays {found['arrays']:.0f} MiB")
        print(f"  before it             {found['before']:7.0f} MiB")


if __name__ == "__main__":
    main()
