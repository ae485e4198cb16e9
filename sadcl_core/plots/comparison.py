"""Methods side by side: a point per seed, joined across the methods, and the mean of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sadcl_core.plots.style import GREY, colour, marker, save, short

Values = npt.NDArray[np.float64]

NEAR = 3.0  # points of mAP below the best mean within which a method is shown enlarged


def plot_comparison(values: Mapping[str, Sequence[float]], seeds: Sequence[int], path: Path, *, title: str) -> Path:
    """Draw the mAP of every run; methods close to the best once more, enlarged, when others are far below.

    The values of a method are one number per seed, in percent; NaN where there is none.
    """
    table = np.array(list(values.values()), dtype=float)  # (methods, seeds)
    means = np.ma.masked_invalid(table).mean(axis=1).filled(np.nan)  # over the seeds that have a number
    near = means > np.nanmax(means, initial=-np.inf) - NEAR
    enlarge = bool(near.sum() >= 2 and not near.all())
    figure = Figure(figsize=(11 if enlarge else 7, 0.5 * len(values) + 2.2), layout="constrained")
    panels = figure.subplots(1, 1 + enlarge, sharey=True, squeeze=False)[0]
    for axes in panels:
        _draw(axes, table, means, seeds)
    panels[0].set_yticks(range(len(values)), list(values))
    panels[0].invert_yaxis()
    panels[0].set_title(short(title, 120), loc="left", fontsize=12)
    if enlarge:
        low, high = np.nanmin(table[near]), np.nanmax(table[near])
        margin = 0.08 * max(high - low, 0.1)
        panels[1].set_xlim(low - margin, high + margin)
        panels[1].set_title(f"enlarged: within {NEAR:g} points of the best", loc="left", fontsize=12)
    for place, mean in enumerate(means):
        if np.isnan(mean):
            continue
        panels[-1].annotate(f"{mean:.2f}", (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=GREY)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return save(figure, path)


def _draw(axes: Axes, table: Values, means: Values, seeds: Sequence[int]) -> None:
    places = np.arange(len(table))
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
    axes.scatter(means, places, s=260, marker="|", color="black", linewidths=2, label="mean", zorder=2)
    axes.set_xlabel("mAP (interpolated), %")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
