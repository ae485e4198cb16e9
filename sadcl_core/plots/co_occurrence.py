"""The labels that come together: of the images with the label of a row, the share that has the label of the column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sadcl_core.data.split import Split
from sadcl_core.data.statistics import label_statistics
from sadcl_core.plots.style import save, short

CLASSES = 80  # of more, the most frequent
WRITTEN = 14  # classes, up to which the shares are written into the cells


def plot_co_occurrence(split: Split, path: Path) -> Path:
    """Draw a matrix of the labels of a split, those of one superclass together and the frequent ones first.

    Args:
        split: of images with labels; where a label is unknown the image does not count.
        path: of the figure.
    """
    counts, shares = label_statistics(split), label_statistics(split).conditional()
    description = split.manifest.description
    frequent = np.argsort(-counts.active, kind="stable")[:CLASSES]
    groups = list(dict.fromkeys(description.superclasses[int(k)] for k in frequent)) if description.superclasses else []
    order = sorted(frequent.tolist(), key=lambda k: groups.index(description.superclasses[k]) if groups else 0)
    some = f", the {CLASSES} most frequent classes" if len(counts.active) > CLASSES else ""
    side = max(4.5, min(0.26 * len(order) + 2.5, 14))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shown = 100 * shares[np.ix_(order, order)]
    shown[counts.active[order] == 0] = np.nan
    np.fill_diagonal(shown, np.nan)
    drawn = axes.imshow(shown, cmap="cividis", vmin=0, interpolation="nearest")
    axes.set_facecolor("#DDDDDD")
    size = 8 if len(order) <= 25 else 6
    names = [short(split.manifest.classes[k], 20) for k in order]
    axes.set_xticks(range(len(order)), names, rotation=90, fontsize=size)
    rows = [f"{name} ({counts.active[k]:,})" for name, k in zip(names, order, strict=True)]
    axes.set_yticks(range(len(order)), rows, fontsize=size)
    axes.tick_params(length=0, pad=2)
    if len(order) <= WRITTEN:
        _write_shares(axes, shown)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.01)
    bar.ax.tick_params(labelsize=7)
    title = f"{short(description.name, 40)}, split {short(split.name)}: labels of {len(split):,} images{some}"
    axes.set_title(f"{title}\nof the images with the row's label, how many % have the column's", loc="left", fontsize=9)
    return save(figure, path)


def _write_shares(axes: Axes, shown: npt.NDArray[np.float64]) -> None:
    dark = np.nanmax(shown, initial=0.0) / 2
    for (row, column), share in np.ndenumerate(shown):
        if np.isfinite(share):
            style = "white" if share < dark else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7, color=style)
