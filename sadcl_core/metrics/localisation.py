"""Attention held against the objects: the pointing game and the share of attention inside the boxes.

Pointing game: Zhang et al., Top-Down Neural Attention by Excitation Backprop, IJCV 2018. The highest point of a label's map
is a hit when it lies in a box of that label, or no more than a tolerance away: none here unless given, 15 pixels in their
code. Energy: Wang et al., Score-CAM, CVPR Workshops 2020 ("energy-based pointing game"). Boxes that overlap count once.

Maps are (h, w), not negative. A map covers the whole image, each cell an equal part of it. Boxes are (m, 4): left, top,
right, bottom, in 0..1 of the width and height of the image; what reaches beyond the border is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Localisation:
    """Results over the active labels that have boxes, each (K,), in 0..1, NaN for a class without one.

    Attributes:
        pointing: how often the highest point of the label's attention lies in one of its boxes.
        centre: how often the centre of the image does, which pointing has to beat (the baseline of Zhang et al.).
        energy: mean share of the label's attention inside its boxes.
        area: mean share of the image inside them, which is the energy of attention that is the same everywhere.
        counts: (K,) labels that were looked at.
        tolerance: pixels that a point may lie beside a box.
    """

    pointing: Floats
    centre: Floats
    energy: Floats
    area: Floats
    counts: npt.NDArray[np.int64]
    tolerance: float

    def means(self) -> dict[str, float]:
        """Return the means of `pointing`, `centre`, `energy` and `area` over the classes that have a value; NaN when none has."""
        known = self.counts > 0
        values = {name: getattr(self, name)[known] for name in ("pointing", "centre", "energy", "area")}
        return {name: float(value.mean()) if known.any() else float("nan") for name, value in values.items()}


def box_cover(boxes: npt.ArrayLike, h: int, w: int) -> Floats:
    """Return (h, w), the share of every cell that lies in a box of (m, 4); exact, also for boxes smaller than a cell.

    The mean over the cells is the share of the image that the boxes cover.

    Raises:
        ValueError: boxes are not (m, 4), hold NaN, or have a side of negative length.

    Example:
        >>> box_cover([[0, 0, 0.5, 0.75]], 2, 2)
        array([[1. , 0. ],
               [0.5, 0. ]])
    """
    corners = _checked_boxes(boxes).clip(0, 1) * (w, h, w, h)  # in cells, whose edges are then exact
    columns, rows = np.arange(w + 1.0), np.arange(h + 1.0)
    xs = np.unique(np.concatenate([columns, corners[:, 0], corners[:, 2]]))  # between two of these nothing changes
    ys = np.unique(np.concatenate([rows, corners[:, 1], corners[:, 3]]))
    inside = np.zeros((len(ys) - 1, len(xs) - 1), dtype=bool)
    lefts, tops, rights, bottoms = (np.searchsorted(at, corners[:, side]) for side, at in enumerate((xs, ys, xs, ys)))
    for left, top, right, bottom in zip(lefts, tops, rights, bottoms, strict=True):
        inside[top:bottom, left:right] = True
    areas = inside * np.outer(np.diff(ys), np.diff(xs))
    of_rows = np.add.reduceat(areas, np.searchsorted(ys, rows[:-1]), axis=0)
    cover: Floats = np.add.reduceat(of_rows, np.searchsorted(xs, columns[:-1]), axis=1).clip(0, 1)
    return cover


def highest_points(attention: npt.ArrayLike) -> Floats:
    """Return (n, 2), x and y in 0..1 of the highest point of a map (h, w): the centres of its highest cells.

    That is also the highest point of the map enlarged bilinearly, as it never rises above the cells it lies between.

    Raises:
        ValueError: see `box_energy`.
    """
    cells = _checked_map(attention)
    y, x = np.nonzero(cells == cells.max())
    return np.stack([(x + 0.5) / cells.shape[1], (y + 0.5) / cells.shape[0]], axis=1)


def points_in_boxes(
    points: npt.ArrayLike, boxes: npt.ArrayLike, tolerance: tuple[float, float] = (0.0, 0.0)
) -> npt.NDArray[np.bool_]:
    """Return (n,), true where a point of (n, 2) lies in one of the boxes (m, 4), on their edge, or within the tolerance.

    Args:
        points: x and y, in 0..1.
        boxes: as above.
        tolerance: how far, as shares of the width and of the height of the image: a circle of p pixels is
            (p / width, p / height).

    Raises:
        ValueError: boxes are not (m, 4), hold NaN, or have a side of negative length; or a tolerance is negative.

    Example:
        >>> points_in_boxes([[0.5, 0.5], [0.9, 0.9]], [[0, 0, 0.5, 0.5]])
        array([ True, False])
    """
    if min(tolerance) < 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    corners, at = _checked_boxes(boxes), np.asarray(points, np.float64)[:, None]  # (n, 1, 2)
    away = np.maximum(corners[:, :2] - at, at - corners[:, 2:]).clip(0)  # (n, m, 2), 0 inside
    radii = np.divide(away, tolerance, out=np.where(away > 0, np.inf, 0.0), where=np.asarray(tolerance) > 0)
    hits: npt.NDArray[np.bool_] = (np.square(radii).sum(axis=2) <= 1).any(axis=1)
    return hits


def pointing_hit(attention: npt.ArrayLike, boxes: npt.ArrayLike, tolerance: tuple[float, float] = (0.0, 0.0)) -> float:
    """Return 1.0 where the highest point of a map (h, w) lies in one of the boxes (m, 4), else 0.0; see `points_in_boxes`.

    Of several equally high points it is the share of them that do: what choosing one at random gives on average.

    Raises:
        ValueError: see `box_energy` and `points_in_boxes`.

    Example:
        >>> pointing_hit([[0.1, 0.9], [0.0, 0.0]], [[0.5, 0, 1, 0.5]])
        1.0
    """
    return float(points_in_boxes(highest_points(attention), boxes, tolerance).mean())


def box_energy(attention: npt.ArrayLike, cover: npt.ArrayLike) -> float:
    """Return the share of the attention (h, w) that lies inside the boxes, in 0..1.

    Attention that knows nothing of the object has the share of the image inside the boxes, `cover.mean()`.

    Args:
        attention: (h, w), of any sum above 0.
        cover: (h, w) from `box_cover`.

    Raises:
        ValueError: the attention is not (h, w), is negative, infinite or NaN somewhere, or 0 everywhere; or the shapes differ.

    Example:
        >>> box_energy([[0.2, 0.6], [0.2, 0.0]], box_cover([[0.5, 0, 1, 1]], 2, 2))
        0.6
    """
    cells, inside = _checked_map(attention), np.asarray(cover, np.float64)
    if cells.shape != inside.shape:
        raise ValueError(f"attention {cells.shape} and cover {inside.shape} must both be (h, w)")
    return float((cells * inside).sum() / cells.sum())


def _checked_boxes(boxes: npt.ArrayLike) -> Floats:
    corners = np.asarray(boxes, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ValueError(f"boxes {corners.shape} must be (m, 4)")
    if not (corners[:, :2] <= corners[:, 2:]).all():  # NaN included
        raise ValueError("boxes must be left, top, right, bottom, with left <= right and top <= bottom")
    return corners


def _checked_map(attention: npt.ArrayLike) -> Floats:
    cells = np.asarray(attention, np.float64)
    if cells.ndim != 2:
        raise ValueError(f"attention {cells.shape} must be (h, w)")
    if not (np.isfinite(cells).all() and cells.min(initial=0) >= 0 and cells.sum() > 0):
        raise ValueError("attention must be finite, nowhere negative and somewhere above 0")
    return cells
