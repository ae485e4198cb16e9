"""Precision against recall of every class, and F1 against the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sadcl_core.metrics.precision_recall_curve import Curve
from sadcl_core.plots.style import GREY, colour, save, short

Values = npt.NDArray[np.float64]

OFTEN = 10  # positives of a class that is named where there are many
NAMED = 10  # classes, up to which each curve has a colour and a name; of more, half of them at each end
SAME_F1 = (0.2, 0.4, 0.6, 0.8)
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class ThresholdCurves:
    """The numbers of the figure.

    Attributes:
        classes: K names.
        each: K curves.
        together: the curve of all decisions.
        thresholds: (T,), rising.
        f1: (T,) in 0..1 of each kind of F1 by its name, with one threshold for all classes.
        own: (K,), thresholds of the model, or none.
    """

    classes: Sequence[str]
    each: Sequence[Curve]
    together: Curve
    thresholds: Values
    f1: Mapping[str, Values]
    own: Sequence[float] = ()


def plot_thresholds(numbers: ThresholdCurves, path: Path, *, title: str) -> Path:
    """Draw both panels."""
    figure = Figure(figsize=(12, 5.9), layout="constrained")
    figure.suptitle(short(title, 120), x=0.01, ha="left", fontsize=12)
    curves, f1 = figure.subplots(1, 2)
    _draw_curves(curves, numbers)
    _draw_f1(f1, numbers)
    for axes in (curves, f1):
        axes.set_ylim(0, 1.02)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    return save(figure, path)


def _draw_curves(axes: Axes, numbers: ThresholdCurves) -> None:
    for level in SAME_F1:
        recall = np.linspace(level / 2, 1, 100)[1:]
        axes.plot(recall, level * recall / (2 * recall - level), color="#CCCCCC", linewidth=0.7, linestyle=":")
        axes.annotate(
            f"F1 {level:g}", (1, level / (2 - level)), xytext=(2, 0), textcoords="offset points", fontsize=6, color=GREY
        )
    # from a recall of 0 on, so that a class with one positive is a line as well
    drawn = {
        k: (np.array([0, *curve.recall]), np.array([*curve.precision[:1], *curve.precision]))
        for k, curve in enumerate(numbers.each)
        if len(curve.recall)
    }
    often = [k for k in drawn if len(numbers.each[k].recall) >= OFTEN]  # at the ends of all are classes with one positive
    ranked = sorted(often if len(often) > NAMED else drawn, key=lambda k: -float(np.trapezoid(drawn[k][1], drawn[k][0])))
    some = len(drawn) > NAMED
    named = [*ranked[: NAMED // 2], *ranked[-(NAMED // 2) :]] if some else list(drawn)
    for recall, precision in drawn.values():
        axes.plot(recall, precision, linewidth=0.5, alpha=0.4, color="#888888")
    for number, k in enumerate(named):
        style: Any = {"color": colour(number), "linestyle": LINES[number % len(LINES)], "linewidth": 1.1}
        axes.plot(*drawn[k], label=short(numbers.classes[k]), **style)
    axes.plot(numbers.together.recall, numbers.together.precision, color="black", linewidth=2.2, label="all decisions together")
    axes.set_xlim(0, 1)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    left_out = f", {len(numbers.each) - len(drawn)} without a positive left out" if len(drawn) < len(numbers.each) else ""
    ends = f"\nnamed: the {NAMED // 2} with most area under their curve and the {NAMED // 2} with least" if some else ""
    ends += f", of {OFTEN} positives or more" if some and len(often) > NAMED else ""
    axes.set_title(f"precision and recall of {len(drawn)} classes{left_out}{ends}", loc="left", fontsize=9)
    _legend(axes, columns=3)


def _legend(axes: Axes, *, columns: int) -> None:
    """Put the legend under the axes, where no curve is."""
    axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=columns)


def _draw_f1(axes: Axes, numbers: ThresholdCurves) -> None:
    for number, (name, values) in enumerate(numbers.f1.items()):
        if not np.isfinite(values).any():
            continue
        best = int(np.nanargmax(values))
        at, most = numbers.thresholds[best], values[best]
        label = f"{name}: {most:.3f} at {at:.2f}"
        axes.plot(
            numbers.thresholds, values, color=colour(number), linestyle=LINES[number % len(LINES)], linewidth=1.6, label=label
        )
        axes.plot([at], [most], "o", color=colour(number), markersize=5)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    if len(numbers.own):
        axes.plot(
            numbers.own, np.full(len(numbers.own), 0.01), "|", color="black", markersize=9, label="the model's own, of each class"
        )
    axes.set_xlim(0, 1)
    axes.set_xlabel("threshold, the same for all classes")
    axes.set_title("F1, the best of each on these images marked", loc="left", fontsize=9)
    _legend(axes, columns=2)
