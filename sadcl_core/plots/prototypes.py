"""The prototypes: a map with one named point per class, the matrix of their cosines, and the pairs that are most alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sadcl_core.plots.names import name_points
from sadcl_core.plots.style import GREY, bare, colour, marker, save, short

PAIRS = 15  # most alike, as bars
EQUAL = 0.95  # cosine, from which on prototypes are nearly equal
MATRIX = 1000  # rows of the matrix that are drawn, more than it has pixels; of more classes every second, third, ... one
NAMED = 100  # classes, up to which the rows of the matrix have names


def plot_prototypes(
    points: npt.NDArray[np.float64] | None,
    cosines: npt.NDArray[np.float64],
    order: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    classes: Sequence[str],
    superclasses: Sequence[str],
    path: Path,
    *,
    title: str,
) -> Path:
    """Draw K prototypes: a map of points (K, 2) unless there are none, the matrix of cosines (K, K) and the pairs most alike.

    `order` is that of the rows, so that like classes stand together; `superclasses` are K names, or none.
    """
    figure = Figure(figsize=(16 if points is not None else 9, 8), layout="constrained")
    figure.suptitle(short(title, 120), x=0.01, ha="left", fontsize=13)
    ratios = (1.35, 1) if points is not None else (1,)
    parts = figure.subfigures(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    upper, lower = parts[-1].subfigures(2, 1, height_ratios=(2.6, 1), squeeze=False)[:, 0]
    _draw_matrix(upper.subplots(), cosines, order, classes)
    _draw_pairs(lower.subplots(), cosines, pairs[:PAIRS], classes)
    if points is not None:
        _draw_map(parts[0].subplots(), points, classes, superclasses)
    return save(figure, path)


def _draw_map(axes: Axes, points: npt.NDArray[np.float64], classes: Sequence[str], superclasses: Sequence[str]) -> None:
    groups = list(superclasses) or [""] * len(classes)
    many = len(classes) > 25
    for number, group in enumerate(dict.fromkeys(groups)):
        members = [k for k, name in enumerate(groups) if name == group]
        axes.scatter(
            points[members, 0],
            points[members, 1],
            s=40 if many else 90,
            color=colour(number),
            marker=marker(number),
            label=short(group),
            edgecolors="white",
            linewidths=0.6,
            zorder=3,
        )
    axes.margins(0.08)
    bare(axes)
    if superclasses:
        axes.legend(
            title="superclass",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.01),
            ncols=6,
            frameon=False,
            fontsize=8,
            title_fontsize=8,
        )
    left_out = name_points(axes, points, classes, size=7 if many else 10, mark=7 if many else 10)
    room = f" ({left_out} names have no room)" if left_out else ""
    axes.set_title(f"t-SNE of the cosines{room}", loc="left", fontsize=10)


def _draw_matrix(axes: Axes, cosines: npt.NDArray[np.float64], order: Sequence[int], classes: Sequence[str]) -> None:
    others = ~np.eye(len(order), dtype=bool)
    lowest, highest = (float(find(cosines, where=others, initial=start)) for find, start in ((np.min, 1), (np.max, -1)))
    every = math.ceil(len(order) / MATRIX)
    rows = np.asarray(order)[::every]
    shown = cosines[np.ix_(rows, rows)]
    np.fill_diagonal(shown, np.nan)
    drawn = axes.imshow(shown, cmap="cividis", vmin=min(0, lowest), vmax=1, interpolation="nearest")
    axes.set_facecolor("#DDDDDD")
    if len(order) <= NAMED:
        size = 8 if len(order) <= 25 else max(3.0, 260 / len(order))
        names = [short(classes[k], 20) for k in order]
        axes.set_xticks(range(len(order)), names, rotation=90, fontsize=size)
        axes.set_yticks(range(len(order)), names, fontsize=size)
        axes.tick_params(length=0, pad=2)
    else:
        bare(axes)
    equal = f": nearly equal, as none is below {EQUAL:g}" if lowest >= EQUAL else ""
    part = f" (one class in {every} is drawn)" if every > 1 else ""
    axes.set_title(f"cosine of each pair, {lowest:.4g} to {highest:.4g}{equal}{part}", loc="left", fontsize=10)
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.01)
    bar.ax.tick_params(labelsize=7)


def _draw_pairs(axes: Axes, cosines: npt.NDArray[np.float64], pairs: Sequence[tuple[int, int]], classes: Sequence[str]) -> None:
    values = [float(cosines[pair]) for pair in pairs]
    places = range(len(pairs))
    axes.plot(values, places, "o", color=colour(0), markersize=5)
    for place, value in zip(places, values, strict=True):
        at = (value, place)
        axes.annotate(f"{value:.5f}", at, xytext=(6, 0), textcoords="offset points", va="center", fontsize=7, color=GREY)
    axes.set_yticks(places, [f"{short(classes[a], 20)} · {short(classes[b], 20)}" for a, b in pairs], fontsize=7)
    axes.set_ylim(max(len(pairs), 3) - 0.4, -0.6)
    axes.set_xlim(min(0, *values), 1.15)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick < 1.1])
    axes.grid(axis="y", alpha=0.25)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title("cosine of the classes that are most alike", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
