"""Geometry of the small drawings on the evaluation page, in units of a square of 100 with its origin at the top left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

STEP = 8.0  # between dots on top of each other
STRIPES = 80  # of a curve's width; in each its lowest and its highest point are kept


class Dot(NamedTuple):
    """A drawn value: its place, and whose it is."""

    x: float
    y: float
    label: int
    value: float


def curve_path(x: npt.ArrayLike, y: npt.ArrayLike) -> str:
    """Return the `d` of an SVG path through the finite points in 0..1, thinned to the extremes where they are dense."""
    points = np.column_stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])
    points = points[np.isfinite(points).all(axis=1)].clip(0, 1)
    points = points[_extremes(points)] * (100, -100) + (0, 100)
    return "M" + "L".join(f"{a:.4g} {b:.4g}" for a, b in points) if len(points) else ""


def precision_recall_path(recall: npt.ArrayLike, precision: npt.ArrayLike) -> str:
    """Return the `curve_path` of a curve that starts at recall 0, with the precision of its first point."""
    x, y = np.asarray(recall, dtype=np.float64), np.asarray(precision, dtype=np.float64)
    return curve_path(np.append(0.0, x), np.append(y[:1], y)) if len(x) else ""


def _extremes(points: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the indices of the first, lowest, highest and last point of each stripe."""
    stripe = (points[:, 0] * STRIPES).astype(int)
    starts = np.flatnonzero(np.diff(stripe, prepend=-1))
    kept = []
    for part in np.split(np.arange(len(points)), starts[1:]):
        if len(part):
            height = points[part, 1]
            kept += [part[0], part[height.argmin()], part[height.argmax()], part[-1]]
    return np.unique(np.array(kept, dtype=np.intp))


def stacked_dots(values: Sequence[Any], *, columns: int = 64, height: float = 100) -> list[Dot]:
    """Return values in 0..1 as dots over a line from 0 to 1, equal ones on top of each other; without None and NaN."""
    finite = sorted((float(value), k) for k, value in enumerate(values) if value is not None and math.isfinite(value))
    places = [round(min(max(value, 0.0), 1.0) * columns) for value, _ in finite]
    tallest = max((places.count(place) for place in set(places)), default=1)
    step = min(STEP, height / tallest)
    level = dict.fromkeys(places, 0)
    dots = []
    for (value, k), place in zip(finite, places, strict=True):
        dots.append(Dot(100 * place / columns, height - step * (level[place] + 0.5), k, value))
        level[place] += 1
    return dots
