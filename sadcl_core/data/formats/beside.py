"""Files that lie beside labels, look like tables of them, and are none: lists of splits, mappings, samples of submissions."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

from sadcl_core.data.tables import find_column, looks_like_image, read_lines
from sadcl_core.errors import DataError

# by the name without extension
KINDS = {
    "a sample of a submission": re.compile(r"(sample_?)?submission([_-].*)?|.*_submission", re.IGNORECASE),
    "a list of splits": re.compile(r"list_eval_partition|.*partition", re.IGNORECASE),
    "a mapping of names": re.compile(r".*[_-]mapping|mapping([_-].*)?", re.IGNORECASE),
    "a list of class names": re.compile(r"(.*[-_])?class[-_]descriptions([-_].*)?|classes", re.IGNORECASE),
    "a list of boxes, landmarks or persons": re.compile(r"list_(bbox|landmarks)\w*|bbox_list\w*|identity_celeba", re.IGNORECASE),
}
ROWS = 5  # that are looked at
MANY = 50  # tables of a folder that are looked at
NUMBERS = ("attribute_id", "label_id", "labelid", "class_id", "category_id", "tag_id")  # columns of a table of names of classes
NAMES = ("attribute_name", "label_name", "labelname", "class_name", "category_name", "tag_name")
TABLES = (".csv", ".tsv", ".txt")


def kind_beside(path: Path) -> str:
    """Return what a file is that lies beside label files and holds no labels; empty if it may hold some.

    Example:
        >>> kind_beside(Path("sample_submission_v2.csv")), kind_beside(Path("labels.csv"))
        ('a sample of a submission', '')
    """
    if path.suffix.lower() not in TABLES:
        return ""
    kind = next((kind for kind, name in KINDS.items() if name.fullmatch(path.stem)), "")
    return kind or ("a mapping of names" if _pairs_of_images(path) else "")


def names_of_numbers(folders: Iterable[Path], numbers: Collection[str]) -> tuple[Path | None, dict[str, str]]:
    """Return a table beside the labels that gives each of some numbers of classes a name of its own, and the names.

    Only such a table is taken that has usual names of columns: attribute_id,attribute_name.
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


def _pairs_of_images(path: Path) -> bool:
    """Return True if each row behind the first names two images and nothing else."""
    try:
        lines = [line.strip() for _, line in islice(read_lines(path), ROWS)]
        delimiter = next((mark for mark in ",\t;" if lines and mark in lines[0]), " ")
        rows = list(csv.reader(lines[1:], delimiter=delimiter))
    except (DataError, csv.Error, OSError):
        return False
    return bool(rows) and all(len(row) == 2 and all(map(looks_like_image, row)) for row in rows)
