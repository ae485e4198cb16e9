"""What the two contrastive losses cost: images, classes, and 3 active labels an image. Run: python benchmarks/losses.py.

Each case is a process of its own: seconds of a forward and backward pass (the median of several), and by how much the
peak of its memory rises. `losses` starts from the rows the losses look at, the active labels for S2S and the columns of the
classes present for P2S; `with bank` adds 16 entries a class, of the classes present or of all, which are projected in every
step; `from label features` also gathers the rows from the head's (B, K, D) and spreads the gradient over it, which any loss
on label features must. `all labels` is what projecting every label of every class first would cost, for as long as that
fits. The ratios are to K = 80 of the same B.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

BATCHES, CLASSES, ACTIVE = (32, 64, 128), (80, 500, 5000), 3
WIDTH, PROJECTED = 256, 128
SLOTS = 16  # of the memory bank, for each class
WAYS = ("losses", "with bank, present", "with bank, all", "from label features", "all labels")
REPEATS = 5


def measure(way: str, batch: int, classes: int) -> dict[str, float]:
    """Seconds and rise of the peak memory in MiB of one case; runs in its own process."""
    import torch
    from torch import Tensor, nn

    from sadcl_core.losses import prototype_to_sample_loss, sample_to_sample_loss
    from sadcl_core.runtime.device import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    targets = torch.zeros(batch, classes).scatter_(1, torch.rand(batch, classes, generator=generator).topk(ACTIVE).indices, 1)
    active, present = targets == 1, (targets == 1).any(dim=0).nonzero()[:, 0]
    labels, known = active.nonzero()[:, 1], targets[:, present]
    project = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, PROJECTED))

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    def both(rows: Tensor, columns: Tensor, known: Tensor, centres: Tensor, bank: Tensor | None = None) -> Tensor:
        bank_labels = None if bank is None else remembered.repeat_interleave(SLOTS)
        s2s = sample_to_sample_loss(rows, labels, bank=bank, bank_labels=bank_labels)
        return 0.1 * s2s + 0.05 * prototype_to_sample_loss(columns, known, centres)

    remembered = present if way == "with bank, present" else torch.arange(classes)
    if way.startswith("with bank"):
        rows, columns, centres = leaf(len(labels), WIDTH), leaf(batch, len(present), WIDTH), leaf(len(present), WIDTH)
        bank = leaf(SLOTS * len(remembered), WIDTH).detach()
        return _timed(lambda: both(project(rows), project(columns), known, project(centres), project(bank)))
    if way == "losses":
        rows, columns, centres = leaf(len(labels), WIDTH), leaf(batch, len(present), WIDTH), leaf(len(present), WIDTH)
        return _timed(lambda: both(project(rows), project(columns), known, project(centres)))
    features, prototypes = leaf(batch, classes, WIDTH), leaf(classes, WIDTH)
    if way == "from label features":
        return _timed(lambda: both(project(features[active]), project(features[:, present]), known, project(prototypes[present])))

    def step() -> Tensor:
        everything = project(features)
        return both(everything[active], everything, targets, project(prototypes))

    return _timed(step)


def _timed(step: Callable[[], object]) -> dict[str, float]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        step().backward()  # type: ignore[attr-defined]
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": statistics.median(seconds[1:]), "MiB": peak / 1024}


def main() -> None:
    """Every case, as a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", nargs=3, metavar=("WAY", "B", "K"), help="one case, as JSON")
    case = parser.parse_args().case
    if case:
        print(json.dumps(measure(case[0], int(case[1]), int(case[2]))))
        return
    print("| B | K | " + " | ".join(f"{way}: ms | x | MiB" for way in WAYS) + " |")
    print("| --- | --- | " + " | ".join("--- | --- | ---" for _ in WAYS) + " |")
    for batch in BATCHES:
        first: dict[str, float] = {}
        for classes in CLASSES:
            cells = []
            for way in WAYS:
                if way == "all labels" and batch * classes > 64 * 5000:  # several gigabytes
                    cells.append("- | - | -")
                    continue
                command = [sys.executable, __file__, "--case", way, str(batch), str(classes)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                result = json.loads(done.stdout)
                first.setdefault(way, result["seconds"])
                ratio = result["seconds"] / first[way]
                cells.append(f"{1000 * result['seconds']:.1f} | {ratio:.1f} | {result['MiB']:.0f}")
            print(f"| {batch} | {classes} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
