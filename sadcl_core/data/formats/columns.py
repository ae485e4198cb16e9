"""Identify the columns of a table: images, splits, labels in a cell, or one class each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.locate import ADDRESS
from sadcl_core.data.formats.source import SPLIT_NAMES
from sadcl_core.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS, cell_at, cell_text, column_word, find_column, looks_like_image
from sadcl_core.errors import DataError

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
Row = tuple[int, Sequence[Any]]


@dataclass(frozen=True)
class Columns:
    """Numbers of columns; None where there is none."""

    image: int
    split: int | None
    unknown: int | None
    labels: tuple[int, ...]  # cells of labels
    rest: int | None  # from here on every cell is one of labels
    flags: tuple[tuple[int, str], ...]  # one column per class: its number and the class
    left_out: tuple[str, ...]
    width: int  # cells that every row has
    is_valid: bool = False  # in the column of splits 1 is val and 0 is train


def find_columns(header: list[str] | None, head: list[Row], path: Path, rows: LabelRows) -> Columns:
    """Identify the columns."""
    if not head:
        raise DataError(f"{path} has a header and no row. Give a table with a row per image.")
    return _without_header(head, path, rows) if header is None else _with_header(header, head, path, rows)


def _with_header(header: list[str], head: list[Row], path: Path, rows: LabelRows) -> Columns:
    twice = next((name for number, name in enumerate(header) if name and name in header[:number]), None)
    if twice is not None:
        raise DataError(f"{path}: the header names {twice!r} twice. Rename one of the columns.")
    image = _image_column(header, head[0][1])
    split, unknown, labels = (find_column(header, names) for names in (SPLIT, UNKNOWN, LABEL_COLUMNS))
    labels = _last_word(header, LABEL_COLUMNS) if labels is None else labels
    labels = None if labels in (image, split, unknown) else labels
    if rows.source.reading.label_column:
        return _with_label_column(header, path, rows.source.reading.label_column, image, split, unknown)
    if rows.source.reading.long:
        _refuse_flags(header, head, path, (image, split, unknown, labels))
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
        is_valid=split is not None and column_word(header[split]) == IS_VALID,
    )


def _refuse_flags(header: list[str], head: list[Row], path: Path, used: Sequence[int | None]) -> None:
    """Raise if a column beside the labels says 1 or 0 of each label: labels with 0 would be read as active."""
    for k, name in enumerate(header):
        if k not in used and not _is_no_class(name) and _is_flag_column(head, k):
            raise DataError(f"{path}: column {name!r} says 1 or 0 of each label. Leave the rows with 0 out, then the column.")


def _with_label_column(header: list[str], path: Path, name: str, image: int, split: int | None, unknown: int | None) -> Columns:
    """Return the columns where a person names the one that holds the labels."""
    if name not in header:
        raise DataError(f"{path} has no column {name!r}, only {', '.join(header)[:200]}. Check --label-column.")
    labels = header.index(name)
    if labels in (image, split):
        raise DataError(f"{path}: column {name!r} holds images or splits, not labels. Check --label-column.")
    unknown = None if unknown == labels else unknown
    left_out = tuple(other for k, other in enumerate(header) if k not in (image, split, labels, unknown) and other)
    is_valid = split is not None and column_word(header[split]) == IS_VALID
    rest = len(header) if labels == len(header) - 1 else None
    return Columns(image, split, unknown, (labels,), rest, (), left_out, len(header), is_valid)


def _image_column(header: list[str], first: Sequence[Any]) -> int:
    """Return the images' column: the first of the usual names whose cell is a path, any such column, any such name, the first."""
    paths = [k for k in range(len(header)) if looks_like_image(cell_at(first, k)) and not ADDRESS.match(str(first[k]).strip())]
    named = find_column([header[k] for k in paths], IMAGE_COLUMNS)
    if named is not None:
        return paths[named]
    named = find_column(header, IMAGE_COLUMNS)
    return paths[0] if paths else named if named is not None else 0


def _flag_columns(header: list[str], head: list[Row], columns: Sequence[int]) -> list[int]:
    """Return the columns that are classes: those of 1 and 0, and beside them those in which all is unknown."""
    columns = [k for k in columns if not _is_no_class(header[k])]
    flags = [k for k in columns if _is_flag_column(head, k)]
    return [k for k in columns if k in flags or _is_unknown_column(head, k)] if flags else []


def _is_no_class(name: str) -> bool:
    word = column_word(name)
    return word in NO_CLASS or word.startswith("unnamed:") or word.endswith(("_sex", "_gender", "_age"))


def _without_header(head: list[Row], path: Path, rows: LabelRows) -> Columns:
    first = head[0][1]
    image = next((k for k, cell in enumerate(first) if looks_like_image(cell)), 0)
    width = min(len(row) for _, row in head)
    words = (k for k in range(width) if k != image)
    split = next((k for k in words if all(cell_text(row[k]).lower() in SPLIT_NAMES for _, row in head)), None)
    last = max(image, -1 if split is None else split)
    others = [k for k in range(len(first)) if k not in (image, split)]
    flagged = len(others) > 1 and all(len(row) == len(first) for _, row in head)
    if flagged and all(cell_text(row[k]).lower() in FLAGS for _, row in head for k in others):
        if len(rows.listed) != len(others):
            raise DataError(
                f"{path} has {len(others)} columns of 1 and 0 and no header to name their classes. Add one, or give "
                "--classes FILE."
            )
        return Columns(image, split, None, (), None, tuple(zip(others, rows.listed, strict=True)), (), len(first))
    labels = tuple(k for k in range(last) if k not in (image, split))
    return Columns(image, split, None, labels, None if labels else last + 1, (), (), last + 1)


def _last_word(header: Sequence[str], names: Sequence[str]) -> int | None:
    """Return the only column whose last word is one of some names, as in `Finding Labels`."""
    matches = [k for k, cell in enumerate(header) if column_word(cell).rpartition("_")[2] in names]
    return matches[0] if len(matches) == 1 else None


def _is_flag_column(head: list[Row], k: int) -> bool:
    """Return True if the cells that are filled in are 1, 0 and the like, at least mostly, and not all unknown.

    The rest are mistakes, which are reported, so that no class is passed over.
    """
    values = [text for _, row in head if (text := cell_text(cell_at(row, k)).lower())]
    if not any(FLAGS.get(text, NOT_KNOWN) != NOT_KNOWN for text in values):
        return False
    return all(text in FLAGS for text in values) or sum(text in SURE for text in values) * 2 >= len(values)


def _is_unknown_column(head: list[Row], k: int) -> bool:
    """Return True if all cells that are filled in are unknown."""
    values = {text for _, row in head if (text := cell_text(cell_at(row, k)).lower())}
    return bool(values) and values <= {"-1", "-1.0", "?", "unknown"}
