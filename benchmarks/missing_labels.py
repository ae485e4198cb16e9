"""Classification losses where labels are missing. Run: python benchmarks/missing_labels.py DATASET -o FILE.

Every loss trains one linear layer on the pooled features of a frozen backbone, with 100, 50 and 10 % of the labels left, several
seeds each; a seed hides other labels. Hidden labels are unknown, or stand as inactive, as where annotators overlooked them. A row
of FILE is a run: interpolated mAP in percent after the last epoch, over all classes and over those with ten or more active
held-out images. Rows that are there are kept, so the same command goes on after an interruption; in the end it prints the table.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

LOSSES: dict[str, tuple[str, dict[str, Any]]] = {  # what is printed: the term and its options
    "asymmetric, focusing 0 (BCE)": ("asymmetric", {}),
    "asymmetric, 4, clip 0.05": ("asymmetric", {"gamma_neg": 4, "clip": 0.05}),
    "BCE, neg-pos weights": ("asymmetric", {"class_weights": "neg-pos"}),
    "polynomial": ("polynomial", {}),
    "focal": ("focal", {}),
    "zlpr": ("zlpr", {}),
    "two_way": ("two_way", {}),
    "hill": ("hill", {}),
    "splc": ("splc", {}),
    "selective": ("selective", {}),
}
LEFT = (1.0, 0.5, 0.1)
HIDDEN = ("unknown", "inactive")
COMMON = 10  # active held-out images of a class
FIELDS = ("loss", "hidden", "left", "seed", "all", "common")


def settings(loss: str, hidden: str, left: float, epochs: int) -> dict[str, Any]:
    """The settings of one run beside the flags of the command."""
    term, options = LOSSES[loss]
    return {
        "stages.classification.losses.asymmetric": 0,
        f"stages.classification.losses.{term}": 1,
        **{f"loss.{term}.{name}": value for name, value in options.items()},
        "stages.classification.augment": "none",
        "data.hide_labels": 1 - left,
        "data.hidden_labels": hidden,
        "data.batch_size": 64,
        "optim.solve_linear": False,
        "optim.select": "last",
        "optim.evaluate_every": epochs,
        "model.global_branch": "none",
    }


def table(rows: list[dict[str, str]]) -> str:
    """Mean and standard deviation over the seeds, as a table in Markdown."""
    cells: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[row["loss"], row["hidden"]][row["left"]].append(f"{row['all']} {row['common']}")
    lines = [
        "| loss | hidden labels | " + " | ".join(f"{left:.0%} left: all | common" for left in LEFT) + " |",
        "| --- | --- | " + " | ".join("--- | ---" for _ in LEFT) + " |",
    ]
    for (loss, hidden), by_share in cells.items():
        shown = []
        for left in LEFT:
            values = [[float(value) for value in pair.split()] for pair in by_share[str(left)]]
            for numbers in zip(*values, strict=True) if values else ([], []):
                spread = f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
                shown.append(f"{statistics.mean(numbers):.1f}{spread}" if numbers else "")
        lines.append(f"| {loss} | {hidden} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", help="as for sadcl train")
    parser.add_argument("-o", "--output", required=True, type=Path, help="CSV file of the runs")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--pretrained", help="file of its weights; the hub's unless given")
    parser.add_argument("--cache", help="folder of the features")
    parser.add_argument("--img-size", type=int, default=288)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-3)
    given = parser.parse_args()

    import numpy as np

    from sadcl_core import evaluate, train
    from sadcl_core.data.prepare.prepare import find_or_prepare

    rows: list[dict[str, str]] = []
    if given.output.exists():
        with given.output.open(newline="") as file:
            rows = list(csv.DictReader(file))
    done = {(row["loss"], row["hidden"], row["left"], row["seed"]) for row in rows}
    manifest = find_or_prepare(given.dataset, data=None).manifest
    held_out = manifest.split("val" if "val" in manifest.splits else "test")
    common = held_out.class_counts() >= COMMON
    for seed, hidden, left, loss in product(range(1, given.seeds + 1), HIDDEN, LEFT, LOSSES):
        key = (loss, hidden, str(left), str(seed))
        if key in done or (hidden == "inactive" and left == 1):
            continue
        with tempfile.TemporaryDirectory() as folder:
            result = train(
                manifest,
                method="baseline",
                backbone=given.backbone,
                pretrained=given.pretrained or "hub",
                frozen=True,
                cache=given.cache,
                img_size=given.img_size,
                epochs=f"{given.epochs},0",
                lr=given.lr,
                seed=seed,
                set=settings(loss, hidden, left, given.epochs),
                output=Path(folder) / "run",
            )
            precisions = evaluate(result.run, bootstrap=0).per_class["AP_interpolated"]
        values = {"all": f"{np.nanmean(precisions):.2f}", "common": f"{np.nanmean(precisions[common]):.2f}"}
        row = {**dict(zip(FIELDS, key, strict=False)), **values}
        rows.append(row)
        with given.output.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            if len(rows) == 1:
                writer.writeheader()
            writer.writerow(row)
    print(table(rows))


if __name__ == "__main__":
    main()
