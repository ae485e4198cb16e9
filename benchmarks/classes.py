"""Time and memory of what grows with the number of classes, for 200 images of which each shows a few.

Run: python benchmarks/classes.py [PART ...]. Each part runs in a process of its own for 625, 1,250, 2,500 and 5,000 classes. The
last columns are time and memory for each class, and the powers of the number of classes that they grow with, from the last
doubling: 1 is proportional. The part `epochs` trains an epoch of each stage as `sadcl train` does by default.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from growth import Work, report

SIZES = (625, 1250, 2500, 5000)
IMAGES, PER_IMAGE, WIDTH, SLOTS, BATCH = 200, 4, 512, 16, 16


def labels(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.int8]]:
    """Return targets of 200 images."""
    targets = np.zeros((IMAGES, count), np.int8)
    rng = np.random.default_rng(0)
    for row in targets:
        row[rng.choice(count, PER_IMAGE, replace=False)] = 1
    return targets


def bank(count: int) -> Work:
    """Write the features of a batch into the memory bank, and contrast them with all of it."""
    import torch

    from sadcl_core.losses import sample_to_sample_loss
    from sadcl_core.model.memory_bank import MemoryBank

    memory = MemoryBank(slots=SLOTS, num_classes=count, width=WIDTH)
    memory.start_from(torch.randn(count, WIDTH))
    project = torch.nn.Linear(WIDTH, 128)

    def work() -> None:
        rows, classes = torch.randn(BATCH * PER_IMAGE, WIDTH, requires_grad=True), torch.randint(count, (BATCH * PER_IMAGE,))
        entries = memory.features[memory.filled]
        owners = memory.filled.nonzero()[:, 1]
        loss = sample_to_sample_loss(project(rows), classes, bank=project(entries), bank_labels=owners)
        loss.backward()
        memory.write(rows.detach(), torch.stack([torch.arange(BATCH).repeat_interleave(PER_IMAGE), classes], dim=1))

    return work


def epochs(count: int) -> Work:
    """Train an epoch of each stage on drawn photos, with the settings that are chosen for them, from random weights."""
    from PIL import Image

    import sadcl_core.training.run  # noqa: F401 # with torch, which is not to be measured
    from sadcl_core.training.train import train

    folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    lines = ["image,labels,split"]
    for number, row in enumerate(labels(count)):
        Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
        lines.append(f"{number}.jpg,{'|'.join(f'class {k}' for k in row.nonzero()[0])},{'train' if number % 4 else 'val'}")
    unused = "|".join(f"class {k}" for k in range(count))
    Image.new("RGB", (160, 120)).save(folder / "all.jpg")
    (folder / "labels.csv").write_text("\n".join([*lines, f"all.jpg,{unused},val"]) + "\n")
    given: dict[str, Any] = {"backbone": "test_resnet", "pretrained": False, "epochs": "1,1", "workers": 0, "device": "cpu"}
    return lambda: train(folder / "labels.csv", output=folder / "run", **given)


def step(count: int) -> Work:
    """Make a step of the whole network."""
    import torch

    from sadcl_core.config.schema import ModelSection
    from sadcl_core.model.classifier import Classifier

    heads = {"sarl": {"width": WIDTH, "feedforward": WIDTH}}
    section = ModelSection(backbone="test_resnet", stride=32, pretrained=False, heads=heads, projection_width=128)
    classifier = Classifier(section, num_classes=count, img_size=64)

    def work() -> None:
        classifier(torch.zeros(BATCH, 3, 64, 64)).logits.sum().backward()

    return work


def tables(count: int) -> Work:
    """Compute every number of an evaluation, and write its tables."""
    from sadcl_core.evaluation.evaluate import evaluate_scores

    scores, targets = np.random.default_rng(1).random((IMAGES, count), np.float32), labels(count)

    def work() -> None:
        result = evaluate_scores(scores, targets, [f"class {k}" for k in range(count)], subject={"name": "x"})
        result.save(Path(tempfile.mkdtemp()))

    return work


def page(count: int) -> Work:
    """Make the page of an evaluation."""
    from sadcl_core.evaluation.evaluate import evaluate_scores
    from sadcl_core.evaluation.report.build import make_page
    from sadcl_core.evaluation.report.page import page_text
    from sadcl_core.evaluation.scored_split import ScoredSplit

    scores, targets = np.random.default_rng(1).random((IMAGES, count), np.float32), labels(count)
    names = tuple(f"class {k}" for k in range(count))

    def work() -> None:
        result = evaluate_scores(scores, targets, names)
        text = page_text(make_page(ScoredSplit("x", scores, targets, names, about={"dataset": "x"}), result))
        print(f"    {count:,} classes: {len(text) / 2**20:.1f} MiB of HTML")

    return work


def figure(count: int) -> Work:
    """Draw the map of the prototypes, without t-SNE."""
    from sadcl_core.plots.prototypes import plot_prototypes

    rng = np.random.default_rng(1)
    points, cosines = rng.random((count, 2)), rng.random((count, count))
    names, path = [f"class {k}" for k in range(count)], Path(tempfile.mkdtemp()) / "p.png"
    return lambda: plot_prototypes(points, cosines, range(count), [(0, 1)], names, (), path, title="x")


def prototypes(count: int) -> Work:
    """Place the prototypes by t-SNE."""
    from sadcl_core.inference.coordinates import two_dimensions

    vectors = np.random.default_rng(1).standard_normal((count, 128), np.float32)
    return lambda: two_dimensions(vectors)


PARTS = {part.__name__: part for part in (epochs, step, bank, prototypes, tables, page, figure)}

if __name__ == "__main__":
    report([PARTS[name] for name in sys.argv[1:] or PARTS], SIZES, "classes")
