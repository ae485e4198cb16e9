"""Parse the cells of a row: its split, and its active and unknown labels."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from sadcl_core.data.formats.columns import ACTIVE, FLAGS, INACTIVE, NOT_KNOWN, Columns, Row
from sadcl_core.data.formats.source import split_name
from sadcl_core.data.tables import cell_text
from sadcl_core.errors import DataError

BETWEEN_LABELS = ("|", ";", ",")
TUPLES = ("('", '("', "{'", '{"')  # how Python writes lists of texts that are none
QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
NUMPY = re.compile(r"\[\s*(?:'[^']*'|\"[^\"]*\")(?:\s+(?:'[^']*'|\"[^\"]*\"))+\s*\]")  # texts with nothing but space between
MISSING = ("", "nan", "n/a", "null", "()", "{}", "set()")  # how programs write that there is no label
MAX_LIST = 1 << 17  # characters of a list that is written out


def split_of(columns: Columns, cells: Sequence[Any]) -> str:
    """Return the split of a row; blank if it has none."""
    if columns.split is None:
        return ""
    text = cell_text(cells[columns.split])
    if columns.is_valid:
        text = {ACTIVE: "val", INACTIVE: "train"}.get(FLAGS.get(text.lower(), NOT_KNOWN), text)
    return split_name(text)


def read_flags(flags: Sequence[tuple[int, str]], cells: Sequence[Any], where: str) -> tuple[list[str], list[str]]:
    """Return the active and the unknown classes of a row with a column per class.

    Raises:
        DataError: a cell is neither 1, 0 nor unknown.
    """
    active: list[str] = []
    unknown: list[str] = []
    for k, name in flags:
        cell = cells[k]
        if cell in ("0", 0):
            continue
        value = FLAGS.get(cell_text(cell).lower())
        if value is None:
            raise DataError(
                f"{where}, column {name!r}: {cell_text(cell)[:60]!r} is not 1, 0, or unknown (blank, -1, ?). Mend the cell, or "
                "say with --classes FILE which columns are classes."
            )
        if value != INACTIVE:
            (active if value == ACTIVE else unknown).append(name)
    return active, unknown


def label_cells(columns: Columns, cells: Sequence[Any]) -> list[Any]:
    """Return the cells of a row that hold labels."""
    rest = cells[columns.rest :] if columns.rest is not None else ()
    return [*(cells[k] for k in columns.labels), *rest]


def label_texts(columns: Columns, head: list[Row]) -> list[str]:
    """Return the texts in cells of labels, without those that are written lists."""
    rows = (cells for _, cells in head if len(cells) >= columns.width)
    texts = (cell for cells in rows for cell in label_cells(columns, cells) if isinstance(cell, str) and cell.strip())
    return [text for text in texts if not _is_list(text)]


def find_between(texts: Sequence[str]) -> str:
    """Return the delimiter between labels: the first of | ; , that occurs, else perhaps a space, else any of them."""
    for between in BETWEEN_LABELS:
        if any(between in text for text in texts):
            return between
    return " " if _are_words(texts) else ""


def _are_words(texts: Sequence[str]) -> bool:
    """Return True if texts with spaces are several labels each, not labels of several words.

    The same words then come together in ever other ways: there are fewer words than texts. A label of several words
    makes more words than texts, and each text comes again and again.
    """
    different = {text.strip() for text in texts}
    words = {word for text in different for word in text.split()}
    repeated = len(different) * 2 <= len(texts)
    return any(" " in text for text in different) and not (len(words) > len(different) and repeated)


def labels_in(cell: Any, between: str, where: str) -> list[Any]:
    """Return the labels of one cell."""
    if cell is None or cell != cell:  # missing, or NaN
        return []
    if isinstance(cell, (list, tuple)):
        return [label for label in cell if label is not None]
    if not isinstance(cell, str):
        return [cell]
    text = cell.strip()
    if text.lower() in MISSING:
        return []
    if text in ("?", "-1"):
        raise DataError(f"{where}: {text} is no label. Leave the image out if nothing is known, or give columns of 1, 0 and ?.")
    if _is_list(text):
        return _written_list(text, where)
    return [part for part in map(str.strip, _split_cell(text, between)) if part]


def _split_cell(text: str, between: str) -> list[str]:
    """Split a cell at the delimiter and at line breaks."""
    if between == "none":
        return [text]
    if between:
        return text.replace("\n", between).split(between)
    return text.replace("|", ",").replace(";", ",").replace("\n", ",").split(",")


def _is_list(text: str) -> bool:
    text = text.strip()
    return (text[:1] == "[" and text[-1:] == "]") or (text[:2] in TUPLES and text[-1:] in ")}")


def _written_list(text: str, where: str) -> list[Any]:
    """Parse a list as JSON or Python writes it."""
    for parse in () if NUMPY.fullmatch(text) else (json.loads, ast.literal_eval):
        try:
            values = parse(text) if len(text) <= MAX_LIST else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(values, (list, tuple, set)) and all(isinstance(label, (str, int)) for label in values):
            return list(values)
    if NUMPY.fullmatch(text):
        return [first or second for first, second in QUOTED.findall(text)]
    raise DataError(f'{where}: {text[:60]} is not a list of labels. Write ["cat", "dog"], or cat;dog.')
