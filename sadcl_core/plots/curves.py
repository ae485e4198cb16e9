"""Curves of training over the epochs of all stages: an axis for each loss, for the mAP and for the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sadcl_core.plots.style import GREY, colour, save, short

MAPS = {
    "mAP_interpolated": "interpolated",
    "mAP_non_interpolated": "non-interpolated",
    "mAP_interpolated_network": "of the network itself, interpolated",
}
NOT_LOSSES = {"stage", "epoch", "seconds", "images_per_second", "lr", *MAPS}
COLUMNS = 3
WIDTH, HEIGHT, HEADING = 4.3, 2.9, 0.4  # inches, of an axis with its texts and of the line above all
LEFT, RIGHT, ABOVE, BELOW = 0.7, 0.6, 0.3, 0.55  # inches of its texts: to measure them takes a third of the drawing
WIDE = 20  # times between the highest and the lowest loss, from which on the scale is logarithmic
STEPS = 1000  # of a stage, that are drawn
HUGE = 1e30  # a larger number is no value of a step
LETTERS = 52  # of the stages' names, that fit under an axis

Rows = Sequence[Mapping[str, str]]
Points = Sequence[tuple[float, float]]


def plot_curves(rows: Rows, path: Path, *, title: str, split: str = "", steps: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Draw the rows of a results.csv, a mark an epoch, joined across the stages; single steps are a thin line behind.

    The mark of a loss is the mean of an epoch and lies in its middle; that of a learning rate is its last and lies at its end. An
    empty cell is a term that the stage does not use; `steps` are lines of a metrics.jsonl, and `split` is where the mAP is from.
    """
    losses = [name for name in rows[0] if name not in NOT_LOSSES and any(row.get(name) for row in rows)]
    maps = {name: label for name, label in MAPS.items() if name in rows[0]}
    epochs = epochs_of_run(rows)
    ema = "EMA " if any(epochs) else ""  # what was fitted before the first epoch has none
    panels: list[tuple[str, dict[str, str]]] = [(f"{ema}mAP{f' on split {split}' if split else ''}, %", maps)]
    panels += [(_loss_title(name), {name: ""}) for name in losses]
    panels += [("highest learning rate", {"lr": ""})] if any(row.get("lr") for row in rows) else []
    columns = min(COLUMNS, len(panels))
    count = math.ceil(len(panels) / columns)
    width, height = WIDTH * columns, HEIGHT * count + HEADING
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(LEFT / width, BELOW / height, 1 - RIGHT / width, 1 - (HEADING + ABOVE) / height)
    figure.subplots_adjust(wspace=1 / (WIDTH / (LEFT + RIGHT) - 1), hspace=1 / (HEIGHT / (ABOVE + BELOW) - 1))
    figure.suptitle(short(title, 60 * columns), x=0.01, ha="left", fontsize=12)
    grid = list(figure.subplots(count, columns, squeeze=False).flat)
    for axes, (heading, names) in zip(grid, panels, strict=False):
        axes.set_title(short(heading, 60), loc="left", fontsize=9)
        for number, (name, label) in enumerate(names.items()):
            later = 0.5 if name == "lr" else 0.0
            points = [(epoch + later, float(row[name])) for epoch, row in zip(epochs, rows, strict=True) if row.get(name)]
            _draw(axes, points, _of_steps(rows, epochs, steps, name), label=label, number=number)
        _scale(axes, log="loss" in heading)
        _mark_stages(axes, [row["stage"] for row in rows], epochs)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    return save(figure, path)


def _loss_title(name: str) -> str:
    return "total loss, weighted" if name == "loss" else f"{name.replace('_', '-')} loss, unweighted"


def _of_steps(rows: Rows, epochs: Sequence[int], steps: Sequence[Mapping[str, Any]], name: str) -> Points:
    """Return the values of single steps, those of epoch 1 between 0.5 and 1.5, with a gap after each stage."""
    points: list[tuple[float, float]] = []
    before = {row["stage"]: epoch - int(row["epoch"]) for epoch, row in zip(epochs, rows, strict=True) if row.get("loss")}
    for stage, start in before.items():
        lines = [[line.get(key) for key in ("epoch", "step", name)] for line in steps if line.get("stage") == stage]
        numbers = [[one for one in line if isinstance(one, float) and abs(one) < HUGE] for line in lines]
        whole = [line for line in numbers if len(line) == 3]
        most = max([step for _, step, _ in whole] + [1.0])  # of an epoch
        some = whole[:: max(1, len(whole) // STEPS)]
        points += [*sorted((start + epoch - 0.5 + step / most, value) for epoch, step, value in some), (math.nan, math.nan)]
    return points


def _draw(axes: Axes, points: Points, behind: Points, *, label: str, number: int) -> None:
    """Draw one curve; its best value is said in the legend, or its last one at the right."""
    if not points:
        return
    x, y = zip(*points, strict=True)
    axes.plot(*zip(*behind, strict=True), color=colour(number), alpha=0.4, linewidth=0.7)
    line, mark = (("-", "o"), ("--", "s"), (":", "^"))[number]
    style: Any = {"marker": mark, "markersize": 3.5, "linewidth": 1.2, "color": colour(number), "clip_on": False}
    axes.plot(x, y, line, label=f"{label}, best {max(y):.2f}", **style)
    if label:
        axes.legend(frameon=False, fontsize=8)
    else:
        at: Any = {"xycoords": ("axes fraction", "data"), "xytext": (5, 0), "textcoords": "offset points"}
        axes.annotate(f"{y[-1]:.3g}", (1, y[-1]), va="center", fontsize=7, color=colour(number), **at)


def _scale(axes: Axes, *, log: bool) -> None:
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()] or [np.zeros(1)])
    values = values[np.isfinite(values)]
    if log and 0 < values.min(initial=np.inf) * WIDE < values.max(initial=0):
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_formatter("{x:.4g}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(y=0.12)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _mark_stages(axes: Axes, stages: Sequence[str], epochs: Sequence[int]) -> None:
    """Draw a line where a stage ends, and write the names of the stages under the epochs, in two lines where one is too short."""
    first, last = min(epochs) - 0.5, max(epochs) + 0.5
    axes.set_xlim(first, last)
    names = list(dict.fromkeys(stages))
    ends = [max(epoch for epoch, one in zip(epochs, stages, strict=True) if one == stage) + 0.5 for stage in names]
    letters = [LETTERS * (end - start) / (last - first) for start, end in zip([first, *ends], ends, strict=False)]
    lines = 2 if any(len(name) > room for name, room in zip(names, letters, strict=True)) else 1
    for number, (name, start, end) in enumerate(zip(names, [first, *ends], ends, strict=False)):
        if end < last:
            axes.axvline(end, color=GREY, linestyle=":", linewidth=1)
        room = letters[number] if lines == 1 else sum(letters[max(number - 1, 0) : number + 2])
        axes.annotate(
            short(name, max(6, int(room))),
            ((start + end) / 2, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -24 - 9 * (number % lines)),
            textcoords="offset points",
            ha="center",
            va="top",
            color=GREY,
            fontsize=7,
        )
    axes.annotate(
        "epoch", (1, 0), xycoords="axes fraction", xytext=(2, -16), textcoords="offset points", ha="left", color=GREY, fontsize=7
    )


def epochs_of_run(rows: Rows) -> list[int]:
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
