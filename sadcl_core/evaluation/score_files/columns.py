"""Which columns of a table of scores are what: images, scores of a class, or (one score per row) classes and scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from sadcl_core.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS, cell_at, find_column, looks_like_image
from sadcl_core.errors import DataError

SCORE = ("score", "scores", "probability", "prob", "confidence", "value", "logit", "prediction")  # of one class in a row
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.IGNORECASE)
NOTHING = ("", "na", "n/a", "null", "none", "<na>")


@dataclass(frozen=True)
class ScoreColumns:
    """Numbers of columns.

    Attributes:
        image: of the images, None where the rows name none.
        label: of the classes, where each row is one score of an image; else None.
        scores: of the scores, one per class; the one of all when there is `label`.
    """

    image: int | None
    label: int | None
    scores: tuple[int, ...]


def score_columns(header: Sequence[str], head: Sequence[Sequence[Any]], path: Path) -> ScoreColumns:
    """Tell the columns apart by their names and by what a few rows hold.

    Args:
        header: names; blank ones for a table without.
        head: its first rows.
        path: for errors.

    Raises:
        DataError: no column holds numbers.
    """
    numeric = {k for k, cells in enumerate(_cells(header, head)) if _are_numbers(cells)}
    image = image_column(header, head)
    scores = [k for k in sorted(numeric) if k != image and not _is_index(header, k)]
    if not scores:
        raise DataError(f"{path} has no column of scores ({', '.join(header)[:200]}). Give a column of numbers per class.")
    texts = [name if k not in numeric and k != image else "" for k, name in enumerate(header)]
    label, score = find_column(texts, LABEL_COLUMNS), find_column([header[k] for k in scores], SCORE)
    if label is not None and score is not None and image is not None:
        return ScoreColumns(image, label, (scores[score],))
    return ScoreColumns(image, None, tuple(scores))


def has_header(first: Sequence[str]) -> bool:
    """Whether the first row of a text file holds names, which may be numbers: 0, 1, 2, ..."""
    numbers = [k for k, cell in enumerate(first) if is_number(cell)]
    if len(numbers) < len(first) - 1 or not numbers:
        return True
    if find_column(first, IMAGE_COLUMNS) is not None or any(is_nothing(cell) for cell in first):
        return True
    counted = [first[k].strip() for k in numbers]
    return len(counted) > 2 and counted in ([str(k + base) for k in range(len(counted))] for base in (0, 1))


def is_number(cell: Any) -> bool:
    """Whether a cell is a number or a text of one."""
    return NUMBER.fullmatch(cell.strip()) is not None if isinstance(cell, str) else isinstance(cell, (int, float, Decimal))


def is_nothing(cell: Any) -> bool:
    """Whether a cell says that there is no number."""
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in NOTHING)


def image_column(header: Sequence[str], head: Sequence[Sequence[Any]]) -> int | None:
    """A column of texts with a usual name, of paths, of whole numbers with a usual name, or a first column of texts."""
    columns = _cells(header, head)
    numeric = {k for k, cells in enumerate(columns) if not any(map(_is_word, cells))}
    text = [name if k not in numeric else "" for k, name in enumerate(header)]
    named = find_column(text, IMAGE_COLUMNS)
    if named is not None:
        return named
    paths = next((k for k, cells in enumerate(columns) if cells and all(map(looks_like_image, cells))), None)
    if paths is not None:
        return paths
    whole = [name if k in numeric and _are_numbers_of_images(columns[k]) else "" for k, name in enumerate(header)]
    named = find_column(whole, IMAGE_COLUMNS)
    if named is not None:
        return named
    return 0 if 0 not in numeric and find_column(header[:1], LABEL_COLUMNS) is None else None


def _cells(header: Sequence[str], head: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The cells of each column."""
    return [[cell_at(row, k) for row in head] for k in range(len(header))]


def _are_numbers(cells: Sequence[Any]) -> bool:
    """Whether cells are numbers but for a few, which are mistakes that are better complained of than passed over."""
    filled = [cell for cell in cells if not is_nothing(cell)]
    return 2 * sum(map(is_number, filled)) >= len(filled)


def _is_word(cell: Any) -> bool:
    return isinstance(cell, str) and not is_number(cell) and not is_nothing(cell)


def _are_numbers_of_images(cells: Sequence[Any]) -> bool:
    """Whether cells are whole numbers and others than the 0 and 1 of a class."""
    written = {str(cell).strip() for cell in cells}
    return all(text.isdecimal() for text in written) and bool(written - {"0", "1"})


def _is_index(header: Sequence[str], k: int) -> bool:
    """Whether a column is the row numbers that pandas writes: one without a name where others have one."""
    name = header[k].strip().lower()
    return (not name and any(header)) or name.startswith("unnamed:") or name == "__index_level_0__"
