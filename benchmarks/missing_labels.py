"""Classification losses where labels are missing. Run: python benchmarks/missing_labels.py RUN -o FILE.

RUN was trained with --frozen: its features are there, and are pooled and projected on their first 256 principal components. Every
loss fits one linear layer to them (L-BFGS on all images at once, an L2 penalty) with 100, 50 and 10 % of the labels left, five
seeds each; a seed hides other labels. Hidden labels are unknown, or stand as inactive, as where annotators overlooked them. The
strength of the penalty is chosen by the labels left of every fifth training image. A row of FILE is a layer: interpolated mAP in
percent over all classes and over those with ten or more active held-out images. Rows that are there are kept, so the same command
goes on after an interruption; in the end it prints the table, and the differences to `asymmetric` with the same labels hidden.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sadcl_core.data.prepare.shape import hide_labels
from sadcl_core.data.split import Split
from sadcl_core.inference.feature_cache import open_stored
from sadcl_core.inference.load import Model, load_trained
from sadcl_core.inference.split import open_split
from sadcl_core.losses import (
    asymmetric_loss,
    class_weights,
    focal_loss,
    hill_loss,
    hinge_loss,
    polynomial_loss,
    selective_loss,
    splc_loss,
    two_way_loss,
    zlpr_loss,
)
from sadcl_core.metrics import average_precisions

LOSSES: dict[str, Callable[..., Tensor]] = {
    "asymmetric": partial(asymmetric_loss, gamma_neg=0),
    "asymmetric, gamma_neg 4, clip 0.05": partial(asymmetric_loss, gamma_neg=4, clip=0.05),
    "polynomial": polynomial_loss,
    "focal": focal_loss,
    "zlpr": zlpr_loss,
    "two_way": two_way_loss,
    "hill": hill_loss,
    "hinge": hinge_loss,
    "splc": splc_loss,
    "selective": selective_loss,
}
WEIGHTS = ("neg-pos", "effective-number")  # of `asymmetric`
LEFT = (1.0, 0.5, 0.1)
HIDDEN: tuple[Literal["unknown", "inactive"], ...] = ("unknown", "inactive")
COMMON = 10  # active held-out images of a class
BATCH = 64  # of features that are read
COMPONENTS = 256
SCALE = 4.0  # standard deviation of the first component
STRENGTHS = (0.01, 0.1, 1.0)
ITERATIONS = 40
FIELDS = ("loss", "hidden", "left", "seed", "all", "common")


@torch.inference_mode()
def pooled(model: Model, split: Split) -> Tensor:
    """(N, D): the mean of the last map of each image."""
    with open_stored(model, split) as features:
        if features is None:
            raise SystemExit(f"{model.path} has no stored features. Train a run with --frozen.")
        backbone = model.classifier.backbone
        loader = features.loader(split, batch_size=BATCH)
        return torch.cat([backbone.trained_part(tuple(m.float() for m in maps))[-1].mean(dim=(2, 3)) for maps, *_ in loader])


def fit(loss: Callable[..., Tensor], features: Tensor, targets: Tensor, strength: float) -> nn.Linear:
    """A linear layer that makes the loss small; SPLC corrects labels once it is fitted without."""
    layer = nn.Linear(features.shape[1], targets.shape[1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    for step in ({"correct": False}, {"correct": True}) if loss is splc_loss else ({},):
        optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def closure(optimizer: torch.optim.LBFGS = optimizer, step: dict[str, bool] = step) -> Tensor:
            optimizer.zero_grad()
            value = targets.shape[1] * loss(layer(features), targets, **step) + strength * layer.weight.square().sum() / 2
            value.backward()
            return value

        optimizer.step(closure)
    return layer


@torch.inference_mode()
def precisions(layer: nn.Linear, features: Tensor, targets: Tensor) -> npt.NDArray[np.float64]:
    """(K,) interpolated average precisions in percent."""
    return 100 * average_precisions(layer(features).sigmoid().double().numpy(), targets.numpy()).interpolated


def choose(loss: Callable[..., Tensor], features: Tensor, targets: Tensor) -> float:
    """The strength with the best mAP on every fifth image, by the labels that are left of it."""
    out = torch.arange(len(features)) % 5 == 0
    maps = [precisions(fit(loss, features[~out], targets[~out], strength), features[out], targets[out]) for strength in STRENGTHS]
    return STRENGTHS[int(np.argmax([np.nanmean(values) for values in maps]))]


def variants(split: Split) -> dict[str, Callable[..., Tensor]]:
    """The losses for the labels of a split, those with class weights too."""
    active, inactive = torch.from_numpy(split.class_counts()), torch.from_numpy(split.inactive_counts())
    prior = active / (active + inactive).clamp(min=1)
    result: dict[str, Callable[..., Tensor]] = {**LOSSES, "selective": partial(selective_loss, prior=prior)}
    for kind in WEIGHTS:
        weights = class_weights(kind, active, inactive)
        assert weights is not None
        balanced = partial(asymmetric_loss, gamma_neg=0, active_weights=weights[0], inactive_weights=weights[1])
        result[f"asymmetric, {kind} weights"] = balanced
    return result


def table(rows: list[dict[str, str]]) -> str:
    """Mean and standard deviation over the seeds, as a table in Markdown."""
    cells: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[row["hidden"], row["loss"]][row["left"]].append((float(row["all"]), float(row["common"])))
    lines = [
        "| hidden labels | loss | " + " | ".join(f"{left:.0%} left: all | common" for left in LEFT) + " |",
        "| --- | --- | " + " | ".join("--- | ---" for _ in LEFT) + " |",
    ]
    for (hidden, loss), by_share in sorted(cells.items(), key=lambda cell: HIDDEN[::-1].index(cell[0][0]), reverse=True):
        shown = []
        for left in LEFT:
            for numbers in zip(*by_share[str(left)], strict=True) if by_share[str(left)] else ((), ()):
                spread = f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
                shown.append(f"{statistics.mean(numbers):.1f}{spread}" if numbers else "")
        lines.append(f"| {hidden} | `{loss}` | {' | '.join(shown)} |")
    return "\n".join(lines)


def differences(rows: list[dict[str, str]], baseline: str = "asymmetric") -> str:
    """Mean difference to the baseline with the same labels hidden, and in how many seeds it is above 0, in Markdown."""
    maps = {(row["hidden"], row["left"], row["loss"], row["seed"]): float(row["all"]) for row in rows}
    columns = [(hidden, str(left)) for hidden, left in product(HIDDEN, LEFT) if left < 1]
    lines = [
        "| loss | " + " | ".join(f"{hidden}, {float(left):.0%} left" for hidden, left in columns) + " |",
        "| --- | " + " | ".join("---" for _ in columns) + " |",
    ]
    for loss in dict.fromkeys(row["loss"] for row in rows if row["loss"] != baseline):
        cells = []
        for column in columns:
            seeds = [seed for *key, name, seed in maps if tuple(key) == column and name == loss]
            paired = [maps[*column, loss, seed] - maps[*column, baseline, seed] for seed in seeds]
            cells.append(f"{statistics.mean(paired):+.1f} ({sum(value > 0 for value in paired)} of {len(paired)})")
        lines.append(f"| `{loss}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path, help="CSV file of the rows")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, str]] = []
    if given.output.exists():
        with given.output.open(newline="") as file:
            rows = list(csv.DictReader(file))
    done = {(row["loss"], row["hidden"], row["left"], row["seed"]) for row in rows}
    model = load_trained(given.run)
    held_out = open_split(model).split
    manifest = held_out.manifest
    features, others = pooled(model, manifest.split("train")), pooled(model, held_out)
    mean = features.mean(dim=0)
    components = torch.linalg.svd(features - mean, full_matrices=False).Vh[:COMPONENTS].T
    features, others = (features - mean) @ components, (others - mean) @ components
    features, others = (some * SCALE / features[:, 0].std() for some in (features, others))
    truth = torch.from_numpy(held_out.all_targets())
    common = held_out.class_counts() >= COMMON
    for seed, hidden, left in product(range(1, given.seeds + 1), HIDDEN, LEFT):
        if hidden == "inactive" and left == 1:
            continue
        split = hide_labels(manifest, "train", share=1 - left, become=hidden, seed=seed).split("train")
        targets = torch.from_numpy(split.all_targets())
        for name, loss in variants(split).items():
            key = (name, hidden, str(left), str(seed))
            if key in done:
                continue
            layer = fit(loss, features, targets, choose(loss, features, targets))
            precision = precisions(layer, others, truth)
            values = (f"{np.nanmean(precision):.2f}", f"{np.nanmean(precision[common]):.2f}")
            rows.append(dict(zip(FIELDS, (*key, *values), strict=True)))
            with given.output.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if len(rows) == 1:
                    writer.writeheader()
                writer.writerow(rows[-1])
    print(table(rows), differences(rows), sep="\n\n")


if __name__ == "__main__":
    main()
