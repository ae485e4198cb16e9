"""Maps of label features: one point per active label of an image, coloured and shaped by class, several maps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sadcl_core.plots.style import GREY, bare, colour, marker, save, short

MOST_CLASSES = 24  # with a colour and a legend entry of their own
SIDE = 5.0  # inches of a map


@dataclass(frozen=True)
class FeatureMap:
    """Points (n, 2), their class indices (n,), and the lines above them."""

    points: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    title: str
    note: str = ""


def plot_embeddings(maps: Sequence[Sequence[FeatureMap]], classes: Sequence[str], path: Path, *, title: str) -> Path:
    """Draw rows of maps, all of the same classes; with many classes the rarer ones are grey."""
    everything = np.concatenate([one.labels for row in maps for one in row])
    present, counts = np.unique(everything, return_counts=True)
    frequent = [int(k) for k in present[np.argsort(-counts, kind="stable")][:MOST_CLASSES]]
    rows, columns = len(maps), len(maps[0])
    figure = Figure(figsize=(SIDE * columns + 2.2, SIDE * rows + 0.5), layout="constrained")
    figure.suptitle(short(title, 60 * columns), x=0.01, ha="left", fontsize=12)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes_row, row in zip(grid, maps, strict=True):
        for axes, one in zip(axes_row, row, strict=True):
            _draw(axes, one, frequent)
    handles = [
        Line2D([], [], linestyle="", color=colour(number), marker=marker(number), label=short(classes[k]))
        for number, k in enumerate(frequent)
    ]
    if len(present) > len(frequent):
        rest = f"{len(present) - len(frequent)} other classes"
        handles.append(Line2D([], [], linestyle="", color=GREY, alpha=0.4, marker="o", label=rest))
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    return save(figure, path)


def _draw(axes: Axes, one: FeatureMap, frequent: Sequence[int]) -> None:
    size = 18 if len(one.points) < 1500 else 7
    rest = ~np.isin(one.labels, frequent)
    if rest.any():
        x, y = one.points[rest].T
        axes.scatter(x, y, s=size * 0.6, color=GREY, alpha=0.25, linewidths=0)
    for number, k in enumerate(frequent):
        chosen = one.labels == k
        if chosen.any():
            x, y = one.points[chosen].T
            axes.scatter(x, y, s=size, alpha=0.8, linewidths=0, color=colour(number), marker=marker(number))
    axes.set_title("\n".join(short(line, 70) for line in (one.title, one.note) if line), loc="left", fontsize=9)
    bare(axes)
    axes.set_box_aspect(1)
