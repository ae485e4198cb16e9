"""Text tables of scores: a column per class, or a row per image and class.

image,cat,dog          cat,dog          0.9,0.1          image,label,score
a.jpg,0.9,0.1          0.9,0.1          0.2,0.8          a.jpg,cat,0.9
b.jpg,0.2,0.8          0.2,0.8                           a.jpg,dog,0.1
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from sadcl_core.data.tables import detect_encoding, read_lines
from sadcl_core.errors import DataError
from sadcl_core.evaluation.score_files.columns import ScoreColumns, has_header, is_nothing, is_number, score_columns
from sadcl_core.evaluation.score_files.tables import LOOKED_AT, assembled, taken_apart
from sadcl_core.evaluation.score_files.values import ScoreFile

BLOCK_BYTES = 1 << 24  # parsed at a time; a row is shorter


@dataclass(frozen=True)
class _Layout:
    """How a file is laid out: its first lines that hold scores come after `skipped` others."""

    path: Path
    header: tuple[str, ...]
    columns: ScoreColumns
    skipped: int
    delimiter: str
    decimal_point: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Rows that are not blank, with the line that each is on, counted as an editor counts them."""
        lines = ((number, line) for number, line in read_lines(self.path) if number > self.skipped and line.strip())
        for number, line in lines:
            yield number, next(csv.reader([line], delimiter=self.delimiter))

    def place(self, row: int) -> str:
        """Where row `row` (from 0) of the scores is."""
        number, _ = next(islice(self.rows(), row, None), (self.skipped + row + 1, []))
        return f"row {number}"


def read_score_text(path: Path, *, logits: bool = False) -> ScoreFile:
    """Scores of delimited text (comma, tab or semicolon), with a header or without.

    Raises:
        DataError: it is no such table, or a cell of it is no number.
    """
    with taken_apart(path, "a table of scores"):
        layout = _find_layout(path)
        return assembled(path, _parsed(layout), layout.columns, layout.header, logits=logits, place=layout.place)


def _find_layout(path: Path) -> _Layout:
    lines = [(number, line) for number, line in islice(read_lines(path), LOOKED_AT) if line.strip()]
    if not lines:
        raise DataError(f"{path} has no row. Give a row of scores per image.")
    delimiter = max(",\t;", key=lines[0][1].count)
    rows = list(csv.reader((line for _, line in lines), delimiter=delimiter))
    named = has_header(rows[0])
    head = rows[1:] if named else rows
    if not head:
        raise DataError(f"{path} has a header and no row. Give a row of scores per image.")
    header = [cell.strip() if named else "" for cell in rows[0]]
    columns = score_columns(header, head, path)
    written = [row[k] for row in head for k in columns.scores if k < len(row)]
    point = "," if delimiter != "," and any("," in cell for cell in written) else "."  # as spreadsheets of many countries
    return _Layout(path, tuple(header), columns, lines[0][0] - (not named), delimiter, point)


def _parsed(layout: _Layout) -> pa.Table:
    """The needed columns, called f0, f1, ... by their numbers."""
    columns = layout.columns
    wanted = [k for k in (columns.image, columns.label, *columns.scores) if k is not None]
    kinds = {f"f{k}": pa.float64() if k in columns.scores else pa.string() for k in wanted}
    try:
        return pacsv.read_csv(
            layout.path,
            read_options=pacsv.ReadOptions(
                skip_rows=layout.skipped,
                autogenerate_column_names=True,
                block_size=BLOCK_BYTES,
                encoding=detect_encoding(layout.path),
            ),
            parse_options=pacsv.ParseOptions(delimiter=layout.delimiter),
            convert_options=pacsv.ConvertOptions(
                column_types=kinds, include_columns=list(kinds), decimal_point=layout.decimal_point
            ),
        )
    except (pa.ArrowException, KeyError):
        _refuse_first_bad_row(layout)
        raise


def _refuse_first_bad_row(layout: _Layout) -> None:
    """Raise at the first row that has other cells than the others, or a word for a score."""
    width = len(layout.header)
    for number, row in layout.rows():
        where = f"{layout.path}, row {number}"
        if len(row) != width:
            raise DataError(f"{where} has {len(row)} cells where {width} are needed. Mend the row.")
        bad = next((k for k in layout.columns.scores if not (is_number(row[k]) or is_nothing(row[k]))), None)
        if bad is not None:
            name = f"class {layout.header[bad]!r}" if layout.header[bad] else f"column {bad + 1}"
            raise DataError(f"{where}, {name}: {row[bad][:60]!r} is no score. Mend the cell.")
