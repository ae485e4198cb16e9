"""The style of all figures: colours and shapes that stay apart in print and for colour-blind readers, and one way to save."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from sadcl_core.errors import UsageError
from sadcl_core.runtime.files import replacing

DPI = 200  # unless savefig.dpi of matplotlib says otherwise
FORMATS = ("png", "svg", "pdf")
SETTINGS: Any = {"svg.hashsalt": "sadcl", "pdf.fonttype": 42}  # the same bytes each time; letters that journals take
# of Okabe and Ito, without black and yellow, and three of Paul Tol's "muted" scheme
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288", "#882255", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
GREY = "#555555"
MISSING = "□"  # a letter that the font does not have


def colour(index: int) -> str:
    """Colour of a group; they repeat after nine."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Shape of a group; it moves on when the colours repeat, so that 108 groups stay apart."""
    return MARKERS[(index % len(COLOURS) + index // len(COLOURS)) % len(MARKERS)]


def bare(axes: Axes) -> None:
    """A map without scales: the axes of t-SNE mean nothing."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("#BBBBBB")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in one piece, as its suffix says: the same figure gives the same bytes.

    Raises:
        UsageError: the suffix is none of a figure.
    """
    kind = figure_format(path)
    nothing = {"png": ("Software",), "svg": ("Date", "Creator"), "pdf": ("CreationDate", "Creator", "Producer")}[kind]
    with rc_context(SETTINGS), replacing(path) as temporary:
        metadata = dict.fromkeys(nothing)
        dpi = DPI if rcParams["savefig.dpi"] == "figure" else rcParams["savefig.dpi"]
        figure.savefig(temporary, format=kind, dpi=dpi, bbox_inches="tight", facecolor="white", metadata=metadata)
    return path


def figure_format(path: Path) -> str:
    """Return png, svg or pdf.

    Raises:
        UsageError: the suffix is none of them.

    Example:
        >>> figure_format(Path("a.SVG"))
        'svg'
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UsageError(f"{path}: figures are written as {', '.join(FORMATS)}. Give a name that ends so.")
    return kind


def short(name: str, length: int = 24, *, middle: bool = False) -> str:
    """A name as it can be drawn: on one line, not too long, of letters that the font has, and with no formula in it.

    Args:
        name: any text.
        length: letters, at most.
        middle: cut the middle out and not the end, as of names of files.

    Example:
        >>> short("a long name of a file.jpg", 12), short("a long name of a file.jpg", 12, middle=True)
        ('a long name…', 'a long…e.jpg')
    """
    line = " ".join(name.split())
    if len(line) > length:
        end = (length - 1) // 2 if middle else 0
        line = f"{line[: length - 1 - end].rstrip()}…{line[len(line) - end :]}"
    return "".join(letter if ord(letter) in _letters() else MISSING for letter in line).replace("$", "\\$")


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
