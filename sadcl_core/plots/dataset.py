"""One page on a data set: images per class, labels that come together, labels per image, and some images with their labels."""

from __future__ import annotations

import textwrap
from contextlib import suppress
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from sadcl_core.data.images import open_image
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.report import Counts, Report
from sadcl_core.data.statistics import co_occurrence
from sadcl_core.errors import DataError
from sadcl_core.plots.co_occurrence import draw_shares, supported
from sadcl_core.plots.contact_sheet import Tile, draw_tiles
from sadcl_core.plots.style import GREY, colour, save, short

CLASSES = 40  # in the bars; of more, the most and the least frequent
TOGETHER = 25  # most frequent classes, in the matrix
PICTURES = 16  # in the montage
COLUMNS = 8
FEW = 10  # classes, under which bars are not made thicker
LEGEND = 12  # splits in it
WIDE = 100  # times between the most and the least frequent class, from which on counts are drawn on a log scale


def plot_dataset(manifest: Manifest, report: Report, path: Path) -> Path:
    """Draw the page of a manifest and its report."""
    figure = Figure(figsize=(14, 13), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.1, 1), squeeze=False)[:, 0]
    bars, right = top.subfigures(1, 2, width_ratios=(1, 1.25), squeeze=False)[0]
    matrix, labels = right.subfigures(2, 1, height_ratios=(2.4, 1), squeeze=False)[:, 0]
    images = sum(split.images for split in report.splits)
    figure.suptitle(
        f"{short(report.name, 60)}: {images:,} images, {len(report.classes):,} classes", x=0.01, ha="left", fontsize=15
    )
    _draw_counts(bars.subplots(), report)
    _draw_together(matrix.subplots(), manifest, report)
    _draw_cardinality(labels.subplots(), report)
    _draw_montage(bottom, manifest)
    return save(figure, path)


def _draw_counts(axes: Axes, report: Report) -> None:
    """Draw the number of images of each class, the splits one after the other; of many classes the most and least frequent."""
    counts = report.class_counts
    order = np.argsort(-counts, kind="stable")
    half = CLASSES // 2
    many = len(order) > CLASSES
    shown = np.concatenate([order[:half], order[-half:]]) if many else order
    places = np.arange(len(shown)) + (np.arange(len(shown)) >= half if many else 0)
    left = np.zeros(len(shown))
    log = report.imbalance >= WIDE
    for number, split in enumerate([] if log else report.splits):
        width = np.array(split.class_counts)[shown]
        axes.barh(places, width, left=left, color=colour(number), label=short(split.name), height=0.75)
        left += width
    if log:  # pieces of a bar cannot be compared on a log scale
        axes.barh(places, np.maximum(counts[shown], 0.5), color=colour(0), label="all splits", height=0.75)
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for place, k in zip(places, shown, strict=True):
        axes.annotate(
            f"{counts[k]:,}", (max(counts[k], 0.5), place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7
        )
    axes.set_yticks(places, [short(report.classes[k]) for k in shown], fontsize=8)
    if many:
        axes.axhline(half, color=GREY, linewidth=1, linestyle=":")
    axes.set_ylim(max(places[-1], FEW - 1) + 0.6, -0.6)
    axes.set_title(f"images per class{f' ({half} most and {half} least frequent)' if many else ''}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[:LEGEND], names[:LEGEND], frameon=False, fontsize=9, ncols=4, loc="upper right", bbox_to_anchor=(1, -0.03)
    )


def _draw_together(axes: Axes, manifest: Manifest, report: Report) -> None:
    """Draw, of the images with the class of a row, the share that has the class of the column."""
    frequent, omitted = supported(report.class_counts, TOGETHER)
    both = sum(co_occurrence(manifest.split(name)) for name in manifest.splits)[frequent][:, frequent].toarray()
    shares = both / np.maximum(np.diag(both)[:, None], 1)
    draw_shares(axes, shares, report.class_counts[frequent], [report.classes[k] for k in frequent], size=7)
    axes.set_title(f"of a row's images, how many % have the column's label; white: none{omitted}", loc="left", fontsize=10)


def _draw_cardinality(axes: Axes, report: Report) -> None:
    """Draw the number of images with 0, 1, 2, ... labels."""
    counts: Counts = np.array(report.cardinality)
    axes.bar(np.arange(len(counts)), counts, color=[GREY if labels == 0 else colour(0) for labels in range(len(counts))])
    mean = float((counts * np.arange(len(counts))).sum() / max(counts.sum(), 1))
    axes.set_title(f"labels per image, {mean:.2f} on average", loc="left", fontsize=11)
    axes.set_ylabel("images")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_montage(figure: SubFigure, manifest: Manifest) -> None:
    """Show images drawn at random, always the same ones, with their labels."""
    split = manifest.split(manifest.splits[0])
    tiles: list[Tile] = []
    for i in np.random.default_rng(0).permutation(len(split))[: 4 * PICTURES].tolist():
        with suppress(DataError):  # an image that was not checked
            labels = ", ".join(manifest.classes[k] for k in split.active(i)) or "(no label)"
            lines = textwrap.wrap(labels, 24, break_on_hyphens=False)
            tiles.append(Tile(open_image(split.path(i)), (*lines[:3], *["…"] * (len(lines) > 3))))
        if len(tiles) == PICTURES:
            break
    if tiles:
        draw_tiles(figure, tiles, columns=COLUMNS, size=8)
    figure.suptitle(f"some images of split {short(split.name)}", x=0.01, ha="left", fontsize=11)
