"""One HTML page on an evaluation, in one file that asks for nothing else: it can be sent by mail and opened from disk.

Names of classes and images come from strangers: the template escapes every one of them, the script holds none, and the
page forbids itself (Content-Security-Policy) every request and every script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sadcl_core.evaluation.report.drawings import curve_path, precision_recall_path, stacked_dots
from sadcl_core.inference.thumbnails import Thumbnail
from sadcl_core.metrics import Curve
from sadcl_core.metrics.mistakes import ClassConfusions, ClassMistakes
from sadcl_core.runtime.files import write_text

TEMPLATES = Path(__file__).with_name("templates")
NAME = "evaluation.html"
Floats = npt.NDArray[np.floating[Any]]


class Column(NamedTuple):
    """A column of the table of classes: the key of its value, its heading, decimals, and what it means."""

    key: str
    title: str
    decimals: int
    meaning: str


COLUMNS = (
    Column("AP_interpolated", "AP", 1, "average precision, interpolated (VOC after 2010, SADCL), %; with its 95 % interval"),
    Column("AP_non_interpolated", "AP non-int.", 1, "average precision, non-interpolated (scikit-learn, ML-GCN, ASL), %"),
    Column("positives", "images", 0, "images that have the label"),
    Column("threshold", "threshold", 3, "a label counts when its score is above it; the next three are taken there"),
    Column("precision", "precision", 1, "of the images where the label counts, how many have it, %"),
    Column("recall", "recall", 1, "of the images that have the label, in how many it counts, %"),
    Column("F1", "F1", 1, "harmonic mean of precision and recall, %"),
    Column("ECE", "ECE", 3, "expected calibration error: how far scores are from frequencies, 0 to 1"),
    Column("pointing_game", "pointing", 1, "how often the attention is highest inside a box of the label, %"),
    Column("box_energy", "energy", 1, "how much of the attention lies inside the label's boxes, %"),
    Column("box_area", "box area", 1, "how much of the image its boxes cover: the energy of attention that looks nowhere, %"),
)
MEASURES = (
    ("CP", "CP", "precision, mean over classes"),
    ("CR", "CR", "recall, mean over classes"),
    ("CF1", "CF1", "harmonic mean of CP and CR"),
    ("macro_F1", "macro-F1", "F1, mean over classes"),
    ("OP", "OP", "precision over all decisions"),
    ("OR", "OR", "recall over all decisions"),
    ("OF1", "OF1", "harmonic mean of OP and OR"),
)


@dataclass(frozen=True)
class Measures:
    """A row of the paper's table, such as `All` or `Top-3`, with values in percent under the names of `MEASURES`."""

    name: str
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class ClassResult:
    """A class: its name, values under the keys of `COLUMNS`, and its curve.

    An entry of `per_class` in an evaluation's document will do for `values`. What is missing, null or NaN is left out, and so
    is a column that no class has; `AP_interpolated_interval` (low, high) is optional too.
    """

    name: str
    values: Mapping[str, Any]
    curve: Curve | None = None


@dataclass(frozen=True)
class Reliability:
    """Scores against frequencies: mean score, share of positives (both 0..1) and count of n bins; the error in 0..1."""

    name: str
    score: Floats
    frequency: Floats
    count: npt.NDArray[np.integer[Any]]
    error: float | None = None


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong.

    Attributes:
        image: index.
        label: class index.
        kind: `missing`, labelled inactive and looking active, or `wrong`, labelled active and not looking so.
        score: of the class in 0..1.
        similarity: to the prototype of the class, -1..1, where there is one.
    """

    image: int
    label: int
    kind: str
    score: float
    similarity: float | None = None


@dataclass(frozen=True)
class Page:
    """Everything the page says; all but the first two may be left out.

    Attributes:
        title: what was evaluated, short.
        headline: the one line that says how good it is, parts separated by a middle dot.
        facts: (name, value) of what was evaluated.
        measures: rows of the paper's table.
        classes: K of them, in the model's order; labels below are their indices.
        reliability: before, and after calibration where there was one.
        mistakes: of classes, see `sadcl_core.metrics.mistakes`.
        confusions: of classes.
        suspects: the most suspicious first.
        suspected: how many there are in all, when not all are shown.
        images: image index -> name; a split will do.
        labels: image index -> its active labels.
        pictures: (image index, label) -> picture; a mistake or suspect without one is listed by name.
        notes: what a reader should know, such as images that could not be read.
    """

    title: str
    headline: str
    facts: Sequence[tuple[str, str]] = ()
    measures: Sequence[Measures] = ()
    classes: Sequence[ClassResult] = ()
    reliability: Sequence[Reliability] = ()
    mistakes: Sequence[ClassMistakes] = ()
    confusions: Sequence[ClassConfusions] = ()
    suspects: Sequence[Suspect] = ()
    suspected: int = 0
    images: Sequence[str] | Mapping[int, str] = ()
    labels: Mapping[int, Sequence[int]] = field(default_factory=dict)
    pictures: Mapping[tuple[int, int], Thumbnail] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_page(page: Page, path: Path) -> Path:
    """Write the page in one piece.

    Raises:
        UsageError: the place cannot be written to.
        MachineError: writing failed half-way.
    """
    write_text(path, page_text(page).encode("utf-8", "replace").decode("utf-8"))  # names of files may hold stray surrogates
    return path


def page_text(page: Page) -> str:
    """The HTML of a page."""
    style, script = (_own(name) for name in ("evaluation.css", "evaluation.js"))
    thresholds = [one.values.get("threshold") for one in page.classes]
    values = {
        "page": page,
        "columns": [column for column in COLUMNS if any(_finite(one.values.get(column.key)) for one in page.classes)],
        "measures": MEASURES,
        "mistakes": {one.label: one for one in page.mistakes},
        "confusions": {one.label: one for one in page.confusions},
        "thresholds": stacked_dots(thresholds) if len(set(thresholds)) > 1 else [],  # one for all: nothing to draw
        "style": style,
        "script": script,
        "style_hash": _digest(style),
        "script_hash": _digest(script),
    }
    return _environment().get_template(NAME).render(values).lstrip()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "plain": _plain, "jpeg": _jpeg, "path": curve_path, "pr": precision_recall_path}
    environment.tests["finite"] = _finite
    return environment


@cache
def _own(name: str) -> Markup:
    """A file of the page's own, which holds nobody's names."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    """As a Content-Security-Policy names what it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _number(value: Any, decimals: int = 1) -> str:
    """A number for people; a dash for none."""
    return f"{value:,.{decimals}f}" if _finite(value) else "\N{EN DASH}"


def _plain(value: Any) -> str:
    """A number to sort by; empty for none."""
    return f"{value:.6g}" if _finite(value) else ""


def _jpeg(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
