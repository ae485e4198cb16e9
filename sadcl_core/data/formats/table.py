"""Tables: CSV, TSV, other delimited text, and Parquet, with a row per image.

    image,labels,split          filename,cat,dog,car        photos/a.jpg cat dog
    photos/a.jpg,cat;dog,train  a.jpg,1,0,?                 photos/b.jpg

The labels are in one cell (between `,` `;` `|` or spaces, or as a list), in one column per class (1, 0, and unknown: blank,
-1 or ?), or in the cells after the image. With a header or without. Also what Roboflow (`_classes.csv`), CheXpert and the
Hugging Face imagefolder (`metadata.csv`, `metadata.parquet`) write. Parquet needs a header by nature.

Columns are told apart by their names, else by what they hold. Tables of several splits must have the same classes; where
a list of classes is given, columns that are not in it are no classes.
"""

from __future__ import annotations

import ast
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

from sadcl_core.data.formats.labels import CLASS_LIST, LabelRows
from sadcl_core.data.formats.locate import ADDRESS
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
LABELS = (
    *("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "targets", "target", "keywords"),
    "attributes",
)
IS_VALID = "is_valid"  # fastai's: whether an image is in val
SPLIT = ("split", "split_name", "set", "subset", "partition", "usage", "phase", IS_VALID)
NO_CLASS = ("", "index", "id", "sex", "gender", "age", "fold", "width", "height")  # may well hold 1 and 0, or f
UNKNOWN = ("unknown", "unknown_labels")
ACTIVE, INACTIVE, NOT_KNOWN = 1, 0, -1
FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "t"), ACTIVE),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "f"), INACTIVE),
    **dict.fromkeys(("", "-1", "-1.0", "?", "nan", "na", "n/a", "null", "none", "unknown"), NOT_KNOWN),
}
SURE = frozenset(text for text in FLAGS if text in ("true", "false", "yes", "no", "?") or text.removeprefix("-")[:1].isdigit())
PROSE = ("readme", "license")  # beside many data sets
BETWEEN_CELLS = ("\t", ",", ";", "|", " ")
BETWEEN_LABELS = ("|", ";", ",")
SNIFFED = 20  # lines that the delimiter is found out from
TUPLES = ("('", '("', "{'", '{"')  # how Python writes lists of texts that are none
LOOKED_AT = 10_000  # rows that the meaning of the columns is found out from
MAX_LIST = 1 << 16  # characters of a list that is written out

Row = tuple[int, Sequence[Any]]


@dataclass(frozen=True)
class Columns:
    """What each column is: numbers of columns, None where there is none."""

    image: int
    split: int | None
    unknown: int | None
    labels: tuple[int, ...]  # cells of labels
    rest: int | None  # from here on every cell is one of labels
    flags: tuple[tuple[int, str], ...]  # one column per class: its number and the class
    left_out: tuple[str, ...]
    width: int  # cells that every row has
    is_valid: bool = False  # the split is told by 1 for val and 0 for train


def recognises(path: Path) -> bool:
    """Whether a file is a table with a column of images."""
    try:
        if path.suffix.lower() == ".parquet":
            names = pq.read_schema(path).names
            return _named(names, IMAGE) is not None
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
    flags: tuple[str, ...] | None = None
    for split, path in source.files.items():
        with readable(path, "a table"):
            header, body, classes = _parquet(path) if path.suffix.lower() == ".parquet" else _text(path)
            rows = rows or LabelRows(source, "csv", classes=classes)
            rows.start(path)
            head = list(islice(body, LOOKED_AT))
            columns = _columns(header, head, path, rows)
            own = tuple(name for _, name in columns.flags)
            flags = (rows.listed if rows.fixed and own else own) if flags is None else flags
            _refuse_other_columns(own, flags, path, rows)
            _gather(columns, chain(head, body), rows, split)
    if rows is None:
        raise DataError(f"{source.root} has no table of labels. Name the file.")
    return rows.manifest()


def _is_caption(path: Path) -> bool:
    """Whether a text lies beside an image of the same name."""
    return path.suffix.lower() == ".txt" and any(path.with_suffix(suffix).is_file() for suffix in EXTENSIONS)


def _refuse_other_columns(own: Sequence[str], wanted: Sequence[str], path: Path, rows: LabelRows) -> None:
    """Raise unless the columns of classes are those that were listed, or those of the first table: others would count as 0."""
    lacking = [name for name in wanted if name not in own]
    more = [name for name in own if name not in wanted]
    if lacking or more:
        what = f"no column of the class {lacking[0]!r}" if lacking else f"a column of the class {more[0]!r}"
        others = "the list of classes" if rows.fixed else str(rows.parts[0].file)
        verb = "has" if lacking else "has not, or left blank"
        raise DataError(
            f"{path} has {what}, which {others} {verb}. Give all the same columns; ? in a cell says that nobody knows."
        )


def _text(path: Path) -> tuple[list[str] | None, Iterator[Row], tuple[str, ...]]:
    """Header (None without one) and rows of a delimited text file."""
    first = [line for _, line in islice(read_lines(path), SNIFFED)]
    found = _delimiter(first)
    if found is None:
        if not any(line.strip() for line in first):
            raise DataError(f"{path} is empty. Give a table with a row per image.")
        if _is_image(first[0]):
            raise DataError(f"{path} lists images and no labels. Write their labels behind them: a.jpg,cat,dog.")
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
    tables: dict[str, list[list[str]]] = {}
    for delimiter in BETWEEN_CELLS:
        rows: list[list[str]] = []
        with suppress(csv.Error):  # in a later row: what reads them all says where
            rows.extend(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
        if any(len(row) > 1 for row in rows):
            tables[delimiter] = rows
    for delimiter, rows in tables.items():
        image = next(filter(_is_image, rows[0]), None)
        if image is not None and all(_is_image(_cell(row, rows[0].index(image))) for row in rows):
            return delimiter, False
    for delimiter, rows in tables.items():
        if len(rows[0]) > 1 and any(map(_is_image, rows[0])):
            return delimiter, False
        if len(rows[0]) > 1 and _is_header(rows, delimiter):
            return delimiter, True
    return None


def _is_header(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Whether the first row names a column of images; between spaces the first, for prose speaks of images as well."""
    named = _named(rows[0], IMAGE)
    if named is not None and (delimiter != " " or named == 0):
        return True
    return any(_is_image(cell) for row in rows[1:2] for cell in row)


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
    return _without_header(head, path, rows) if header is None else _with_header(header, head, path, rows)


def _with_header(header: list[str], head: list[Row], path: Path, rows: LabelRows) -> Columns:
    twice = next((name for number, name in enumerate(header) if name and name in header[:number]), None)
    if twice is not None:
        raise DataError(f"{path}: the header names {twice!r} twice. Rename one of the columns.")
    image = _image_column(header, head[0][1])
    split, unknown, labels = (_named(header, names) for names in (SPLIT, UNKNOWN, LABELS))
    labels = _last_word(header, LABELS) if labels is None else labels
    labels = None if labels in (image, split, unknown) else labels
    others = [k for k in range(len(header)) if k not in (image, split, unknown, labels)]
    flags = _flag_columns(header, head, others)
    if labels is not None and flags and _is_flag_column(head, labels):  # a class called `label` among the others
        flags, labels = sorted([*flags, labels]), None
    if labels is None and not flags and len(others) == 1:
        labels = others[0]
    if labels is None and unknown is not None and _is_flag_column(head, unknown):  # a class called `unknown`
        flags, unknown = sorted([*flags, unknown]), None
    if labels is not None:
        flags = []
    elif rows.fixed:
        flags = [k for k in range(len(header)) if k != image and header[k] in rows.index]
    if labels is None and not flags:
        raise DataError(
            f"{path} has no column of labels ({', '.join(header)[:200]}). Call it labels, or have one of 1 and 0 per class."
        )
    used = {image, split, unknown, labels, *flags}
    return Columns(
        image=image,
        split=split,
        unknown=unknown,
        labels=() if labels is None else (labels,),
        rest=len(header) if labels == len(header) - 1 else None,  # a list that was not quoted
        flags=tuple((k, header[k]) for k in flags),
        left_out=tuple(name for k, name in enumerate(header) if k not in used and name),
        width=len(header),
        is_valid=split is not None and _word(header[split]) == IS_VALID,
    )


def _image_column(header: list[str], first: Sequence[Any]) -> int:
    """The column of images: the first of the usual names whose cell is a path, any such column, any such name, the first."""
    paths = [k for k in range(len(header)) if _is_image(_cell(first, k)) and not ADDRESS.match(str(first[k]).strip())]
    named = _named([header[k] for k in paths], IMAGE)
    if named is not None:
        return paths[named]
    named = _named(header, IMAGE)
    return paths[0] if paths else named if named is not None else 0


def _flag_columns(header: list[str], head: list[Row], columns: Sequence[int]) -> list[int]:
    """The columns that are classes: with 1 and 0, and beside such also those of which nobody knows anything."""
    columns = [k for k in columns if not _is_no_class(header[k])]
    flags = [k for k in columns if _is_flag_column(head, k)]
    return [k for k in columns if k in flags or _is_unknown_column(head, k)] if flags else []


def _is_no_class(name: str) -> bool:
    word = _word(name)
    return word in NO_CLASS or word.startswith("unnamed:") or word.endswith(("_sex", "_gender", "_age"))


def _without_header(head: list[Row], path: Path, rows: LabelRows) -> Columns:
    first = head[0][1]
    image = next((k for k, cell in enumerate(first) if _is_image(cell)), 0)
    width = min(len(row) for _, row in head)
    words = (k for k in range(width) if k != image)
    split = next((k for k in words if all(_text_of(row[k]).lower() in SPLIT_NAMES for _, row in head)), None)
    known = max(image, -1 if split is None else split)
    others = [k for k in range(len(first)) if k not in (image, split)]
    flagged = len(others) > 1 and all(len(row) == len(first) for _, row in head)
    if flagged and all(_text_of(row[k]).lower() in FLAGS for _, row in head for k in others):
        if len(rows.listed) != len(others):
            raise DataError(
                f"{path} has {len(others)} columns of 1 and 0 and no header to name their classes. Add one, or give "
                "--classes FILE."
            )
        return Columns(image, split, None, (), None, tuple(zip(others, rows.listed, strict=True)), (), len(first))
    labels = tuple(k for k in range(known) if k not in (image, split))
    return Columns(image, split, None, labels, None if labels else known + 1, (), (), known + 1)


def _gather(columns: Columns, body: Iterable[Row], rows: LabelRows, split: str) -> None:
    """Add every row."""
    path = rows.parts[-1].file
    for _, name in columns.flags:  # a class no image has is a class
        rows.label(name, str(path))
    body = iter(body)
    head = list(islice(body, LOOKED_AT))
    between = rows.source.reading.delimiter or _between(columns, head)
    rows.notes += [f"{path.name}: {note}" for note in _notes(columns, head, between, rows.source.reading.delimiter)]
    for row, cells in chain(head, body):
        where = f"{path}, row {row}"
        if len(cells) < columns.width:
            raise DataError(f"{where} has {len(cells)} cells where {columns.width} are needed. Mend the row.")
        if len(cells) > columns.width and columns.rest is None:
            raise DataError(f"{where} has {len(cells)} cells where the others have {columns.width}. Mend the row.")
        unknown = _parts(cells[columns.unknown], between, where) if columns.unknown is not None else []
        if columns.flags:
            active, more = _flagged(columns.flags, cells, where)
            unknown += more
        else:
            active = [label for cell in _label_cells(columns, cells) for label in _parts(cell, between, where)]
        image = cells[columns.image]
        rows.add(
            image.strip() if isinstance(image, str) else image,
            active,
            row=row,
            split=_split_of(columns, cells) or split,
            unknown=unknown,
        )


def _notes(columns: Columns, head: list[Row], between: str, delimiter: str) -> Iterator[str]:
    """What a person should know of how a table was understood."""
    if columns.left_out:
        yield f"columns that are no labels: {', '.join(columns.left_out)[:200]}"
    if columns.flags:
        values = {_text_of(cells[k]) for _, cells in head for k, _ in columns.flags if k < len(cells)}
        if not any(FLAGS.get(value.lower()) == INACTIVE for value in values) and values & {"-1", "-1.0"}:
            yield "there is no 0, and -1 counts as unknown: write 0 where a class is absent"
    elif not delimiter:
        spaced = next((text for text in _label_texts(columns, head) if " " in text.strip()), None)
        if between == " ":
            yield "labels are taken apart at spaces; --delimiter none keeps them whole"
        elif not between and spaced is not None:
            yield f"labels such as {spaced.strip()[:60]!r} are kept whole; --delimiter ' ' takes them apart"


def _split_of(columns: Columns, cells: Sequence[Any]) -> str:
    """The split of a row, blank when it has none."""
    if columns.split is None:
        return ""
    text = _text_of(cells[columns.split])
    if columns.is_valid:
        text = {ACTIVE: "val", INACTIVE: "train"}.get(FLAGS.get(text.lower(), NOT_KNOWN), text)
    return split_name(text)


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
                f"{where}, column {name!r}: {_text_of(cell)[:60]!r} is not 1, 0, or unknown (blank, -1, ?). Mend the cell, or "
                "say with --classes FILE which columns are classes."
            )
        if value != INACTIVE:
            (active if value == ACTIVE else unknown).append(name)
    return active, unknown


def _label_cells(columns: Columns, cells: Sequence[Any]) -> list[Any]:
    """The cells of a row that hold labels."""
    rest = cells[columns.rest :] if columns.rest is not None else ()
    return [*(cells[k] for k in columns.labels), *rest]


def _label_texts(columns: Columns, head: list[Row]) -> list[str]:
    """What cells of labels hold that is no written list."""
    rows = (cells for _, cells in head if len(cells) >= columns.width)
    texts = (cell for cells in rows for cell in _label_cells(columns, cells) if isinstance(cell, str) and cell.strip())
    return [text for text in texts if not _is_list(text)]


def _between(columns: Columns, head: list[Row]) -> str:
    """What stands between the labels of a cell: the first of | ; , that occurs, else perhaps a space, else any of them."""
    texts = _label_texts(columns, head)
    for between in BETWEEN_LABELS:
        if any(between in text for text in texts):
            return between
    return " " if _are_words(texts) else ""


def _are_words(texts: Sequence[str]) -> bool:
    """Whether texts with spaces are several labels each, not labels of several words.

    The same words then come together in ever other ways: there are fewer words than texts. A label of several words
    makes more words than texts, and each text comes again and again.
    """
    different = {text.strip() for text in texts}
    words = {word for text in different for word in text.split()}
    repeated = len(different) * 2 <= len(texts)
    return any(" " in text for text in different) and not (len(words) > len(different) and repeated)


def _parts(cell: Any, between: str, where: str) -> list[Any]:
    """The labels of one cell."""
    if cell is None or cell != cell:  # missing, or NaN
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
    text = text.strip()
    return (text[:1] == "[" and text[-1:] == "]") or (text[:2] in TUPLES and text[-1:] in ")}")


def _written_list(text: str, where: str) -> list[Any]:
    """A list as JSON or Python writes it."""
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text) if len(text) <= MAX_LIST else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, (list, tuple, set)) and all(isinstance(label, (str, int)) for label in found):
            return list(found)
    raise DataError(f'{where}: {text[:60]} is no list of labels. Write ["cat", "dog"], or cat;dog.')


def _named(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The column with the first of some names."""
    own = [_word(str(cell)) for cell in header]
    return next((own.index(name) for name in names if name in own), None)


def _last_word(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The only column whose last word is one of some names, as in `Finding Labels`."""
    found = [k for k, cell in enumerate(header) if _word(cell).rpartition("_")[2] in names]
    return found[0] if len(found) == 1 else None


def _word(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _is_image(cell: Any) -> bool:
    return isinstance(cell, str) and cell.strip().lower().endswith(EXTENSIONS)


def _is_flag_column(head: list[Row], k: int) -> bool:
    """Whether what is filled in is 1, 0 and the like, at least mostly, and some of it says something.

    The rest are mistakes, which are better complained of than that a class is passed over.
    """
    values = [text for _, row in head if (text := _text_of(_cell(row, k)).lower())]
    if not any(FLAGS.get(text, NOT_KNOWN) != NOT_KNOWN for text in values):
        return False
    return all(text in FLAGS for text in values) or sum(text in SURE for text in values) * 2 >= len(values)


def _is_unknown_column(head: list[Row], k: int) -> bool:
    """Whether all that is filled in says that nobody knows."""
    values = {text for _, row in head if (text := _text_of(_cell(row, k)).lower())}
    return bool(values) and values <= {"-1", "-1.0", "?", "unknown"}


def _cell(row: Sequence[Any], k: int) -> Any:
    return row[k] if k < len(row) else ""


def _text_of(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()
