"""Names beside points, none over another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from scipy.spatial import KDTree

from sadcl_core.plots.style import GREY, families, short, use_fonts

Boxes = npt.NDArray[np.float64]  # (n, 4): left, bottom, right, top in pixels

DISTANCES = (2, 4, 7, 12, 18, 26, 36, 50, 70, 95, 125, 160)  # pixels at 100 dpi between a point's mark and its name
ANGLES = np.deg2rad([20, 160, -20, -160, 90, -90, 0, 180, 45, 135, -45, -135, 70, 110, -70, -110])  # the best ones first
LEADER = 7  # distance from which on a line joins a name and its point


def name_points(axes: Axes, points: npt.NDArray[np.float64], names: Sequence[str], *, size: float, mark: float = 10) -> int:
    """Write the names of points (n, 2), in the units of the axes, as near to them as there is room; return how many found none.

    All marks, `mark` points wide, are drawn and the limits set before; here the figure's layout is settled. `size` is in points.
    """
    figure = cast("Figure", axes.get_figure(root=True))
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    use_fonts(figure)
    figure.draw_without_rendering()
    unit = figure.dpi / 72
    places = axes.transData.transform(points)
    half = mark * unit / 2
    frame = axes.get_window_extent(renderer)
    taken = np.zeros((math.ceil(frame.y1), math.ceil(frame.x1)), bool)  # pixels
    for where in _pixels(np.column_stack([places - half, places + half])):
        taken[where] = True
    texts = [short(name) for name in names]
    font = FontProperties(family=families(" ".join(texts)), size=size)
    sizes = np.array([renderer.get_text_width_height_descent(text, font, False)[:2] for text in texts]).reshape(-1, 2) + 2
    near = KDTree(places).query_ball_point(places, 40 * unit, return_length=True) if len(places) else np.empty(0, int)
    crowded = np.argsort(-near, kind="stable")
    left_out = 0
    for k in crowded:
        boxes, distances = _candidates(places[k], sizes[k], half, unit)
        inside = (boxes[:, :2] >= [frame.x0, frame.y0]).all(axis=1) & (boxes[:, 2:] <= [frame.x1, frame.y1]).all(axis=1)
        pixels = _pixels(boxes)
        free = next((number for number in np.flatnonzero(inside) if not taken[pixels[number]].any()), None)
        if free is None:
            left_out += 1
            continue
        box, distance = boxes[free], distances[free]
        taken[pixels[free]] = True
        centre = (box[:2] + box[2:]) / 2
        axes.annotate(
            texts[k],
            points[k],
            xytext=tuple((centre - places[k]) / unit),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            zorder=5,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkA": 0, "shrinkB": mark / 2}
            if distance >= LEADER
            else None,
        ).set_in_layout(False)  # it lies within the axes
    return left_out


def _candidates(place: npt.NDArray[np.float64], size: npt.NDArray[np.float64], half: float, unit: float) -> tuple[Boxes, Boxes]:
    """Return places for a box of a size around a mark, the best first, and their distances from it."""
    distances = np.repeat(np.array(DISTANCES, float), len(ANGLES))
    angles = np.tile(ANGLES, len(DISTANCES))
    away = (half + distances * unit / 1.39)[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    centres = (
        place + away + np.sign(np.round(away, 6)) * size / 2 * np.abs(np.column_stack([np.cos(angles), np.sin(angles)])) ** 0.5
    )
    return np.hstack([centres - size / 2, centres + size / 2]), distances


def _pixels(boxes: Boxes) -> list[tuple[slice, slice]]:
    """Return the rows and columns of an image that each box touches."""
    ends = np.maximum(np.hstack([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])]), 0).astype(int)
    return [(slice(bottom, top), slice(left, right)) for left, bottom, right, top in ends.tolist()]
