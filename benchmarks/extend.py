"""What a class reaches that is added from a few photos: python benchmarks/extend.py RUN DATA CLASS [DRAWS] [STEPS,STEPS].

RUN was trained on the data without CLASS, DATA is the prepared data set with it. Photos are drawn from the training images that
show the class, DRAWS times. The other training images count as without it, as they are ("as is": those that show it are not
marked), or those alone that do not show it ("looked through"). Printed are AP of the class on split test (percent, interpolated):
mean and deviation over draws, and the mean ends of its interval.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from sadcl_core.data.manifest import load_manifest
from sadcl_core.inference.load import load_trained
from sadcl_core.metrics import average_precisions, bootstrap_average_precision, interval
from sadcl_core.model.logistic_regression import STRENGTHS
from sadcl_core.training.class_rows import ClassRows

PHOTOS = (5, 10, 20, 50)


def measure(run: str, data: Path, name: str, draws: int, tried: list[int]) -> None:
    """Measure and print."""
    manifest = load_manifest(data)
    label, splits = manifest.classes.index(name), [manifest.split("train"), manifest.split("test")]
    targets = np.concatenate([split.all_targets()[:, label] for split in splits])
    paths = [split.path(number) for split in splits for number in range(len(split))]
    held_out = np.arange(len(targets)) >= len(splits[0])
    model = load_trained(run, device="cpu", precision="fp32")
    shown = np.where(targets == 1, 1, 0)
    rows = ClassRows(model, paths, shown, steps=0, seed=0, batch_size=32, workers=2, progress=None)
    for count in PHOTOS:
        for kind, others in (("as is", ~held_out), ("looked through", ~held_out & (targets == 0))):
            for steps in tried:
                results = []
                for draw in range(draws):
                    photos = np.random.default_rng(draw).permutation(np.flatnonzero((targets == 1) & ~held_out))[:count]
                    rows.targets = torch.zeros(len(targets), dtype=torch.long)
                    rows.targets[photos] = 1
                    rows.steps, rows.strengths = steps, STRENGTHS
                    used = others.copy()
                    used[photos] = True
                    scores, truth = rows.scores(rows.fit(used), held_out)[:, None], targets[held_out, None]
                    ap = 100 * float(average_precisions(scores, truth).interpolated[0])
                    drawn = 100 * bootstrap_average_precision(scores, truth, samples=1000).interpolated[:, 0]
                    results.append((ap, *interval(drawn, ap, bounds=(0, 100))))
                mean, low, high = np.mean(results, axis=0)
                deviation = np.std([ap for ap, *_ in results], ddof=1) if draws > 1 else float("nan")
                about = f"{name:12}{count:4} photos  {kind:15}{steps:4} steps"
                print(f"{about}  {mean:6.1f} +- {deviation:4.1f} [{low:.1f}, {high:.1f}]", flush=True)


if __name__ == "__main__":
    run, data, name, *rest = sys.argv[1:]
    tried = [int(text) for text in rest[1].split(",")] if len(rest) > 1 else [0]
    measure(run, Path(data), name, int(rest[0]) if rest else 5, tried)
