"""Parquet files of scores: a column per class, a row per image and class, or one column of lists of scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sadcl_core.errors import DataError
from sadcl_core.evaluation.score_files.columns import image_column, score_columns
from sadcl_core.evaluation.score_files.tables import LOOKED_AT, assembled, names, taken_apart
from sadcl_core.evaluation.score_files.values import MAX_CLASSES, ScoreFile, numbered, refuse_bomb

LISTS = 1024  # read at a time


def read_score_parquet(path: Path, *, logits: bool = False) -> ScoreFile:
    """Scores of a Parquet file.

    Raises:
        DataError: it is damaged, claims more than it can hold, or has no column of numbers.
    """
    with taken_apart(path, "Parquet"), pq.ParquetFile(path) as file:
        _refuse_claims(path, file)
        header = list(file.schema_arrow.names)
        batch = next(file.iter_batches(batch_size=LOOKED_AT), None)
        if batch is None or not batch.num_rows:
            raise DataError(f"{path} has no row. Give a row of scores per image.")
        head = list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
        lists = [field.name for field in file.schema_arrow if _is_list(field.type)]
        if lists:
            return _of_lists(path, lists, image_column(header, head), header, logits)
        columns = score_columns(header, head, path)
        named = [header[k] for k in (columns.image, columns.label) if k is not None]
        table = _columns(path, [*named, *(header[k] for k in columns.scores)], named)
        table = table.rename_columns([f"f{header.index(name)}" for name in table.column_names])
        return assembled(path, table, columns, header, logits=logits, place=numbered)


def _of_lists(path: Path, lists: Sequence[str], image: int | None, header: Sequence[str], logits: bool) -> ScoreFile:
    """Scores of the one column of lists, each as long as there are classes."""
    if len(lists) > 1:
        raise DataError(f"{path} has several columns of lists of numbers ({', '.join(lists)[:200]}). Leave that of the scores.")
    column = _list_column(path, lists[0])
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    if (lengths != lengths[0]).any():
        row = int(np.flatnonzero(lengths != lengths[0])[0])
        raise DataError(
            f"{path}, {numbered(row)} has {lengths[row]} scores where the first has {lengths[0]}. Give one per class."
        )
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(lengths), -1)
    images = None if image is None else names(path, _columns(path, [header[image]], [header[image]])[header[image]], numbered)
    return ScoreFile(path, values, logits, None, images)


def _list_column(path: Path, name: str) -> pa.Array:
    """A column of lists, read a few at a time: nothing but reading says how long they are."""
    parts, size = [], 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=LISTS, columns=[name]):
            parts.append(batch.column(0))
            size += batch.nbytes
            refuse_bomb(path, size)
    return pa.chunked_array(parts).combine_chunks()


def _columns(path: Path, wanted: Sequence[str], coded: Sequence[str] = ()) -> pa.Table:
    """Some columns; names stay numbers into a list of them, for a few bytes can repeat a long text without end."""
    with pq.ParquetFile(path, read_dictionary=list(coded)) as file:
        return file.read(columns=list(wanted))


def _refuse_claims(path: Path, file: pq.ParquetFile) -> None:
    """Raise when the file speaks of more columns or numbers than a file of scores of this size has."""
    count = len(file.schema_arrow)
    if count > MAX_CLASSES:
        raise DataError(f"{path} has {count:,} columns, more than {MAX_CLASSES:,}. Save rows of images, not of classes.")
    twice, times = Counter(file.schema_arrow.names).most_common(1)[0] if count else ("", 0)
    if times > 1:
        raise DataError(f"{path} has the column {twice[:200]!r} twice. Rename one of them.")
    # what metadata say of a column is not looked at: Arrow ends the process over damaged ones
    refuse_bomb(path, sum(file.metadata.row_group(k).total_byte_size for k in range(file.metadata.num_row_groups)))
    refuse_bomb(path, 4 * file.metadata.num_rows * file.metadata.num_columns)


def _is_list(kind: pa.DataType) -> bool:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(listed and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)))
