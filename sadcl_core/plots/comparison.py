"""Methods side by side: a point per seed, joined across the methods, and the mean of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sadcl_core.plots.style import GREY, colour, marker, save


def plot_comparison(values: Mapping[str, Sequence[float]], seeds: Sequence[int], path: Path, *, title: str) -> Path:
    """Draw the mAP of every run.

    Args:
        values: of each method, one number per seed, percent.
        seeds: their names.
        path: of the PNG.
        title: above the figure.
    """
    figure = Figure(figsize=(7, 0.55 * len(values) + 1.6), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(values))
    table = np.array(list(values.values()), dtype=float)  # (methods, seeds)
    for number, seed in enumerate(seeds):
        axes.plot(table[:, number], places, color=colour(number), alpha=0.35, linewidth=1, zorder=1)
        axes.scatter(
            table[:, number],
            places,
            s=45,
            color=colour(number),
            marker=marker(number),
            edgecolors="white",
            linewidths=0.6,
            label=f"seed {seed}",
            zorder=3,
        )
    axes.scatter(table.mean(axis=1), places, s=260, marker="|", color="black", linewidths=2, label="mean", zorder=2)
    for place, mean in zip(places, table.mean(axis=1), strict=True):
        axes.annotate(f"{mean:.2f}", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=GREY)
    axes.set_yticks(places, list(values))
    axes.invert_yaxis()
    axes.set_xlabel("mAP (interpolated), %")
    axes.set_title(title, loc="left", fontsize=12)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="best")
    return save(figure, path)
