"""Parquet files that hold the images themselves, as the Hugging Face hub has them.

    data/train-00000-of-00002.parquet     image: {bytes, path}    labels: [0, 3]

The other columns are read as those of any table: a list of numbers or names, a vector of 1 and 0, a column per class. Names of
classes are in the metadata of the schema. The images are unpacked beside the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sadcl_core.data.formats import table
from sadcl_core.data.formats.source import Source, label_files
from sadcl_core.data.formats.unpack import as_unpacked, unpack, unpack_folder
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import IMAGE_COLUMNS, find_column, readable
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import plain_path

SUFFIXES = (".parquet",)
PARTS = True
OPTIONS = table.OPTIONS
BATCH = 256  # rows whose images are in memory


def recognises(path: Path) -> bool:
    """Return True if a column holds images."""
    return image_column(pq.read_schema(path)) is not None


def read(source: Source) -> Manifest:
    """Unpack the images and read the other columns as a table.

    Raises:
        DataError: a file is damaged, or a row has no image.
    """
    folder = unpack_folder(source)
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pq.ParquetWriter] = {}
    files: dict[str, Path] = {}
    try:
        for number, (split, path) in enumerate(label_files(source)):
            with readable(path, "Parquet"), pq.ParquetFile(path) as content:
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
    return as_unpacked(table.read(replace(source, root=folder, files=files, parts=(), guess=False)), "huggingface", source)


def image_column(schema: pa.Schema) -> int | None:
    """Return the number of the column of images: files as bytes, alone or beside their path."""
    holds = [k for k, field in enumerate(schema) if _is_bytes(field.type)]
    named = find_column([schema.field(k).name for k in holds], IMAGE_COLUMNS)
    return holds[named or 0] if holds else None


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _without_images(file: pq.ParquetFile, path: Path, prefix: str, source: Source) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file with the name of the unpacked image instead of its content."""
    image = image_column(file.schema_arrow)
    if image is None:
        raise DataError(f"{path} has no column of images. Name files of one data set.")
    row = 0
    try:
        for batch in file.iter_batches(BATCH):
            batch.validate(full=True)  # or texts that are no UTF-8 raise later
            names = []
            for cell in batch.column(image).to_pylist():
                row += 1
                names.append(_unpack_cell(cell, f"{prefix}-{row:06d}", f"{path}, row {row}", source))
            schema = batch.schema.set(image, pa.field("file_name", pa.string()))
            columns = [pa.array(names) if k == image else column for k, column in enumerate(batch.columns)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}, after row {row} cannot be read as Parquet ({str(error)[:200]}). Fetch it again.") from None


def _unpack_cell(cell: Any, name: str, where: str, source: Source) -> str:
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if not content:
        raise DataError(
            f"{where} holds no image{f', only its path {path[:100]}' if path else ''}. Fetch the file with its images."
        )
    stem = plain_path(path or "").rpartition("/")[2]
    return unpack(source, f"{name}-{stem}" if stem else name, content)
