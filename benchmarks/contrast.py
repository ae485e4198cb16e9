"""What is left for the contrastive losses to learn. Run: python benchmarks/contrast.py RUN [RUN ...].

For the model of each run, over batches of 32 training and of 32 held-out images, without augmentation and memory bank:

S2S        the sample-to-sample loss of the active labels
floor      what it would be if all features of a class were one and classes stood as far apart as they can
absent     the same with each active label's feature taken from another image that does NOT show the label: how much of the
           loss could be met by which label was asked for, without looking at the image
P2S        the prototype-to-sample loss; nan without prototypes
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from sadcl_core.data.loader import make_loader
from sadcl_core.data.split import Split
from sadcl_core.inference.load import Model, load_trained
from sadcl_core.inference.split import open_split
from sadcl_core.losses import prototype_to_sample_loss, sample_to_sample_loss

BATCH, TEMPERATURE, PROTOTYPE_TEMPERATURE = 32, 0.2, 0.07


def floor(labels: Tensor) -> float:
    """S2S of one point per class at the corners of a simplex, the widest that C classes can stand apart."""
    classes, places = labels.unique(return_inverse=True)
    if len(classes) < 2:
        return math.nan
    apart = len(classes)
    corners = torch.eye(apart) - 1 / apart
    return float(sample_to_sample_loss(corners[places], labels, TEMPERATURE))


def absent(features: Tensor, targets: Tensor) -> Tensor:
    """(N, P): for each active label the embedding of the same label in an image of the batch that does not show it."""
    rows, taken = [], [0] * targets.shape[1]
    for image, label in (targets == 1).nonzero().tolist():
        others = (targets[:, label] == 0).nonzero()[:, 0]
        rows.append(features[others[taken[label] % len(others)] if len(others) else image, label])
        taken[label] += 1  # another image for each
    return torch.stack(rows)


@torch.inference_mode()
def look(opened: Model, split: Split) -> dict[str, float]:
    """The four numbers of a model on a split, means over batches."""
    card = opened.card
    forward = opened.forward
    sums = dict.fromkeys(("S2S", "floor", "absent", "P2S"), 0.0)
    batches = 0
    for images, targets, _ in make_loader(split, card.preprocessing.resize, batch_size=BATCH, workers=0):
        active = targets == 1
        labels = active.nonzero()[:, 1]
        if len(labels) < 2 or math.isnan(floor(labels)):
            continue
        embeddings = forward.project(forward(images).label_features).cpu()
        sums["S2S"] += float(sample_to_sample_loss(embeddings[active], labels, TEMPERATURE))
        sums["floor"] += floor(labels)
        sums["absent"] += float(sample_to_sample_loss(absent(embeddings, targets), labels, TEMPERATURE))
        if card.has_prototypes:
            prototypes = forward.project(forward.classifier.prototypes).cpu()
            sums["P2S"] += float(prototype_to_sample_loss(embeddings, targets, prototypes, PROTOTYPE_TEMPERATURE))
        batches += 1
    if not card.has_prototypes:
        sums["P2S"] = math.nan
    return {name: value / max(batches, 1) for name, value in sums.items()}


def main(runs: list[str]) -> None:
    """A row per run."""
    if not runs:
        sys.exit("Name one or more runs of a method with contrastive losses, such as runs/digits.")
    print("| run | split | S2S | floor | absent | P2S |\n| --- | --- | --- | --- | --- | --- |")
    for run in runs:
        opened = load_trained(run)
        for name in ("train", None):
            split = open_split(opened, split=name).split
            values = look(opened, split)
            print(f"| {run} | {split.name} | " + " | ".join(f"{value:.3f}" for value in values.values()) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
