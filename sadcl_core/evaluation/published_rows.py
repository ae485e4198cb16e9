"""One evaluation as a row of a printed table, beside the rows that are there, as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sadcl_core.data.class_names import match_classes
from sadcl_core.errors import UsageError
from sadcl_core.evaluation import published
from sadcl_core.inference.thresholds import DEFAULT
from sadcl_core.runtime.files import to_cell

if TYPE_CHECKING:
    from sadcl_core.evaluation.result import Evaluation

Format = Literal["md", "latex", "csv"]
PAPER = "paper"
OURS = "ours"  # in the column `method`
PRINTED_IN = "SADCL, ECAI 2023"  # the tables, unless a row says otherwise
ABOUT = ("backbone", "AP", "comparable", "source")  # columns about a published row
DIFFERENCE = "ours-"  # before a column's name: ours less theirs
COMPARED = ("mAP", "CF1", "OF1", "top3_CF1", "top3_OF1")
MACRO = {"CF1": "macro_F1", "top3_CF1": "top3_macro_F1"}  # what our row keeps beside the columns of the table
NON_INTERPOLATED = "mAP_non_interpolated"


@dataclass(frozen=True)
class RowsWithOurs:
    """Our row, and those of a table that it is set beside.

    Attributes:
        columns: those of the table, then `ours-mAP` and the like where it is set beside others, then what is known of the rows
            that were published.
        rows: the printed ones in their order, ours last; differences are in points, ours less theirs, None where one lacks.
        description: what is compared with what; empty for our row alone.
    """

    columns: tuple[str, ...]
    rows: tuple[published.Row, ...]
    description: str = ""


def rows_with_ours(result: Evaluation, against: str | None = None) -> RowsWithOurs:
    """Return an evaluation as a row beside those of `paper` or of a CSV file.

    With None it is our row alone, in the columns of the printed table of these classes, or of COCO's.

    Raises:
        UsageError: there is no printed table of these classes, but one is requested.
        DataError: see `sadcl_core.evaluation.published.read_table`.
    """
    table = find_table(against, result.classes)
    ours = row_of(result, table)
    if against is None or table is None:
        return RowsWithOurs(published.COLUMNS if table is None else table.columns, (ours,))
    if against != PAPER:
        return set_beside(ours, table)
    rows = tuple(
        {
            **row,
            "backbone": published.backbone_of(row),
            "AP": published.ap_convention(row, table.name) or None,
            "comparable": published.comparable(row, result.subject, data=table.name, images=int(result.numbers.get("images", 0))),
            "source": row.get("source") or PRINTED_IN,
        }
        for row in (*table.rows, *published.other_rows(table.name))
    )
    beside = set_beside({**ours, "backbone": result.subject.get("backbone")}, replace(table, rows=rows))
    names = list(dict.fromkeys(str(row["method"]) for row in rows if row["comparable"] == published.YES))
    description = (
        "Our row: mAP interpolated, CF1 the harmonic mean of CP and CR. A non-interpolated mAP is compared with our "
        f"non-interpolated one, a macro CF1 with our macro-F1. Comparable with ours: {', '.join(names) or 'none'}; the column "
        "comparable says what differs for the others."
    )
    return replace(beside, columns=(*beside.columns, *ABOUT), description=description)


def shared_differences(rows: Sequence[published.Row]) -> tuple[str, tuple[published.Row, ...]]:
    """Return what makes every published row incomparable with ours, and the rows whose `comparable` says only the rest.

    Our own sizes and backbone are in the first, too, and no longer in each row. Ours is the last row and stays as it is.

    Example:
        >>> cells = ["no: on 9 images and ours on 3; tested at 576 px and ours at 448", "no: on 9 images and ours on 3"]
        >>> sentence, rows = shared_differences([*({"comparable": cell} for cell in cells), {"method": "ours"}])
        >>> sentence
        'no row is comparable: on 9 images and ours on 3; ours is tested at 448'
        >>> [row["comparable"] for row in rows[:-1]]
        ['no: tested at 576 px', 'no']
    """
    *theirs, ours = rows
    mark = "no: "
    differing = [cell[len(mark) :].split("; ") if (cell := str(row["comparable"])).startswith(mark) else [] for row in theirs]
    shared = [reason for reason in (differing or [[]])[0] if all(reason in reasons for reasons in differing)]
    own: dict[str, None] = {}
    shortened = []
    for row, reasons in zip(theirs, differing, strict=True):
        rest = []
        for reason in reasons:
            if reason in shared:
                continue
            text, _, value = reason.partition(" and ours ")
            rest.append(text)
            if value:
                own[" ".join([*text.split(" at ")[:-1], value])] = None
        short = f"{mark}{'; '.join(rest)}" if rest else mark.rstrip(": ")
        shortened.append({**row, "comparable": short if reasons else row["comparable"]})
    parts = [f"no row is comparable: {'; '.join(shared)}"] if shared else []
    parts += [f"ours is {', '.join(own)}"] if own else []
    return "; ".join(parts), (*shortened, ours)


def find_table(against: str | None, classes: Sequence[str]) -> published.Table | None:
    """Return a person's own table from a CSV file, or the printed one of these classes; with None if there is one.

    Raises:
        UsageError: there is no printed table of these classes, but one is requested.
        DataError: see `sadcl_core.evaluation.published.read_table`.
    """
    if against not in (None, PAPER):
        return published.read_table(Path(against))
    table = published.published_table(classes)
    if table is None and against == PAPER:
        raise UsageError(
            f"No printed table is of these {len(classes):,} classes, only of {', '.join(published.CLASSES)}. Give one: "
            "--against FILE.csv."
        )
    return table


def row_of(result: Evaluation, table: published.Table | None = None) -> published.Row:
    """Return our row in the columns of a table, those of COCO's printed table when None.

    Returns:
        The cells by column, figures in percent with one decimal: mAP interpolated (as SADCL reports), CF1 the harmonic mean
        of CP and CR. Beside them, for comparing, `macro_F1`, `top3_macro_F1` and `mAP_non_interpolated`. What was not
        computed, or has no value, is None.
    """
    subject, columns = result.subject, published.COLUMNS if table is None else table.columns
    thresholds = subject.get("thresholds", str(DEFAULT))
    values: published.Row = {
        "method": OURS if thresholds == str(DEFAULT) else f"{OURS}, above {thresholds}",
        "train_size": subject.get("train_size"),
        "test_size": subject.get("img_size"),
        "mAP": _rounded(result.map_interpolated),
        NON_INTERPOLATED: _rounded(result.map_non_interpolated),
    }
    for row, prefix in (("all", ""), ("top3", "top3_")):
        values |= {f"{prefix}{name}": _rounded(value) for name, value in result.rows.get(row, {}).items()}
    if table is not None and table.class_columns:
        ap = dict(zip(result.classes, result.per_class["AP_interpolated"], strict=True))
        ours = match_classes(list(table.class_columns.values()), list(ap))
        values |= {column: _rounded(ap.get(str(ours[name]), np.nan)) for column, name in table.class_columns.items()}
    kept = (*columns, NON_INTERPOLATED, *MACRO.values())
    return dict.fromkeys(columns) | {name: value for name, value in values.items() if name in kept}


def set_beside(ours: published.Row, table: published.Table) -> RowsWithOurs:
    """Return a table's rows and ours, with the difference to each: like for like, as far as it is known what a row reports.

    Our interpolated mAP is compared with an interpolated one and our non-interpolated with such, our macro-F1 with a CF1
    that is macro. Where nobody knows, our row's own figure is taken. `ours` is from `row_of` with the same table.
    """
    compared = [name for name in COMPARED if name in table.columns]
    rows = [
        {**row, **{f"{DIFFERENCE}{name}": _difference(ours, row, name, table.name) for name in compared}} for row in table.rows
    ]
    columns = (*table.columns, *(f"{DIFFERENCE}{name}" for name in compared))
    parts = ["Our row: mAP interpolated, CF1 the harmonic mean of CP and CR"]
    if "mAP" in table.columns:
        conventions = _by_convention(table, "mAP", partial(published.ap_convention, data=table.name))
        parts.append(f"mAP, {conventions}: a non-interpolated one is compared with our non-interpolated mAP")
    if "CF1" in table.columns:
        conventions = _by_convention(table, "CF1", published.cf1_meaning)
        parts.append(f"CF1, {conventions}: a macro one is compared with our macro-F1")
    return RowsWithOurs(columns, (*rows, ours), ". ".join(parts) + ".")


def _difference(ours: published.Row, row: published.Row, name: str, data: str) -> float | None:
    """Return the figure of ours that means what this one of a row does, less it."""
    like = name
    if name == "mAP" and published.ap_convention(row, data) == "non-interpolated":
        like = NON_INTERPOLATED
    elif name in MACRO and published.cf1_meaning(row, name) == "macro":
        like = MACRO[name]
    own, other = ours.get(like), row.get(name)
    return round(own - other, 1) if isinstance(own, float) and isinstance(other, float) else None


def _by_convention(table: published.Table, column: str, convention: Callable[[published.Row], str]) -> str:
    """Return which rows of a table have which convention, as a part of a sentence."""
    methods: dict[str, list[str]] = {}
    for row in table.rows:
        if row.get(column) is not None:
            size = row.get("test_size")
            method = f"{row['method']} at {size:g}" if isinstance(size, int | float) else str(row["method"])
            methods.setdefault(convention(row), []).append(method)
    unknown = len(methods.pop("", []))
    parts = [f"{kind}: {', '.join(names)}" for kind, names in sorted(methods.items())]
    return "; ".join([*parts, *([f"not known: {'the others' if parts else 'all'}"] if unknown else [])])


def render(rows: Sequence[published.Row], columns: Sequence[str], format: Format) -> str:  # noqa: A002 - as the option is called
    """Return columns of rows as text: figures with one decimal, sizes without, differences with their sign, blanks for None.

    `csv` has a header and can be put below the tables of `sadcl_core/evaluation/published`; `latex` is a `tabular`. Every line
    ends with a line feed.

    Example:
        >>> print(render([{"method": "ours", "mAP": 85.64}], ["method", "mAP"], "md"), end="")
        | method | mAP |
        | :-- | --: |
        | ours | 85.6 |
    """
    if format == "csv":
        cells = (
            [_in_csv(cell) if isinstance(cell := row.get(name), str) else print_cell(cell, name) for name in columns]
            for row in rows
        )
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([[*map(_in_csv, columns)], *cells])
        return text.getvalue()
    table = [list(columns), *([print_cell(row.get(name), name) for name in columns] for row in rows)]
    if format == "md":
        header, *lines = [f"| {' | '.join(map(_in_markdown, row))} |" for row in table]
        return "\n".join([header, f"| {' | '.join([':--', *['--:'] * (len(columns) - 1)])} |", *lines, ""])
    escaped = [[" ".join(cell.split()).translate(_LATEX) for cell in row] for row in table]
    header, *lines = [rf"{' & '.join(row)} \\" for row in escaped]
    spec = "l" + "r" * (len(columns) - 1)
    rule = r"\hline"
    return "\n".join([rf"\begin{{tabular}}{{{spec}}}", rule, header, rule, *lines, rule, r"\end{tabular}", ""])


def print_cell(cell: published.Cell, column: str) -> str:
    """Return a cell as it is printed: figures with one decimal, sizes without, differences with their sign, a blank for None.

    Example:
        >>> print_cell(85.64, "mAP"), print_cell(448.0, "test_size"), print_cell(0.52, "ours-mAP")
        ('85.6', '448', '+0.5')
    """
    if not isinstance(cell, int | float):
        return cell or ""
    if column.endswith("_size"):
        return f"{cell:g}"
    return f"{cell:+.1f}" if column.startswith(DIFFERENCE) else f"{cell:.1f}"


def _in_csv(text: str) -> str:
    return to_cell(" ".join(text.splitlines()))


def _in_markdown(text: str) -> str:
    escaped = " ".join(text.split()).translate(_MARKDOWN)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)  # inside a word it means itself


_MARKDOWN = {ord(sign): f"\\{sign}" for sign in "\\`*[]|"} | {ord("<"): "&lt;", ord("&"): "&amp;"}
_LATEX = {ord(sign): f"\\{sign}" for sign in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}",
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("<"): r"\textless{}",
    ord(">"): r"\textgreater{}",
    ord("|"): r"\textbar{}",
    ord('"'): r"\textquotedbl{}",
}


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 1)
