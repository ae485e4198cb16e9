"""Tables: CSV, TSV, other delimited text, and Parquet, with a row per image.

    image,labels,split          filename,cat,dog,car        photos/a.jpg cat dog
    photos/a.jpg,cat;dog,train  a.jpg,1,0,?                 photos/b.jpg

The labels are in one cell (between `,` `;` `|` or spaces, or as a list), in one column per class (1, 0, and unknown: blank,
-1 or ?), or in the cells after the image. With a header or without. Also what Roboflow (`_classes.csv`), CheXpert and the
Hugging Face imagefolder (`metadata.csv`, `metadata.parquet`) write. Parquet needs a header by nature.

Columns are identified by their names, else by what they hold. Tables of several splits must have the same classes; where
a list of classes is given, columns that are not in it are no classes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sadcl_core.data.formats.cells import find_between, label_cells, label_texts, labels_in, read_flags, split_of
from sadcl_core.data.formats.columns import FLAGS, INACTIVE, Columns, Row, find_columns
from sadcl_core.data.formats.labels import CLASS_LIST, LabelRows
from sadcl_core.data.formats.source import Source
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    cell_at,
    cell_text,
    find_column,
    looks_like_image,
    read_lines,
    readable,
)
from sadcl_core.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
OPTIONS = ("long", "label_column")
PROSE = ("readme", "license")  # beside many data sets
BETWEEN_CELLS = ("\t", ",", ";", "|", " ")
SNIFFED = 20  # lines from which the delimiter is detected
LOOKED_AT = 10_000  # rows from which the columns are identified


@dataclass(frozen=True)
class _Table:
    """A table that has been opened: what its columns are, its first rows, and those that follow."""

    path: Path
    split: str
    columns: Columns
    head: list[Row]
    body: Iterator[Row]


@dataclass(frozen=True)
class _Entry:
    """Content of a row about an image."""

    row: int
    image: Any
    split: str
    active: list[Any]
    unknown: list[Any]


def recognises(path: Path) -> bool:
    """Return True if a file is a table with a column of images."""
    try:
        if path.suffix.lower() == ".parquet":
            names = pq.read_schema(path).names
            return find_column(names, IMAGE_COLUMNS) is not None
        if path.name == CLASS_LIST or path.stem.lower().startswith(PROSE) or _is_caption(path):
            return False
        return _delimiter([line for _, line in islice(read_lines(path), SNIFFED)]) is not None
    except (DataError, OSError, pa.ArrowException):
        return False


def read(source: Source) -> Manifest:
    """Read one table per split, or one of all.

    Raises:
        DataError: no column holds images or labels, or a row is not like the others.
    """
    rows: LabelRows | None = None
    tables: list[_Table] = []
    for split, path in source.files.items():
        with readable(path, "a table"):
            header, body, classes = _parquet(path) if path.suffix.lower() == ".parquet" else _text(path)
            rows = rows or LabelRows(source, "csv", classes=classes)
            head = list(islice(body, LOOKED_AT))
            columns = find_columns(header, head, path, rows)
            tables.append(_Table(path, split, columns, head, body))
            _refuse_other_columns(tables, rows)
    if rows is None:
        raise DataError(f"{source.root} has no table of labels. Name the file.")
    # of all tables together, so that their labels are split in the same way
    texts = [text for table in tables for text in label_texts(table.columns, table.head)]
    between = source.reading.delimiter or find_between(texts)
    for table in tables:
        with readable(table.path, "a table"):
            rows.start(table.path)
            for note in _notes(table, between, source.reading.delimiter):
                rows.note(f"{table.path.name}: {note}")
            _gather(table, rows, between)
    return rows.manifest()


def _is_caption(path: Path) -> bool:
    """Return True if a text lies beside an image of the same name."""
    return path.suffix.lower() == ".txt" and any(path.with_suffix(suffix).is_file() for suffix in EXTENSIONS)


def _refuse_other_columns(tables: Sequence[_Table], rows: LabelRows) -> None:
    """Raise unless the columns of classes are those that were listed, or those of the first table: others would count as 0."""
    path, own = tables[-1].path, [name for _, name in tables[-1].columns.flags]
    expected = [name for _, name in tables[0].columns.flags]
    if rows.fixed and own:
        expected = list(rows.listed)
    lacking = [name for name in expected if name not in own]
    more = [name for name in own if name not in expected]
    if lacking or more:
        what = f"no column of the class {lacking[0]!r}" if lacking else f"a column of the class {more[0]!r}"
        others = "the list of classes" if rows.fixed else str(tables[0].path)
        verb = "has" if lacking else "has not, or left blank"
        raise DataError(
            f"{path} has {what}, which {others} {verb}. Give all the same columns; ? in a cell says that nobody knows."
        )


def _text(path: Path) -> tuple[list[str] | None, Iterator[Row], tuple[str, ...]]:
    """Header (None without one) and rows of a delimited text file."""
    first = [line for _, line in islice(read_lines(path), SNIFFED)]
    layout = _delimiter(first)
    if layout is None:
        if not any(line.strip() for line in first):
            raise DataError(f"{path} is empty. Give a table with a row per image.")
        if looks_like_image(first[0]):
            raise DataError(f"{path} lists images and no labels. Write their labels behind them: a.jpg,cat,dog.")
        raise DataError(
            f"{path} has no column of images: neither a header such as image,labels nor paths that end in .jpg, .png or the "
            "like. Name the column of images in a header."
        )
    delimiter, has_header = layout
    body = _csv_rows(path, delimiter)
    header = [str(cell).strip() for cell in next(body)[1]] if has_header else None
    return header, body, ()


def _csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    reader = csv.reader((line for _, line in read_lines(path)), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}, row {reader.line_num} cannot be read as a table ({error}). Mend the row.") from None


def _delimiter(lines: Iterable[str]) -> tuple[str, bool] | None:
    """Return the delimiter and whether the first row is a header; None if no cell is an image."""
    lines = [line for line in lines if line.strip()]
    tables: dict[str, list[list[str]]] = {}
    for delimiter in BETWEEN_CELLS:
        rows: list[list[str]] = []
        with suppress(csv.Error):  # in a later row: what reads them all says where
            rows.extend(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
        if any(len(row) > 1 for row in rows):
            tables[delimiter] = rows
    for delimiter, rows in tables.items():
        image = next(filter(looks_like_image, rows[0]), None)
        if image is not None and all(looks_like_image(cell_at(row, rows[0].index(image))) for row in rows):
            return delimiter, False
    for delimiter, rows in tables.items():
        if len(rows[0]) > 1 and any(map(looks_like_image, rows[0])):
            return delimiter, False
        if len(rows[0]) > 1 and _is_header(rows, delimiter):
            return delimiter, True
    return None


def _is_header(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Return True if the first row names a column of images; between spaces the first, for prose speaks of images as well."""
    named = find_column(rows[0], IMAGE_COLUMNS)
    if named is not None and (delimiter != " " or named == 0):
        return True
    return any(looks_like_image(cell) for row in rows[1:2] for cell in row)


def _parquet(path: Path) -> tuple[list[str], Iterator[Row], tuple[str, ...]]:
    """Column names, rows, and class names that the Hugging Face library put into the file."""
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        for field in schema:
            if pa.types.is_struct(field.type) and field.name in IMAGE_COLUMNS:
                raise DataError(
                    f"{path} holds the images themselves in column {field.name}. Save them as files and give their paths."
                )
        return list(schema.names), _parquet_rows(file, path), _class_labels(schema)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({str(error)[:200]}). Write it again.") from None


def _parquet_rows(file: pq.ParquetFile, path: Path) -> Iterator[Row]:
    number = 0
    try:
        for batch in file.iter_batches():
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield number, row
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}, after row {number} cannot be read as Parquet ({str(error)[:200]}). Write it again.") from None


def _class_labels(schema: pa.Schema) -> tuple[str, ...]:
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        for name in LABEL_COLUMNS:
            feature = features.get(name, {})
            names = (feature.get("feature") or feature).get("names")
            if names:
                return tuple(map(str, names))
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    return ()


def _gather(table: _Table, rows: LabelRows, between: str) -> None:
    """Add every row."""
    if table.columns.flags:
        rows.keep_order()
    for _, name in table.columns.flags:  # a class no image has is a class
        rows.label(name, str(table.path))
    entries = _entries(table, between)
    for entry in _merged(entries) if rows.source.reading.long else entries:
        rows.add(entry.image, entry.active, row=entry.row, split=entry.split, unknown=entry.unknown)


def _entries(table: _Table, between: str) -> Iterator[_Entry]:
    """Yield the content of each row.

    Raises:
        DataError: a row has too few cells or too many.
    """
    columns, path = table.columns, table.path
    for row, cells in chain(table.head, table.body):
        where = f"{path}, row {row}"
        if len(cells) < columns.width:
            raise DataError(f"{where} has {len(cells)} cells where {columns.width} are needed. Mend the row.")
        if len(cells) > columns.width and columns.rest is None:
            raise DataError(f"{where} has {len(cells)} cells where the others have {columns.width}. Mend the row.")
        unknown = labels_in(cells[columns.unknown], between, where) if columns.unknown is not None else []
        if columns.flags:
            active, more = read_flags(columns.flags, cells, where)
            unknown += more
        else:
            active = [label for cell in label_cells(columns, cells) for label in labels_in(cell, between, where)]
        image = cells[columns.image]
        image = image.strip() if isinstance(image, str) else image
        yield _Entry(row, image, split_of(columns, cells) or table.split, active, unknown)


def _merged(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """One entry per image and split, with the labels of all its rows."""
    merged: dict[tuple[str, str], _Entry] = {}
    for entry in entries:
        first = merged.setdefault((entry.split, str(entry.image)), entry)
        if first is not entry:
            first.active.extend(entry.active)
            first.unknown.extend(entry.unknown)
    yield from merged.values()


def _notes(table: _Table, between: str, delimiter: str) -> Iterator[str]:
    """Return notes for the user on how a table was understood."""
    columns, head = table.columns, table.head
    if columns.left_out:
        yield f"columns that are no labels: {', '.join(columns.left_out)[:200]}"
    if columns.flags:
        values = {cell_text(cells[k]) for _, cells in head for k, _ in columns.flags if k < len(cells)}
        if not any(FLAGS.get(value.lower()) == INACTIVE for value in values) and values & {"-1", "-1.0"}:
            yield "there is no 0, and -1 counts as unknown: write 0 where a class is absent"
    elif not delimiter:
        spaced = next((text for text in label_texts(columns, head) if " " in text.strip()), None)
        if between == " ":
            yield "labels are taken apart at spaces; --delimiter none keeps them whole"
        elif not between and spaced is not None:
            yield f"labels such as {spaced.strip()[:60]!r} are kept whole; --delimiter ' ' takes them apart"
