"""Parquet files that hold the images themselves, as the Hugging Face hub has them.

    data/train-00000-of-00002.parquet     image: {bytes, path}    labels: [0, 3]

The other columns are read as those of any table: a list of numbers or names, a vector of 1 and 0, a column per class. Names of
classes are in the metadata of the schema. The images are unpacked beside the manifest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sadcl_core.data.formats import table
from sadcl_core.data.formats.source import Source, label_files
from sadcl_core.data.formats.unpack import read_unpacked, unpack, unpack_folder
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import IMAGE_COLUMNS, find_column, readable
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import plain_path

SUFFIXES = (".parquet",)
PARTS = True
MOST = sys.maxsize
DEEPER = ("default/*/*.parquet",)  # as the hub converts every data set
OPTIONS = table.OPTIONS
BATCH = 256  # rows whose images are in memory


def recognises(path: Path) -> bool:
    """Return True if a column holds images."""
    return any(_is_bytes(field.type) for field in pq.read_schema(path))


def read(source: Source) -> Manifest:
    """Unpack the images and read the other columns as a table.

    Raises:
        DataError: a file is damaged, or a row has no image, or several.
    """
    folder = unpack_folder(source)
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pq.ParquetWriter] = {}
    files: dict[str, Path] = {}
    first: pa.Schema | None = None
    try:
        for number, (split, path) in enumerate(label_files(source)):
            with readable(path, "Parquet"), pq.ParquetFile(path) as content:
                first = first or content.schema_arrow
                if {*content.schema_arrow.names} != {*first.names}:
                    more = ", ".join(sorted({*content.schema_arrow.names} ^ {*first.names}))[:200]
                    raise DataError(
                        f"{path} and the files before it differ in the columns {more}. Give files with the same ones."
                    )
                if table.class_names(content.schema_arrow) != table.class_names(first):
                    raise DataError(f"{path} lists other classes than the files before it. Use files of one data set.")
                for batch in _without_images(content, path, f"{split or 'images'}/{number:03d}", source):
                    if split not in tables:
                        files[split] = folder / f"{split or 'labels'}.parquet"
                        tables[split] = pq.ParquetWriter(files[split], batch.schema)
                    tables[split].write_batch(batch)
    finally:
        for writer in tables.values():
            writer.close()
    if not files:
        raise DataError(f"{source.root} has no Parquet file with images. Name the file.")
    return read_unpacked(source, "huggingface", files, table.read, image_column="")


def image_columns(schema: pa.Schema) -> list[int]:
    """Return the numbers of the columns of images, files as bytes, alone or beside their path: one with a usual name first."""
    holds = [k for k, field in enumerate(schema) if _is_bytes(field.type) and not _is_list(field.type)]
    named = find_column([schema.field(k).name for k in holds], IMAGE_COLUMNS)
    return holds if named is None else [holds[named], *holds[:named], *holds[named + 1 :]]


def _image_column(schema: pa.Schema, path: Path, chosen: str) -> int:
    """Return the number of the column of images, which a person may have chosen.

    Raises:
        DataError: no column holds one image a row, or it cannot be decided which does.
    """
    holds = image_columns(schema)
    names = [schema.field(k).name for k in holds]
    if not holds:
        raise DataError(f"{path} has no column of one image a row. Write it with an image in each row.")
    if chosen not in ("", *names) or (not chosen and len(holds) > 1 and find_column(names[:1], IMAGE_COLUMNS) is None):
        raise DataError(f"{path} has the columns of images {', '.join(names)[:200]}. Say which: --image-column NAME.")
    return holds[names.index(chosen) if chosen else 0]


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or (_is_list(kind) and _is_bytes(kind.value_type)))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _without_images(file: pq.ParquetFile, path: Path, prefix: str, source: Source) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file with the name of the unpacked image as the column `image`, and without other columns of bytes."""
    image = _image_column(file.schema_arrow, path, source.reading.image_column)
    others = [k for k, field in enumerate(file.schema_arrow) if field.name != "image" and not _is_bytes(field.type)]
    row = 0
    for batch in table.parquet_batches(file, path, BATCH):
        names = []
        for cell in batch.column(image).to_pylist():
            row += 1
            names.append(_unpack_cell(cell, f"{prefix}-{row:06d}", f"{path}, row {row}", source))
        schema = pa.schema([("image", pa.string()), *(batch.schema.field(k) for k in others)], batch.schema.metadata)
        yield pa.RecordBatch.from_arrays([pa.array(names), *(batch.column(k) for k in others)], schema=schema)


def _unpack_cell(cell: Any, name: str, where: str, source: Source) -> str:
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if not content:
        raise DataError(
            f"{where} holds no image{f', only its path {path[:100]}' if path else ''}. Fetch the file with its images."
        )
    stem = plain_path(path or "").rpartition("/")[2]
    return unpack(source, f"{name}-{stem}" if stem else name, content)
