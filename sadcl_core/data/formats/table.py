"""Tables: CSV, TSV, other delimited text, and Parquet, with a row per image.

    image,labels,split          filename,cat,dog,car        photos/a.jpg cat dog
    photos/a.jpg,cat;dog,train  a.jpg,1,0,?                 photos/b.jpg

The labels are in one cell (between `,` `;` `|` or spaces, or as a list), in one column per class (1, 0, and unknown: blank,
-1 or ?), or in the cells after the image. With a header or without. Also what Roboflow (`_classes.csv`), CheXpert and the
Hugging Face imagefolder (`metadata.csv`, `metadata.parquet`) write. Parquet needs a header by nature.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.source import SPLIT_NAMES, Source, split_name
from sadcl_core.data.formats.text import read_lines, readable
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
IMAGE = (
    *("image", "image_path", "imagepath", "img_path", "file_name", "filename", "filepath", "file_path", "path", "file"),
    *("img", "image_name", "imagename", "image_file", "photo", "picture", "image_id", "imageid", "img_id", "name", "id"),
)
LABELS = ("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "targets", "keywords", "attributes")
SPLIT = ("split", "split_name", "set", "subset", "partition", "usage", "phase")
UNKNOWN = ("unknown", "unknown_labels")
ACTIVE, INACTIVE, NOT_KNOWN = 1, 0, -1
FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "t"), ACTIVE),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "f"), INACTIVE),
    **dict.fromkeys(("", "-1", "-1.0", "?", "nan", "na", "n/a", "null", "none", "unknown"), NOT_KNOWN),
}
BETWEEN_CELLS = ("\t", ",", ";", "|", " ")
BETWEEN_LABELS = ("|", ";", ",")
LOOKED_AT = 10_000  # rows that the meaning of the columns is found out from
MAX_LIST = 1 << 16  # characters of a list that is written out

Row = tuple[int, Sequence[Any]]


@dataclass(frozen=True)
class Columns:
    """What each column is: numbers of columns, None where there is none."""

    image: int
    split: int | None
    unknown: int | None
    labels: int | None  # one cell; the cells after it as well, when it is the last
    flags: tuple[tuple[int, str], ...]  # one column per class: its number and the class
    left_out: tuple[str, ...]
    width: int  # cells that every row has


def recognises(path: Path) -> bool:
    """Whether a file is a table with a column of images."""
    try:
        if path.suffix == ".parquet":
            names = pq.read_schema(path).names
            return _named(names, IMAGE) is not None
        return _delimiter([line for _, line in islice(read_lines(path), 20)]) is not None
    except (DataError, OSError, pa.ArrowException):
        return False


def read(source: Source) -> Manifest:
    """Read one table per split, or one of all.

    Raises:
        DataError: no column holds images or labels, or a row is not like the others.
    """
    rows: LabelRows | None = None
    for split, path in source.files.items():
        with readable(path, "a table"):
            header, body, classes = _parquet(path) if path.suffix == ".parquet" else _text(path)
            rows = rows or LabelRows(source, "csv", classes=classes)
            rows.start(path)
            head = list(islice(body, LOOKED_AT))
            columns = _columns(header, head, path, rows)
            _gather(columns, chain(head, body), rows, split)
    if rows is None:
        raise DataError(f"{source.root} has no table of labels. Name the file.")
    return rows.manifest()


def _text(path: Path) -> tuple[list[str] | None, Iterator[Row], tuple[str, ...]]:
    """Header (None without one) and rows of a delimited text file."""
    first = [line for _, line in islice(read_lines(path), 20)]
    found = _delimiter(first)
    if found is None:
        if not any(line.strip() for line in first):
            raise DataError(f"{path} is empty. Give a table with a row per image.")
        raise DataError(
            f"{path} has no column of images: neither a header such as image,labels nor paths that end in .jpg, .png or the "
            "like. Name the column of images in a header."
        )
    delimiter, has_header = found
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
    """What stands between cells, and whether the first row is a header; None when no cell is an image."""
    lines = [line for line in lines if line.strip()]
    for delimiter in BETWEEN_CELLS:
        try:
            rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
        except csv.Error:
            continue
        if not rows or len(rows[0]) < 2:
            continue
        if any(map(_is_image, rows[0])):
            return delimiter, False
        if _named(rows[0], IMAGE) is not None or any(_is_image(cell) for row in rows[1:2] for cell in row):
            return delimiter, True
    single = next(csv.reader(lines[:1]), [""])  # images of which none has a label
    return (
        (",", False) if lines and len(single) == 1 and _is_image(single[0]) and not any(" " in x.strip() for x in lines) else None
    )


def _parquet(path: Path) -> tuple[list[str], Iterator[Row], tuple[str, ...]]:
    """Column names, rows, and class names that the Hugging Face library put into the file."""
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        for field in schema:
            if pa.types.is_struct(field.type) and field.name in IMAGE:
                raise DataError(
                    f"{path} holds the images themselves in column {field.name}. Save them as files and give their paths."
                )
        rows = (
            row for batch in file.iter_batches() for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        )
        return list(schema.names), ((number, row) for number, row in enumerate(rows, start=1)), _class_labels(schema)
    except pa.ArrowException as error:
        raise DataError(f"{path} cannot be read as Parquet ({str(error)[:200]}). Write it again.") from None


def _class_labels(schema: pa.Schema) -> tuple[str, ...]:
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        for name in LABELS:
            feature = features.get(name, {})
            names = (feature.get("feature") or feature).get("names")
            if names:
                return tuple(map(str, names))
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    return ()


def _columns(header: list[str] | None, head: list[Row], path: Path, rows: LabelRows) -> Columns:
    """Find out what each column is."""
    if not head:
        raise DataError(f"{path} has a header and no row. Give a table with a row per image.")
    return _without_header(head, path, rows) if header is None else _with_header(header, head, path)


def _with_header(header: list[str], head: list[Row], path: Path) -> Columns:
    twice = next((name for number, name in enumerate(header) if name and name in header[:number]), None)
    if twice is not None:
        raise DataError(f"{path}: the header names {twice!r} twice. Rename one of the columns.")
    image = _named(header, IMAGE)
    if image is None:
        image = next((k for k in range(len(header)) if _is_image(_cell(head[0][1], k))), 0)
    split, unknown, labels = (_named(header, names) for names in (SPLIT, UNKNOWN, LABELS))
    labels = None if labels == image else labels
    others = [k for k in range(len(header)) if k not in (image, split, unknown, labels)]
    flags = [k for k in others if _is_flag_column(head, k)]
    if labels is not None and flags and _is_flag_column(head, labels):  # a class called `label` among the others
        flags, labels = sorted([*flags, labels]), None
    if labels is None and not flags and len(others) == 1:
        labels = others[0]
    if labels is not None:
        flags = []
    elif not flags:
        raise DataError(
            f"{path} has no column of labels ({', '.join(header)[:200]}). Call it labels, or have one of 1 and 0 per class."
        )
    used = {image, split, unknown, labels, *flags}
    left_out = tuple(name for k, name in enumerate(header) if k not in used and name)
    return Columns(image, split, unknown, labels, tuple((k, header[k]) for k in flags), left_out, len(header))


def _without_header(head: list[Row], path: Path, rows: LabelRows) -> Columns:
    first = head[0][1]
    image = next((k for k, cell in enumerate(first) if _is_image(cell)), 0)
    width = min(len(row) for _, row in head)
    words = (k for k in range(width) if k != image)
    split = next((k for k in words if all(_text_of(row[k]).lower() in SPLIT_NAMES for _, row in head)), None)
    others = [k for k in range(len(first)) if k not in (image, split)]
    rest = min(others, default=len(first))
    flagged = len(others) > 1 and all(len(row) == len(first) for _, row in head)
    if flagged and all(_text_of(row[k]).lower() in FLAGS for _, row in head for k in others):
        if len(rows.listed) != len(others):
            raise DataError(
                f"{path} has {len(others)} columns of 1 and 0 and no header to name their classes. Add one, or give "
                "--classes FILE."
            )
        return Columns(image, split, None, None, tuple(zip(others, rows.listed, strict=True)), (), len(first))
    return Columns(image, split, None, rest, (), (), min(width, rest))


def _gather(columns: Columns, body: Iterable[Row], rows: LabelRows, split: str) -> None:
    """Add every row."""
    path = rows.parts[-1].file
    if columns.left_out:
        rows.notes.append(f"{path.name}: columns that are no labels: {', '.join(columns.left_out)[:200]}")
    for _, name in columns.flags:  # a class no image has is a class
        rows.label(name, str(path))
        rows.as_seen = True
    body = iter(body)
    head = list(islice(body, LOOKED_AT))
    between = rows.source.reading.delimiter or _between(columns, head)
    if columns.labels is not None and between == " ":
        rows.notes.append(f"{path.name}: labels are taken apart at spaces; --delimiter says otherwise")
    for row, cells in chain(head, body):
        if len(cells) < columns.width:
            raise DataError(f"{path}, row {row} has {len(cells)} cells where {columns.width} are needed. Mend the row.")
        if len(cells) > columns.width and columns.labels != columns.width - 1 and columns.labels != columns.width:
            raise DataError(f"{path}, row {row} has {len(cells)} cells where the header has {columns.width}. Mend the row.")
        where = f"{path}, row {row}"
        own = split_name(_text_of(cells[columns.split])) if columns.split is not None else ""
        if columns.flags:
            active, unknown = _flagged(columns.flags, cells, where)
        else:
            active = _labels_of(columns, cells, between, where)
            unknown = _parts(cells[columns.unknown], between, where) if columns.unknown is not None else []
        rows.add(_text_of(cells[columns.image]), active, row=row, split=own or split, unknown=unknown)


def _flagged(flags: Sequence[tuple[int, str]], cells: Sequence[Any], where: str) -> tuple[list[str], list[str]]:
    active: list[str] = []
    unknown: list[str] = []
    for k, name in flags:
        cell = cells[k]
        if cell in ("0", 0):
            continue
        value = FLAGS.get(_text_of(cell).lower())
        if value is None:
            raise DataError(
                f"{where}, column {name!r}: {_text_of(cell)[:60]!r} is not 1, 0, or unknown (blank, -1, ?). Mend the cell."
            )
        if value != INACTIVE:
            (active if value == ACTIVE else unknown).append(name)
    return active, unknown


def _labels_of(columns: Columns, cells: Sequence[Any], between: str, where: str) -> list[Any]:
    assert columns.labels is not None, "a table has a column of labels, or one per class"
    return [label for cell in cells[columns.labels : _end(columns, cells)] for label in _parts(cell, between, where)]


def _end(columns: Columns, cells: Sequence[Any]) -> int:
    """Cells after the last column are labels too: a list that was not quoted."""
    assert columns.labels is not None, "called for a column of labels"
    return len(cells) if columns.labels >= columns.width - 1 else columns.labels + 1


def _between(columns: Columns, head: list[Row]) -> str:
    """What stands between the labels of a cell: the first of | ; , that occurs, else a space if one does, else any of them."""
    if columns.labels is None:
        return ""
    texts = [str(cell) for _, row in head for cell in row[columns.labels : _end(columns, row)] if isinstance(cell, str)]
    texts = [text for text in texts if not _is_list(text)]
    for between in BETWEEN_LABELS:
        if any(between in text for text in texts):
            return between
    return " " if any(" " in text.strip() for text in texts) else ""


def _parts(cell: Any, between: str, where: str) -> list[Any]:
    """The labels of one cell."""
    if cell is None:
        return []
    if isinstance(cell, (list, tuple)):
        return [label for label in cell if label is not None]
    if not isinstance(cell, str):
        return [cell]
    if _is_list(cell):
        return _written_list(cell.strip(), where)
    if between == "none":
        parts = [cell]
    elif between:
        parts = cell.split(between)
    else:
        parts = cell.replace("|", ",").replace(";", ",").split(",")
    return [part.strip() for part in parts if part.strip()]


def _is_list(text: str) -> bool:
    return text.lstrip().startswith("[") and text.rstrip().endswith("]")


def _written_list(text: str, where: str) -> list[Any]:
    """A list as JSON or Python writes it."""
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text) if len(text) <= MAX_LIST else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list) and all(isinstance(label, (str, int)) for label in found):
            return found
    raise DataError(f'{where}: {text[:60]} is no list of labels. Write ["cat", "dog"], or cat;dog.')


def _named(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The column with the first of some names."""
    own = [str(cell).strip().lower().replace(" ", "_") for cell in header]
    return next((own.index(name) for name in names if name in own), None)


def _is_image(cell: Any) -> bool:
    return isinstance(cell, str) and cell.strip().lower().endswith(EXTENSIONS)


def _is_flag_column(head: list[Row], k: int) -> bool:
    """Whether what is filled in is mostly 1, 0 and the like, and some of it says something."""
    values = [text for _, row in head if (text := _text_of(_cell(row, k)).lower())]
    known = sum(FLAGS.get(text, NOT_KNOWN) != NOT_KNOWN for text in values)
    return known > 0 and sum(text in FLAGS for text in values) * 2 >= len(values)


def _cell(row: Sequence[Any], k: int) -> Any:
    return row[k] if k < len(row) else ""


def _text_of(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()
