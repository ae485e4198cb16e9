"""Curves of training over the epochs of all stages: an axis for each loss, for the mAP and for the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sadcl_core.plots.style import GREY, colour, save, short

MAPS = {"mAP_interpolated": "interpolated", "mAP_non_interpolated": "non-interpolated"}
NOT_LOSSES = {"stage", "epoch", "seconds", "images_per_second", "lr", *MAPS}
COLUMNS = 3
WIDE = 20  # times between the highest and the lowest loss, from which on the scale is logarithmic


def plot_curves(rows: Sequence[Mapping[str, str]], path: Path, *, title: str, split: str = "") -> Path:
    """Draw the rows of a results.csv; an empty cell is a term the stage does not use.

    Args:
        rows: at least one.
        path: of the figure.
        title: above all.
        split: on which the mAP was measured.
    """
    losses = [name for name in rows[0] if name not in NOT_LOSSES and any(row.get(name) for row in rows)]
    panels: list[tuple[str, dict[str, str]]] = [(f"EMA mAP{f' on split {split}' if split else ''}, %", MAPS)]
    panels += [(_loss_title(name), {name: ""}) for name in losses]
    panels += [("highest learning rate at the end of the epoch", {"lr": ""})] if any(row.get("lr") for row in rows) else []
    columns = min(COLUMNS, len(panels))
    count = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.3 * columns, 2.9 * count + 0.4), layout="constrained")
    figure.suptitle(short(title, 60 * columns), x=0.01, ha="left", fontsize=12)
    grid = list(figure.subplots(count, columns, squeeze=False).flat)
    epochs = epochs_of_run(rows)
    for axes, (heading, columns_of_panel) in zip(grid, panels, strict=False):
        for number, (name, label) in enumerate(columns_of_panel.items()):
            _draw(axes, rows, epochs, name, label=label, number=number)
        axes.set_title(heading, loc="left", fontsize=9)
        _scale(axes, [float(row[name]) for row in rows for name in columns_of_panel if row.get(name)], heading)
        _mark_stages(axes, rows, epochs)
        if any(columns_of_panel.values()):
            axes.legend(frameon=False, fontsize=8)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    return save(figure, path)


def _loss_title(name: str) -> str:
    return "total loss, weighted" if name == "loss" else f"{name.replace('_', '-')} loss, unweighted"


def _scale(axes: Axes, values: Sequence[float], heading: str) -> None:
    positive = min(values, default=0) > 0
    if positive and "loss" in heading and max(values) > WIDE * min(values):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(y=0.12)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _mark_stages(axes: Axes, rows: Sequence[Mapping[str, str]], epochs: Sequence[int]) -> None:
    """Draw a line where a stage ends, and write the names of the stages under the epochs."""
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    stages = [row["stage"] for row in rows]
    starts = [k for k in range(len(rows)) if k == 0 or stages[k] != stages[k - 1]]
    before = min(epochs) - 0.5
    for k, following in zip(starts, [*starts[1:], len(rows)], strict=True):
        end = epochs[following - 1] + 0.5
        if following < len(rows):
            axes.axvline(end, color=GREY, linestyle=":", linewidth=1)
        share = (end - before) / (max(epochs) + 1 - min(epochs))
        axes.annotate(
            short(stages[k], max(6, int(46 * share))),
            ((before + end) / 2, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -24),
            textcoords="offset points",
            ha="center",
            va="top",
            color=GREY,
            fontsize=7,
        )
        before = end
    axes.annotate(
        "epoch", (1, 0), xycoords="axes fraction", xytext=(2, -16), textcoords="offset points", ha="left", color=GREY, fontsize=7
    )


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


def _draw(axes: Axes, rows: Sequence[Mapping[str, str]], epochs: Sequence[int], name: str, *, label: str, number: int) -> None:
    marked = list(zip(epochs, rows, strict=True))
    for stage in dict.fromkeys(row["stage"] for row in rows):  # a stage starts from another epoch than the last one drawn
        points = [(epoch, float(row[name])) for epoch, row in marked if row.get(name) and row["stage"] == stage]
        if points:
            x, y = zip(*points, strict=True)
            line, mark = (("-", "o"), ("--", "s"))[number]
            axes.plot(x, y, linestyle=line, marker=mark, markersize=3.5, color=colour(number), label=label)
            label = ""  # once in the legend
