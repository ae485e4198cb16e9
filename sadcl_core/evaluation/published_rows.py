"""One evaluation as a row of a printed table, beside the rows that are there, as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sadcl_core.data.class_names import match_classes
from sadcl_core.errors import UsageError
from sadcl_core.evaluation.published import (
    CLASSES,
    COLUMNS,
    Cell,
    Row,
    Table,
    ap_convention,
    cf1_meaning,
    published_table,
    read_table,
)

if TYPE_CHECKING:
    from sadcl_core.evaluation.evaluate import Evaluation

Format = Literal["md", "latex", "csv"]
PAPER = "paper"
DIFFERENCE = "ours-"  # before a column's name: ours less theirs
COMPARED = ("mAP", "CF1", "OF1", "top3_CF1", "top3_OF1")
MACRO = {"CF1": "macro_F1", "top3_CF1": "top3_macro_F1"}  # what our row keeps beside the columns of the table
NON_INTERPOLATED = "mAP_non_interpolated"


@dataclass(frozen=True)
class Beside:
    """A table with our row.

    Attributes:
        columns: those of the table, then `ours-mAP` and the like.
        rows: the printed ones in their order, ours last; differences are in points, ours less theirs, None where one lacks.
        said: what is compared with what.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    said: str


def find_table(against: str | None, classes: Sequence[str]) -> Table | None:
    """The table to stand beside: a person's own file, or the printed one of these classes.

    Args:
        against: a CSV file, or `paper`; None takes the printed table if there is one.
        classes: of the data.

    Raises:
        UsageError: there is no printed table of these classes, but one is asked for.
        DataError: see `sadcl_core.evaluation.published.read_table`.
    """
    if against not in (None, PAPER):
        return read_table(Path(against))
    table = published_table(classes)
    if table is None and against == PAPER:
        raise UsageError(
            f"No printed table is of these {len(classes):,} classes, only of {', '.join(CLASSES)}. Give one: --against FILE.csv."
        )
    return table


def row_of(
    result: Evaluation | dict[str, Any], table: Table | None = None, *, method: str = "ours", train_size: int | None = None
) -> Row:
    """Our row in the columns of a table.

    Args:
        result: an evaluation, or its document.
        table: whose columns; those of COCO's printed table when None.
        method: what to call it.
        train_size: pixels it was trained at, if that is known; those it was tested at are in the document.

    Returns:
        The cells by column, figures in percent with one decimal: mAP interpolated (as SADCL reports), CF1 the harmonic mean
        of CP and CR. Beside them, for comparing, `macro_F1`, `top3_macro_F1` and `mAP_non_interpolated`. What was not
        computed, or has no value, is None.
    """
    document = result if isinstance(result, dict) else result.as_json()
    columns = COLUMNS if table is None else table.columns
    row: Row = dict.fromkeys(columns)
    known: Row = {
        "method": method,
        "train_size": train_size,
        "test_size": document.get("img_size"),
        "mAP": _rounded(document.get("mAP_interpolated")),
        NON_INTERPOLATED: _rounded(document.get("mAP_non_interpolated")),
    }
    for key, prefix in (("all", ""), ("top3", "top3_")):
        known |= {f"{prefix}{name}": _rounded(value) for name, value in document.get(key, {}).items()}
    row |= {name: value for name, value in known.items() if name in (*columns, NON_INTERPOLATED, *MACRO.values())}
    return row | (_class_cells(document, table) if table is not None else {})


def _class_cells(document: dict[str, Any], table: Table) -> Row:
    """The AP of each class that has a column."""
    average_precision = {entry["name"]: entry["AP_interpolated"] for entry in document.get("per_class", [])}
    ours = match_classes(list(table.class_columns.values()), list(average_precision))
    return {column: _rounded(average_precision.get(str(ours[name]))) for column, name in table.class_columns.items()}


def beside(ours: Row, table: Table) -> Beside:
    """A table's rows and ours, with the difference to each: like for like, as far as it is known what a row reports.

    Our interpolated mAP is held against an interpolated one and our non-interpolated against such, our macro-F1 against a CF1
    that is macro. Where nobody knows, our row's own figure is taken.

    Args:
        ours: from `row_of` with the same table.
        table: printed, or a person's own.
    """
    compared = [name for name in COMPARED if name in table.columns]
    rows = [{**row, **{f"{DIFFERENCE}{name}": _difference(ours, row, name) for name in compared}} for row in table.rows]
    columns = (*table.columns, *(f"{DIFFERENCE}{name}" for name in compared))
    return Beside(columns, (*rows, ours), _said(table))


def _difference(ours: Row, row: Row, name: str) -> float | None:
    own, other = ours.get(_like(row, name)), row.get(name)
    return round(own - other, 1) if isinstance(own, float) and isinstance(other, float) else None


def _like(row: Row, name: str) -> str:
    """Which of our figures means what this one of a row does."""
    if name == "mAP":
        return NON_INTERPOLATED if ap_convention(row) == "non-interpolated" else name
    return MACRO[name] if name in MACRO and cf1_meaning(row, name) == "macro" else name


def _said(table: Table) -> str:
    """Which rows have which convention, and what they are compared with."""
    parts = ["Our row: mAP interpolated, CF1 the harmonic mean of CP and CR"]
    if "mAP" in table.columns:
        known = _by_convention(table, "mAP", ap_convention)
        parts.append(f"mAP, {known}: a non-interpolated one is compared with our non-interpolated mAP")
    if "CF1" in table.columns:
        known = _by_convention(table, "CF1", cf1_meaning)
        parts.append(f"CF1, {known}: a macro one is compared with our macro-F1")
    return ". ".join(parts) + "."


def _by_convention(table: Table, column: str, convention: Callable[[Row], str]) -> str:
    called: dict[str, list[str]] = {}
    for row in table.rows:
        if row[column] is not None:
            called.setdefault(convention(row), []).append(_called(row))
    unknown = len(called.pop("", []))
    parts = [f"{kind}: {', '.join(names)}" for kind, names in sorted(called.items())]
    return "; ".join([*parts, *([f"not known: {'the others' if parts else 'all'}"] if unknown else [])])


def _called(row: Row) -> str:
    """A method, with its test size where the table has such."""
    size = row.get("test_size")
    return f"{row['method']} at {size:g}" if isinstance(size, int | float) else str(row["method"])


def render(rows: Sequence[Row], columns: Sequence[str], format: Format) -> str:  # noqa: A002 - as the option is called
    """Rows as text: figures with one decimal, sizes without, differences with their sign, blanks for None.

    Args:
        rows: cells by column; others than `columns` are left out.
        columns: in their order.
        format: `csv` has a header and can be put below the tables of `sadcl_core/published`; `latex` is a `tabular`.

    Returns:
        Lines that each end with a line feed.
    """
    table = [list(columns), *([written(row.get(name), name) for name in columns] for row in rows)]
    return FORMATS[format](table)


def written(cell: Cell, column: str) -> str:
    """A cell as it is printed: figures with one decimal, sizes without, differences with their sign, a blank for None."""
    if not isinstance(cell, int | float):
        return cell or ""
    if column.endswith("_size"):
        return f"{cell:g}"
    return f"{cell:+.1f}" if column.startswith(DIFFERENCE) else f"{cell:.1f}"


def _csv(table: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([" ".join(cell.splitlines()) for cell in row] for row in table)
    return text.getvalue()


def _markdown(table: Sequence[Sequence[str]]) -> str:
    escaped = [[_in_markdown(cell) for cell in row] for row in table]
    rule = [":--", *("--:" for _ in table[0][1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (escaped[0], rule, *escaped[1:]))


def _latex(table: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(map(_in_latex, row)) + r" \\" for row in table]
    spec = "l" + "r" * (len(table[0]) - 1)
    return "\n".join(
        [rf"\begin{{tabular}}{{{spec}}}", r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}", ""]
    )


def _in_markdown(text: str) -> str:
    escaped = _one_line(text).translate({ord(sign): f"\\{sign}" for sign in "\\`*[]|"} | {ord("<"): "&lt;", ord("&"): "&amp;"})
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)  # inside a word it means itself


def _in_latex(text: str) -> str:
    return _one_line(text).translate(_LATEX)


def _one_line(text: str) -> str:
    return " ".join(text.split())


_LATEX = {ord(sign): f"\\{sign}" for sign in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}",
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("<"): r"\textless{}",
    ord(">"): r"\textgreater{}",
    ord("|"): r"\textbar{}",
    ord('"'): r"\textquotedbl{}",
}
FORMATS: dict[str, Callable[[Sequence[Sequence[str]]], str]] = {"md": _markdown, "latex": _latex, "csv": _csv}


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 1)
