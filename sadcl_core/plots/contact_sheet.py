"""Many small pictures on one page, each with a few lines under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from PIL import Image

from sadcl_core.plots.style import GREY, bare, colour, save, short

COLUMNS = 6
SIDE = 200  # pixels of a picture's longer side
THIN = 0.05  # of a column, that a picture is wide and high at least


@dataclass(frozen=True)
class Tile:
    """A picture (None: it cannot be read), the lines under it, and whether it is framed."""

    picture: Image.Image | None
    lines: tuple[str, ...]
    framed: bool = False


def plot_contact_sheet(tiles: Sequence[Tile], path: Path, *, title: str, columns: int = COLUMNS) -> Path:
    """Draw one tile or more, row by row; larger pictures are made smaller."""
    columns = min(columns, len(tiles))
    high = sum(1.65 * tall + 0.15 * lines + 0.12 for tall, lines in _rows(tiles, columns))
    figure = Figure(figsize=(max(1.75 * columns, 4), high + 0.4), layout="constrained")
    figure.suptitle(short(title, max(28 * columns, 60)), x=0.01, ha="left", fontsize=10)
    draw_tiles(figure, tiles, columns=columns)
    return save(figure, path)


def draw_tiles(figure: Figure | SubFigure, tiles: Sequence[Tile], *, columns: int, size: float = 7) -> None:
    """Draw tiles in rows, each as high as its highest picture, with the pictures standing on their lines; size in points."""
    heights = _rows(tiles, columns)
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=[tall for tall, _ in heights])
    for axes in grid.flat[len(tiles) :]:
        axes.set_visible(False)
    for number, (axes, tile) in enumerate(zip(grid.flat, tiles, strict=False)):
        tall, lines = heights[number // columns]
        width, height = _size(tile)
        left = (1 - width) / 2
        if tile.picture is None:
            axes.text(0.5, height / 2, "no picture", ha="center", va="center", color=GREY, fontsize=size + 1)
        else:
            picture = tile.picture.copy()
            picture.thumbnail((SIDE, SIDE))
            smooth = "nearest" if max(picture.size) < SIDE / 2 else "auto"
            axes.imshow(np.asarray(picture), interpolation=smooth, extent=(left, left + width, 0, height))
        if tile.framed or tile.picture is None:
            style = (colour(1), 2.5) if tile.framed else ("#BBBBBB", 0.8)
            frame = Rectangle((left, 0), width, height, fill=False, edgecolor=style[0], linewidth=style[1], clip_on=False)
            axes.add_patch(frame)
        bare(axes)
        axes.spines[:].set_visible(False)
        axes.set(xlim=(0, 1), ylim=(0, tall), aspect="equal")
        texts = [short(line, 26) for line in tile.lines]
        axes.set_xlabel("\n".join(texts + [""] * (lines - len(texts))), fontsize=size, linespacing=1.25)


def _rows(tiles: Sequence[Tile], columns: int) -> list[tuple[float, int]]:
    """Return of each row the height of its highest picture, in widths of a column, and the number of its lines."""
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return [(max(_size(tile)[1] for tile in row), max(len(tile.lines) for tile in row)) for row in rows]


def _size(tile: Tile) -> tuple[float, float]:
    """Return the width and height of a picture in widths of a column, at most 1."""
    width, height = tile.picture.size if tile.picture is not None else (4, 3)
    return max(width / max(width, height), THIN), max(height / max(width, height), THIN)
