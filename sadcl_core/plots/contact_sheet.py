"""Many small pictures on one page, each with a few lines under it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sadcl_core.plots.style import GREY, bare, colour, save, short

COLUMNS = 6
SIDE = 200  # pixels of a picture's longer side


@dataclass(frozen=True)
class Tile:
    """A picture (None: it cannot be read), the lines under it, and whether it is framed."""

    picture: Image.Image | None
    lines: tuple[str, ...]
    framed: bool = False


def plot_contact_sheet(tiles: Sequence[Tile], path: Path, *, title: str, columns: int = COLUMNS) -> Path:
    """Draw tiles, row by row.

    Args:
        tiles: at least one; larger pictures are made smaller.
        path: of the figure.
        title: above them.
        columns: tiles of a row, at most.
    """
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    most = max(len(tile.lines) for tile in tiles)
    figure = Figure(figsize=(max(1.75 * columns, 4), (1.75 + 0.16 * most) * rows + 0.4), layout="constrained")
    figure.suptitle(short(title, max(28 * columns, 60)), x=0.01, ha="left", fontsize=10)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, tile in zip(grid.flat, [*tiles, *[None] * (rows * columns - len(tiles))], strict=True):
        bare(axes)
        if tile is None:
            axes.set_visible(False)
            continue
        if tile.picture is None:
            axes.text(0.5, 0.5, "no picture", ha="center", va="center", color=GREY, fontsize=8, transform=axes.transAxes)
        else:
            picture = tile.picture.copy()
            picture.thumbnail((SIDE, SIDE))
            axes.imshow(np.asarray(picture), interpolation="nearest" if max(picture.size) < SIDE / 2 else "auto")
        axes.set_box_aspect(1)
        axes.set_anchor("N")
        for side in axes.spines.values():
            side.set_visible(tile.framed or tile.picture is None)
            side.set(color=colour(1) if tile.framed else "#BBBBBB", linewidth=2.5 if tile.framed else 0.8)
        lines = [short(line, 26) for line in tile.lines]
        axes.set_xlabel("\n".join(lines + [""] * (most - len(lines))), fontsize=7, linespacing=1.25)
    return save(figure, path)
