"""The style of all figures: colours and shapes that stay apart in print and for colour-blind readers, and one way to save."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from sadcl_core.runtime.files import replacing

DPI = 200
# Paul Tol's "bright" and "muted" schemes
COLOURS = (
    "#4477AA",
    "#EE6677",
    "#228833",
    "#CCBB44",
    "#66CCEE",
    "#AA3377",
    "#882255",
    "#44AA99",
    "#999933",
    "#332288",
    "#DDCC77",
    "#117733",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
GREY = "#555555"
MISSING = "□"  # a letter that the font does not have


def colour(index: int) -> str:
    """Colour of a group; they repeat after twelve."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Shape of a group; it moves on when the colours repeat, so that 144 groups stay apart."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def bare(axes: Axes) -> None:
    """A map without scales: the axes of t-SNE mean nothing."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("#BBBBBB")


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG in one piece."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    return path


def short(name: str, length: int = 24) -> str:
    """A name as it can be drawn: on one line, not too long, of letters that the font has, and with no formula in it."""
    line = " ".join(name.split())
    line = line if len(line) <= length else line[: length - 1] + "…"
    return "".join(letter if ord(letter) in _letters() else MISSING for letter in line).replace("$", "\\$")


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
