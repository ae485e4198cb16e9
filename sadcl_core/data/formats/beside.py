"""Tell tables without labels from tables of labels beside them: lists of splits, mappings, names, sample submissions."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.columns import SPLIT
from sadcl_core.data.formats.source import SPLIT_NAMES, split_name
from sadcl_core.data.tables import IMAGE_COLUMNS, column_word, find_column, looks_like_image, read_lines
from sadcl_core.errors import DataError

LIST_OF_SPLITS = "a list of splits"
# by the name without extension
KINDS = {
    "a sample of a submission": re.compile(r"(sample_?)?submission([_-].*)?|.*_submission", re.IGNORECASE),
    LIST_OF_SPLITS: re.compile(r"list_eval_partition|.*partition", re.IGNORECASE),
    "a mapping of names": re.compile(r".*[_-]mapping|mapping([_-].*)?", re.IGNORECASE),
    "a list of class names": re.compile(
        r"(.*[-_])?class[-_]descriptions([-_].*)?|classes|((class|label|category|attribute)_?)?names|class_?dict|label_?map",
        re.IGNORECASE,
    ),
    "a list of boxes, landmarks or persons": re.compile(r"list_(bbox|landmarks)\w*|bbox_list\w*|identity_celeba", re.IGNORECASE),
}
IDENTIFIER = re.compile(r"(.*_)?(id|uid|idx|index|md5)|unnamed:.*|")
ROWS = 5  # that are looked at
MANY = 50  # tables of a folder that are looked at
NUMBERS = ("attribute_id", "label_id", "labelid", "class_id", "category_id", "tag_id")  # columns of a table of names of classes
NAMES = ("attribute_name", "label_name", "labelname", "class_name", "category_name", "tag_name")
TABLES = (".csv", ".tsv", ".txt")


def kind_beside(path: Path) -> str:
    """Return the kind of a file without labels that lies beside label files; empty if it may hold labels.

    Example:
        >>> kind_beside(Path("sample_submission_v2.csv")), kind_beside(Path("labels.csv"))
        ('a sample of a submission', '')
    """
    if path.suffix.lower() not in TABLES:
        return ""
    kind = next((kind for kind, name in KINDS.items() if name.fullmatch(path.stem)), "")
    if kind:
        return kind
    header, *rows = _first_rows(path) or [[]]
    pairs = bool(rows) and all(len(row) == 2 for row in rows)
    if pairs and all(all(map(looks_like_image, row)) for row in rows):
        return "a mapping of names"
    return LIST_OF_SPLITS if rows and split_columns(header, rows) else ""


def names_of_numbers(folders: Iterable[Path], numbers: Collection[str]) -> tuple[Path | None, dict[str, str]]:
    """Return a table beside the labels that names each of some numbers of classes, and the names, all different.

    Its columns must have usual names, such as attribute_id and attribute_name.
    """
    for path in (path for folder in dict.fromkeys(folders) for path in islice(sorted(folder.glob("*.csv")), MANY)):
        with suppress(DataError, csv.Error):
            rows = csv.reader(line for _, line in read_lines(path))
            header = next(rows, [])
            number, name = find_column(header, NUMBERS), find_column(header, NAMES)
            if number is not None and name is not None:
                names = {row[number].strip(): row[name].strip() for row in rows if len(row) == len(header)}
                if set(numbers) <= names.keys() and len(set(names.values())) == len(names):
                    return path, names
    return None, {}


def split_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    """Return the columns of images and of splits in a table of these and identifiers alone; None for another table.

    Example:
        >>> split_columns(["id", "filename", "split"], [["1", "a.jpg", "train"], ["2", "b.jpg", "test"]])
        (1, 2)
    """
    words = [column_word(name) for name in header]
    split = next((k for k, word in enumerate(words) if word in SPLIT), None)
    if split is None or not all(len(row) == len(header) and split_name(row[split]) in SPLIT_NAMES.values() for row in rows):
        return None
    others = [k for k in range(len(header)) if k != split]
    image = next((k for k in others if all(looks_like_image(row[k]) for row in rows)), None)
    named = find_column([header[k] for k in others], IMAGE_COLUMNS)
    if image is None and named is not None:
        image = others[named]
    return None if image is None or not all(k == image or IDENTIFIER.fullmatch(words[k]) for k in others) else (image, split)


def table_of_splits(path: Path) -> list[tuple[str, str]] | None:
    """Return the images and splits of a table with a header; None for a table of other things."""
    header, *rows = _first_rows(path, sys.maxsize) or [[]]
    columns = split_columns(header, rows)
    return columns and [(row[columns[0]], split_name(row[columns[1]])) for row in rows]


def _first_rows(path: Path, count: int = ROWS) -> list[list[str]]:
    """Return the first rows of a delimited text; an empty list for another file."""
    try:
        lines = [line.strip() for _, line in islice(read_lines(path), count)]
        delimiter = next((mark for mark in ",\t;" if lines and mark in lines[0]), " ")
        return list(csv.reader(lines, delimiter=delimiter))
    except (DataError, csv.Error, OSError):
        return []
