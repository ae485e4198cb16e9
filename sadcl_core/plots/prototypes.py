"""The map of the prototypes: one named point per class, coloured and shaped by its superclass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from sadcl_core.plots.style import bare, colour, marker, save, short


def plot_prototypes(
    points: npt.NDArray[np.float64], classes: Sequence[str], superclasses: Sequence[str], path: Path, *, title: str
) -> Path:
    """Draw K points.

    Args:
        points: (K, 2).
        classes: K names.
        superclasses: K names, or none.
        path: of the PNG.
        title: above the figure.
    """
    groups = list(superclasses) or ["class"] * len(classes)
    figure = Figure(figsize=(8.5, 7) if len(classes) > 12 else (7, 5.5))
    axes = figure.add_subplot()
    for number, group in enumerate(dict.fromkeys(groups)):
        members = [k for k, name in enumerate(groups) if name == group]
        axes.scatter(
            points[members, 0],
            points[members, 1],
            s=90,
            color=colour(number),
            marker=marker(number),
            label=short(group),
            edgecolors="white",
            linewidths=0.8,
            zorder=3,
        )
    size = 10 if len(classes) <= 25 else 7
    for k, name in enumerate(classes):
        axes.annotate(short(name), points[k], xytext=(6, 5), textcoords="offset points", fontsize=size, zorder=4)
    axes.margins(0.12)
    axes.set_title(short(title, 120), loc="left", fontsize=12)
    bare(axes)
    if superclasses:
        axes.legend(title="superclass", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return save(figure, path)
