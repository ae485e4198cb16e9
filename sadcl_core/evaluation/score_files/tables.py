"""From the columns of a table to scores by image and class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from csv import Error as CsvError
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sadcl_core.data.tables import readable
from sadcl_core.errors import DataError
from sadcl_core.evaluation.score_files.columns import ScoreColumns
from sadcl_core.evaluation.score_files.values import ScoreFile

ROWS = 1024  # of a table turned at a time
LOOKED_AT = 20  # rows that the meaning of the columns is found out from
MAX_NAME = 4096  # characters of a path
Place = Callable[[int], str]


def assembled(
    path: Path, table: pa.Table, columns: ScoreColumns, header: Sequence[str], *, logits: bool, place: Place
) -> ScoreFile:
    """The scores of a table.

    Args:
        path: of the file.
        table: its needed columns, called f0, f1, ... by their numbers.
        columns: what each is.
        header: names of all columns, blank where there are none.
        logits: they are logits.
        place: says where a row is.

    Raises:
        DataError: a name is missing, or an image and a class have no score, or several.
    """
    scores = floats([table[f"f{k}"] for k in columns.scores])
    images = None if columns.image is None else names(path, table[f"f{columns.image}"], place)
    if columns.label is not None and images is not None:
        return _by_image(path, images, names(path, table[f"f{columns.label}"], place), scores[:, 0], logits)
    classes = tuple(header[k] for k in columns.scores)
    return ScoreFile(path, scores, logits, classes if any(classes) else None, images, place=place)


def floats(columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[Any]:
    """(N, K), NaN where there is no number; float32 where all columns are no finer."""
    single = all(pa.types.is_float32(column.type) or pa.types.is_float16(column.type) for column in columns)
    values = np.empty((len(columns[0]), len(columns)), np.float32 if single else np.float64)
    numbers = [(column if single else pc.cast(column, pa.float64())).to_numpy() for column in columns]
    for start in range(0, len(values), ROWS):  # so few that columns become rows in the processor's cache
        values[start : start + ROWS] = np.stack([column[start : start + ROWS] for column in numbers]).T
    return values


def names(path: Path, column: pa.ChunkedArray, place: Place) -> tuple[str, ...]:
    """The texts in a column, none of them longer than paths are.

    Raises:
        DataError: one is missing or far too long.
    """
    coded = column if pa.types.is_dictionary(column.type) else column.cast(pa.string()).dictionary_encode()
    if coded.null_count:
        row = int(np.flatnonzero(coded.is_null().to_numpy())[0])
        raise DataError(f"{path}, {place(row)} names no image or class. Fill it in, or leave the row out.")
    found: list[str] = []
    for chunk in coded.chunks:
        if (pc.max(pc.binary_length(chunk.dictionary.cast(pa.string()))).as_py() or 0) > MAX_NAME:
            raise DataError(f"{path} has a name of more than {MAX_NAME:,} characters. Check the columns of images and classes.")
        known = [str(name).strip() for name in chunk.dictionary.to_pylist()]
        found.extend(known[code] for code in chunk.indices.to_pylist())
    return tuple(found)


def _by_image(path: Path, images: Sequence[str], labels: Sequence[str], scores: npt.NDArray[Any], logits: bool) -> ScoreFile:
    """One row per image, from one row per image and class; each pair must be there once."""
    row_of = {name: k for k, name in enumerate(dict.fromkeys(images))}
    column_of = {name: k for k, name in enumerate(dict.fromkeys(labels))}
    rows, columns = np.array([row_of[name] for name in images]), np.array([column_of[name] for name in labels])
    places = rows * len(column_of) + columns
    order = np.argsort(places, kind="stable")
    again = np.flatnonzero(np.diff(places[order]) == 0)
    if len(again):
        row = int(order[again + 1].min())
        raise DataError(f"{path}: image {images[row][:200]!r} has two scores of {labels[row][:200]!r}. Leave one out.")
    if len(places) < len(row_of) * len(column_of):
        rare = int(np.bincount(columns).argmin())  # each pair is there at most once, so this class lacks an image
        lacking = set(range(len(row_of))) - set(rows[columns == rare].tolist())
        image, label = list(row_of)[min(lacking)], list(column_of)[rare]
        raise DataError(
            f"{path}: image {image[:200]!r} has no score of {label[:200]!r}. Give the score of every class, not only of the best."
        )
    found = tuple(row_of)
    by_image = scores[order].reshape(len(row_of), len(column_of))
    return ScoreFile(path, by_image, logits, tuple(column_of), found, place=lambda row: f"image {found[row][:200]!r}")


@contextmanager
def taken_apart(path: Path, kind: str) -> Iterator[None]:
    """Whatever Arrow or the csv module say of a damaged file, as one sentence.

    Raises:
        DataError: they say something.
    """
    with readable(path, kind):
        try:
            yield
        except (pa.ArrowException, CsvError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk; Arrow's own have no number
                raise
            raise ValueError(str(error).replace("\n", " ")) from None
