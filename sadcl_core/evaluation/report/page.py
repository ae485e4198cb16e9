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
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sadcl_core.evaluation.columns import INTERVAL, MEASURES, NUMBERS, PER_CLASS, Column
from sadcl_core.evaluation.report.drawings import curve_path, precision_recall_path, stacked_dots
from sadcl_core.evaluation.result import Evaluation, row_title
from sadcl_core.metrics import Curve, Reliability
from sadcl_core.metrics.label_errors import SuspectedError
from sadcl_core.metrics.mistakes import ClassConfusions, ClassMistakes
from sadcl_core.runtime.files import visible, write_text

if TYPE_CHECKING:
    from sadcl_core.inference.thumbnails import Thumbnail

TEMPLATES = Path(__file__).with_name("templates")
NAME = "evaluation.html"


class Series(NamedTuple):
    """A curve of the reliability diagram: its name, its points, and its expected calibration error in 0..1."""

    name: str
    diagram: Reliability
    error: float


@dataclass(frozen=True)
class Page:
    """Everything the page shows; all but the first two may be left out.

    Attributes:
        title: what was evaluated, short.
        result: the numbers; labels below are indices of its classes. Numbers that no class has are left out.
        facts: (name, value) of what was evaluated.
        curves: precision over recall, one of each class.
        reliability: before, and after calibration where there was one.
        mistakes: of classes, see `sadcl_core.metrics.mistakes`.
        confusions: of classes.
        suspects: those to show of the suspects of the result, the most suspicious first.
        images: image index -> name; a split will do.
        labels: image index -> its active labels.
        pictures: (image index, label) -> picture; a mistake or suspect without one is listed by name.
        notes: for the reader, such as on images that could not be read.
    """

    title: str
    result: Evaluation
    facts: Sequence[tuple[str, str]] = ()
    curves: Sequence[Curve] = ()
    reliability: Sequence[Series] = ()
    mistakes: Sequence[ClassMistakes] = ()
    confusions: Sequence[ClassConfusions] = ()
    suspects: Sequence[SuspectedError] = ()
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
    """Return the HTML of a page."""
    style, script = (_own(name) for name in ("evaluation.css", "evaluation.js"))
    result = page.result
    thresholds = list(result.per_class.get("threshold", ()))
    values = {
        "page": page,
        "result": result,
        "classes": _classes(page),
        "columns": _shown(PER_CLASS, result.subject, {key: values.tolist() for key, values in result.per_class.items()}),
        "measures": MEASURES,
        "rows": {row_title(key): values for key, values in result.rows.items()},
        "numbers": [
            (column, result.numbers[column.key])
            for column in _shown(NUMBERS, result.subject, {key: [value] for key, value in result.numbers.items()})
            if column.rank is not None
        ],
        "mistakes": {one.label: one for one in page.mistakes},
        "confusions": {one.label: one for one in page.confusions},
        "thresholds": stacked_dots(thresholds) if len(set(thresholds)) > 1 else [],  # one for all: nothing to draw
        "style": style,
        "script": script,
        "style_hash": _digest(style),
        "script_hash": _digest(script),
    }
    return visible(_environment().get_template(NAME).render(values).lstrip())


def _classes(page: Page) -> list[dict[str, Any]]:
    """Return name, curve and values of each class."""
    columns = {key: values.tolist() for key, values in page.result.per_class.items()}
    return [
        {
            "name": name,
            "curve": page.curves[k] if page.curves else None,
            "numbers": {key: column[k] for key, column in columns.items()},
        }
        for k, name in enumerate(page.result.classes)
    ]


def _shown(columns: Sequence[Column[Any]], subject: Mapping[str, Any], values: Mapping[str, Sequence[Any]]) -> list[Column[Any]]:
    """Return the columns that have a value; intervals are drawn in the columns that they belong to."""
    return [
        column
        for column in columns
        if not column.key.endswith(INTERVAL)
        and (not column.needs or subject.get(column.needs))
        and any(map(_finite, values.get(column.key, ())))
    ]


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
    """Return a file of the page's own, which holds nobody's names."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    """Return the hash by which a Content-Security-Policy allows a text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _number(value: Any, decimals: int = 1) -> str:
    """Return a number for people; a dash for none."""
    return f"{value:,.{decimals}f}" if _finite(value) else "\N{EN DASH}"


def _plain(value: Any) -> str:
    """Return a number to sort by; empty for none."""
    return f"{value:.6g}" if _finite(value) else ""


def _jpeg(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
