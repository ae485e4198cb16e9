"""Files that lie beside labels, look like tables of them, and are none: lists of splits, mappings, samples of submissions."""

from __future__ import annotations

import csv
import re
from itertools import islice
from pathlib import Path

from sadcl_core.data.tables import looks_like_image, read_lines
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


def _pairs_of_images(path: Path) -> bool:
    """Return True if each row behind the first names two images and nothing else."""
    try:
        lines = [line.strip() for _, line in islice(read_lines(path), ROWS)]
        delimiter = next((mark for mark in ",\t;" if lines and mark in lines[0]), " ")
        rows = list(csv.reader(lines[1:], delimiter=delimiter))
    except (DataError, csv.Error, OSError):
        return False
    return bool(rows) and all(len(row) == 2 and all(map(looks_like_image, row)) for row in rows)
