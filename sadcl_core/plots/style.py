"""The style of all figures: colours and shapes that stay apart in print and for colour-blind readers, and one way to save."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from sadcl_core.errors import UsageError
from sadcl_core.runtime.files import replacing

DPI = 200  # unless savefig.dpi of matplotlib says otherwise
FORMATS = ("png", "svg", "pdf")
SETTINGS: Any = {"svg.hashsalt": "sadcl", "pdf.fonttype": 42}  # the same bytes each time; letters that journals take
# of Okabe and Ito, without black and yellow, and three of Paul Tol's "muted" scheme
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288", "#882255", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
GREY = "#555555"
ESCAPED = re.compile(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}")
UNESCAPED = re.compile(r"(?<!\\)\$")
ESCAPE_NOTE = "\\u and digits: a letter that no installed font has"
SELECTORS = range(0xFE00, 0xFE10)  # they choose a form of the letter before them, and are not drawn
NO_LETTERS = re.compile("last ?resort|blank|color|barcode", re.IGNORECASE)  # fonts of boxes, of nothing, of pictures


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
        UsageError: figures have no such suffix.
    """
    kind = figure_format(path)
    nothing = {"png": ("Software",), "svg": ("Date", "Creator"), "pdf": ("CreationDate", "Creator", "Producer")}[kind]
    if ESCAPED.search(use_fonts(figure)):
        figure.text(0.01, 0, ESCAPE_NOTE, ha="left", va="top", fontsize=7, color=GREY)
    with rc_context(SETTINGS), replacing(path) as temporary:
        metadata = dict.fromkeys(nothing)
        dpi = DPI if rcParams["savefig.dpi"] == "figure" else rcParams["savefig.dpi"]
        figure.savefig(temporary, format=kind, dpi=dpi, bbox_inches="tight", facecolor="white", metadata=metadata)
    return path


def figure_format(path: Path) -> str:
    """Return png, svg or pdf.

    Raises:
        UsageError: the suffix is not one of them.

    Example:
        >>> figure_format(Path("a.SVG"))
        'svg'
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UsageError(f"{path}: figures are written as {', '.join(FORMATS)}. Give a name that ends so.")
    return kind


def short(name: str, length: int = 24, *, middle: bool = False) -> str:
    r"""A name as it can be drawn: on one line, not too long, a letter that no font has by its number, and with no formula in it.

    Args:
        name: any text.
        length: letters, at most.
        middle: cut the middle out and not the end, as of names of files.

    Example:
        >>> short("a long name of a file.jpg", 12), short("a long name of a file.jpg", 12, middle=True)
        ('a long name…', 'a long…e.jpg')
        >>> print(short("5 $\x07"))
        5 \$\u0007
    """
    line = " ".join(name.split())
    seen = any(letter.isprintable() for letter in line)
    letters = [_drawn(letter) if seen else _numbered(letter) for letter in line]
    end = (length - 1) // 2 if middle else 0
    if sum(map(len, letters)) > length:
        letters = [*_first(letters, length - 1 - end), "…", *reversed(_first(letters[::-1], end))]
    return UNESCAPED.sub(r"\\$", "".join(letters))


def _first(letters: list[str], length: int) -> list[str]:
    """Return the first letters that are so long together, without a space at their end."""
    count = 0
    while count < len(letters) and (length := length - len(letters[count])) >= 0:
        count += 1
    return letters[: count - 1] if count and letters[count - 1] == " " else letters[:count]


def _drawn(letter: str) -> str:
    if font_with(letter) is not None:
        return letter
    return "" if unicodedata.category(letter) == "Cf" or ord(letter) in SELECTORS else _numbered(letter)


def _numbered(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 1 << 16 else f"\\U{ord(letter):08x}"


def use_fonts(figure: Figure) -> str:
    """Give every text of a figure the fonts that its letters need, and return all that is written."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    written = " ".join(text.get_text() for text in texts)
    if len(fonts := families(written)) > 1:
        for text in texts:
            text.set_fontfamily(fonts)
    return written


def families(text: str) -> list[str]:
    """Return the fonts that have the letters of a text, matplotlib's own first.

    Example:
        >>> len(families("größe"))
        1
    """
    files = {_own_font(): None} | {file: None for letter in sorted(set(text)) if (file := font_with(letter)) is not None}
    return [get_font(file).family_name for file in files]


def font_with(letter: str) -> str | None:
    r"""Return the file of a font that has a letter: matplotlib's own, or the first that is installed; None where none has it.

    Example:
        >>> Path(font_with("ß")).name, font_with("\x07")
        ('DejaVuSans.ttf', None)
    """
    if get_font(_own_font()).get_char_index(ord(letter)):
        return _own_font()
    return _other_fonts().get(ord(letter)) if letter.isprintable() else None


@cache
def _own_font() -> str:
    return str(findfont(FontProperties()))


@cache
def _other_fonts() -> dict[int, str]:
    """Return a font for each letter that an installed one of upright letters of ordinary weight has."""
    fonts: dict[int, str] = {}
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        if entry.style == "normal" and entry.weight in (400, "normal") and not NO_LETTERS.search(entry.name):
            with suppress(OSError, RuntimeError):
                for letter in get_font(entry.fname).get_charmap():
                    fonts.setdefault(int(letter), entry.fname)
    return fonts
