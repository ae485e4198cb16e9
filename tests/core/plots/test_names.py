from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from sadcl_core.plots.names import name_points


def crowd(count: int, spread: float) -> npt.NDArray[np.float64]:
    points = np.random.default_rng(0).normal(0, spread, (count, 2))
    points[0], points[1] = (-10, -10), (10, 10)
    return points


@pytest.mark.parametrize(("count", "spread"), [(2, 1.0), (80, 3.0), (80, 0.2)])
def test_no_name_lies_over_another_or_outside(count: int, spread: float) -> None:
    points = crowd(count, spread)
    names = [f"a class with quite a long name {k}"[k % 20 :] for k in range(count)]
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*points.T)
    left_out = name_points(axes, points, names, size=7, mark=6)
    texts = [child for child in axes.get_children() if isinstance(child, Annotation)]
    assert len(texts) == count - left_out
    assert left_out == 0 or spread == 0.2
    assert len(texts) > min(count, 40) * 0.9
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    boxes = [super(Annotation, text).get_window_extent(renderer) for text in texts]
    frame = axes.get_window_extent(renderer)
    for k, box in enumerate(boxes):
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])
