"""Curves of training: loss terms and EMA mAP over the epochs of all stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sadcl_core.plots.style import GREY, colour, save, short

MAPS = {"mAP_interpolated": "interpolated", "mAP_non_interpolated": "non-interpolated"}
NOT_LOSSES = {"stage", "epoch", "seconds", "images_per_second", "lr", *MAPS}


def plot_curves(rows: Sequence[Mapping[str, str]], path: Path, *, title: str) -> Path:
    """Draw the rows of a results.csv; an empty cell is a term the stage does not use."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for number, name in enumerate(key for key in rows[0] if key not in NOT_LOSSES):
        _draw(losses, rows, name, label=name.replace("_", "-"), number=number)
    for number, (name, label) in enumerate(MAPS.items()):
        _draw(scores, rows, name, label=label, number=number)
    losses.set_yscale("log")
    losses.set_title(short(title, 120), loc="left", fontsize=12)
    losses.set_ylabel("mean over the epoch, unweighted terms")
    scores.set_ylabel("EMA mAP, %")
    marked = list(zip(epochs_of_run(rows), (row["stage"] for row in rows), strict=True))
    ends = {stage: epoch for epoch, stage in marked}
    for axes in (losses, scores):
        for stage, end in zip([*ends][1:], ends.values(), strict=False):
            axes.axvline(end + 0.5, color=GREY, linestyle=":", linewidth=1)
            axes.annotate(
                stage,
                (end + 0.6, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -10),
                textcoords="offset points",
                color=GREY,
                fontsize=8,
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


def epochs_of_run(rows: Sequence[Mapping[str, str]]) -> list[int]:
    """Return the epoch of each row of a results.csv, counted through all stages; 0 for what was fitted before the first one.

    Example:
        >>> rows = [("linear", "1", ""), ("first", "2", "0.3"), ("first", "5", "0.1"), ("second", "2", "0.2")]
        >>> epochs_of_run([dict(zip(("stage", "epoch", "loss"), row)) for row in rows])
        [0, 2, 5, 7]
    """
    epochs: list[int] = []
    before, stage = 0, rows[0]["stage"]
    for row in rows:
        if row["stage"] != stage:
            before, stage = epochs[-1], row["stage"]
        epochs.append(before + int(row["epoch"]) if row.get("loss") else 0)
    return epochs


def _draw(axes: Axes, rows: Sequence[Mapping[str, str]], name: str, *, label: str, number: int) -> None:
    marked = list(zip(epochs_of_run(rows), rows, strict=True))
    for stage in dict.fromkeys(row["stage"] for row in rows):  # a stage starts from another epoch than the last one drawn
        points = [(epoch, float(row[name])) for epoch, row in marked if row.get(name) and row["stage"] == stage]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour(number), label=label)
            label = ""  # once in the legend
