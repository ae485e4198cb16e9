"""What the two contrastive losses cost: images, classes, and 3 active labels an image. Run: python benchmarks/losses.py.

Each case is a process of its own: milliseconds of one core for a forward and backward pass (the median of several), and by how
much the peak of its memory rises. `losses` starts from the rows the losses look at, the active labels for S2S and the columns
of the classes present for P2S; `with bank` adds 16 entries a class, of the classes present or of all, which are projected in
every step; `from label features` also gathers the rows from the head's (B, K, D) and spreads the gradient over it, which any
loss on label features must. `all labels` is what projecting every label of every class first would cost, for as long as that
fits. The ratios are to K = 80 of the same B.

The second table is S2S alone at B = 32, K = 80, with projected features of the published width and as many in the bank, beside
the same loss written densely: supervised contrastive learning on all label features with masks for those that are not active.
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
from typing import Any

BATCHES, CLASSES, ACTIVE = (32, 64, 128), (80, 500, 5000), 3
WIDTH, PROJECTED = 256, 128
SLOTS = 16  # of the memory bank, for each class
WAYS = ("losses", "with bank, present", "with bank, all", "from label features", "all labels")
REPEATS = 5
DENSE = (32, 80, 1024)  # B, K, P
ACTIVE_ALONE = ("active labels, as here", "the same, from all label features", "dense, with masks")


def measure(way: str, batch: int, classes: int) -> dict[str, float]:
    """Milliseconds and rise of the peak memory in MiB of one case; runs in its own process."""
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


def measure_dense(way: str) -> dict[str, float]:
    """Milliseconds, rise of the peak memory in MiB and value of S2S in one way; runs in its own process."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from sadcl_core.losses import sample_to_sample_loss
    from sadcl_core.runtime.device import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    batch, classes, width = DENSE
    embeddings, bank = (torch.randn(batch, classes, width, generator=generator) for _ in range(2))
    active, filled = (torch.rand(batch, classes, generator=generator) < ACTIVE / classes for _ in range(2))
    labels, bank_labels = active.nonzero()[:, 1], filled.nonzero()[:, 1]

    def dense() -> Tensor:
        every = torch.arange(classes).repeat(batch)
        anchors = F.normalize(embeddings.flatten(0, 1), dim=-1)  # (B K, P)
        others = torch.cat([anchors, F.normalize(bank.flatten(0, 1), dim=-1)])
        mask = torch.cat([active.flatten(), filled.flatten()]).float() * (1 - torch.eye(len(anchors), len(others)))
        positive = mask * (every[:, None] == every.repeat(2)[None, :])
        logits = anchors @ others.T / 0.2
        logits = logits - logits.max(dim=1, keepdim=True).values.detach()
        log_probabilities = logits - (logits.exp() * mask).sum(dim=1, keepdim=True).log()
        means = (positive * log_probabilities).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        return -means[active.flatten()].mean()

    if way == ACTIVE_ALONE[0]:
        rows, entries = embeddings[active].requires_grad_(), bank[filled]
        return _timed(lambda: sample_to_sample_loss(rows, labels, bank=entries, bank_labels=bank_labels))
    embeddings.requires_grad_()
    if way == ACTIVE_ALONE[1]:
        return _timed(lambda: sample_to_sample_loss(embeddings[active], labels, bank=bank[filled], bank_labels=bank_labels))
    return _timed(dense)


def _timed(step: Callable[[], Any]) -> dict[str, float]:
    import torch

    (torch.ones(64, 64, requires_grad=True) @ torch.ones(64, 64)).logsumexp(dim=1).sum().backward()  # what torch takes at first
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        loss = step()
        loss.backward()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"ms": 1000 * statistics.median(seconds[1:]), "MiB": peak / 1024, "loss": loss.item()}


def _in_process(*case: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--case", *case], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    """Every case, as tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", nargs="+", metavar="WAY B K", help="one case, as JSON")
    case = parser.parse_args().case
    if case:
        print(json.dumps(measure_dense(case[0]) if len(case) == 1 else measure(case[0], int(case[1]), int(case[2]))))
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
                result = _in_process(way, str(batch), str(classes))
                ratio = result["ms"] / first.setdefault(way, result["ms"])
                cells.append(f"{result['ms']:.1f} | {ratio:.1f} | {result['MiB']:.0f}")
            print(f"| {batch} | {classes} | {' | '.join(cells)} |", flush=True)
    print("\n| S2S at B = {}, K = {}, P = {} | ms | of dense | MiB | of dense | loss |".format(*DENSE))
    print("| --- | --- | --- | --- | --- | --- |")
    found = {way: _in_process(way) for way in ACTIVE_ALONE}
    dense = found[ACTIVE_ALONE[-1]]
    for way, result in found.items():
        cells = [f"{result[name]:.1f} | 1/{dense[name] / result[name]:.0f}" for name in ("ms", "MiB")]
        print(f"| {way} | {' | '.join(cells)} | {result['loss']:.6f} |")


if __name__ == "__main__":
    main()
