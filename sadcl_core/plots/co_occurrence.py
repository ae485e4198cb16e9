"""The labels that come together: of the images with the label of a row, the share that has the label of the column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sadcl_core.data.split import Split
from sadcl_core.data.statistics import label_statistics
from sadcl_core.plots.style import save, short

CLASSES = 80  # of more, the most frequent
LEAST = 10  # images of a class; a share of fewer says little
WRITTEN = 25  # classes, up to which the shares are written into the cells

Shares = npt.NDArray[np.float64]


def plot_co_occurrence(split: Split, path: Path) -> Path:
    """Draw a matrix of the labels of a split, those of one superclass together and the frequent ones first.

    Where a label is unknown the image does not count.
    """
    counts = label_statistics(split)
    description = split.manifest.description
    frequent, omitted = supported(counts.active, CLASSES)
    groups = list(dict.fromkeys(description.superclasses[k] for k in frequent)) if description.superclasses else []
    order = sorted(frequent, key=lambda k: groups.index(description.superclasses[k]) if groups else 0)
    side = max(4.5, min(0.26 * len(order) + 2.5, 14))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    names = [split.manifest.classes[k] for k in order]
    draw_shares(axes, counts.conditional()[np.ix_(order, order)], counts.active[order], names)
    title = f"{short(description.name, 40)}, split {short(split.name)}: labels of {len(split):,} images{omitted}"
    what = "of the images with the row's label, how many % have the column's"
    axes.set_title(f"{title}\n{what}; white: none of them", loc="left", fontsize=9)
    return save(figure, path)


def supported(active: npt.NDArray[np.int64], most: int) -> tuple[list[int], str]:
    r"""Return the most frequent classes by their images (K,), and words on those left out for too few images or too many classes.

    Where fewer than two classes have enough images, all are returned.

    Example:
        >>> supported(np.array([3, 40, 20, 30]), 2)
        ([1, 3], '\n1 class of fewer than 10 images and 1 less frequent class left out')
    """
    order = [int(k) for k in np.argsort(-active, kind="stable")]
    enough = [k for k in order if active[k] >= LEAST]
    kept = enough if len(enough) > 1 else order
    rare, rest = len(order) - len(kept), max(len(kept) - most, 0)
    words = [f"{rare} class{'es' * (rare > 1)} of fewer than {LEAST} images"] if rare else []
    words += [f"{rest} less frequent class{'es' * (rest > 1)}"] if rest else []
    return kept[:most], f"\n{' and '.join(words)} left out" if words else ""


def draw_shares(axes: Axes, shares: Shares, active: npt.NDArray[np.int64], classes: Sequence[str], *, size: float = 0) -> None:
    """Draw shares (K, K) in 0..1 of classes with `active` (K,) images: a cell without an image is white, the diagonal is grey.

    The title is left to the caller; `size` is of the letters, in points, and 0 chooses.
    """
    shown = 100 * shares
    np.fill_diagonal(shown, np.nan)
    most = float(np.nanmax(shown, initial=0.0)) or 1.0
    colours = colormaps["cividis"].with_extremes(bad="#DDDDDD", under="white")
    drawn = axes.imshow(shown, cmap=colours, vmin=1e-9, vmax=most, interpolation="nearest")
    size = size or (8 if len(classes) <= WRITTEN else 6)
    names = [short(name, 20) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=90, fontsize=size)
    rows = [f"{name} ({count:,})" for name, count in zip(names, active, strict=True)]
    axes.set_yticks(range(len(classes)), rows, fontsize=size)
    axes.tick_params(length=0, pad=2)
    if len(classes) <= WRITTEN:
        for (row, column), share in np.ndenumerate(shown):
            if share > 0:
                text = f"{share:.0f}" if share >= 0.5 else "<1"
                dark = share < most / 2
                axes.text(column, row, text, ha="center", va="center", fontsize=size - 1.5, color="white" if dark else "black")
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.01)
    bar.ax.tick_params(labelsize=7)
