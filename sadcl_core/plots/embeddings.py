"""The map of label features: one point per active label of an image, coloured and shaped by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from sadcl_core.plots.style import GREY, bare, colour, marker, save, short

MOST_CLASSES = 24  # with a colour and a legend entry of their own


def plot_embeddings(
    points: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], classes: Sequence[str], path: Path, *, title: str
) -> Path:
    """Draw n points; with many classes the rarer ones are grey.

    Args:
        points: (n, 2).
        labels: (n,) class indices.
        classes: K names.
        path: of the PNG.
        title: above the figure.
    """
    present, counts = np.unique(labels, return_counts=True)
    frequent = sorted(present[np.argsort(-counts, kind="stable")][:MOST_CLASSES])
    figure = Figure(figsize=(8.5, 6.5))
    axes = figure.add_subplot()
    rest = ~np.isin(labels, frequent)
    size = 22 if len(points) < 1500 else 9
    if rest.any():
        axes.scatter(
            points[rest, 0],
            points[rest, 1],
            s=size * 0.6,
            color=GREY,
            alpha=0.25,
            linewidths=0,
            label=f"{len(present) - len(frequent)} other classes",
        )
    for number, k in enumerate(frequent):
        axes.scatter(
            points[labels == k, 0],
            points[labels == k, 1],
            s=size,
            color=colour(number),
            marker=marker(number),
            alpha=0.8,
            linewidths=0,
            label=short(classes[k]),
        )
    axes.set_title(short(title, 120), loc="left", fontsize=12)
    bare(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, markerscale=1.6, fontsize=9)
    return save(figure, path)
