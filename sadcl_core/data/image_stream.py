"""The images that a user names, as one lazy stream: files, folders, patterns, lists, tables, shards, and addresses of these.

Nothing is held but the names in one folder; the content of an image is fetched by the thread that decodes it.
"""

from __future__ import annotations

import codecs
import glob
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from sadcl_core.data.images import EXTENSIONS, NamedImage
from sadcl_core.data.remote import GLOB, files_under, is_remote, is_remote_folder, local_copy, open_binary, read_remote
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runtime.files import exists

STDIN = "-"
LIST = "@"  # before the name of a list of names
LISTS = (".txt", ".lst")
TABLES = (".csv", ".tsv", ".parquet")
SHARDS = (".tar",)
KINDS = (*EXTENSIONS, *TABLES, *SHARDS)  # of the files that a pattern stands for
CONTAINERS = (".parquet", *SHARDS)  # files that hold images themselves
MOST_OF_A_NAME = 1024  # bytes; a longer cell is the image itself
BATCH = 32  # rows of a table whose images are in memory
BLOCK = 1 << 16  # bytes of a list that are read at a time


@dataclass(frozen=True)
class ImageStream:
    """Images in a fixed order, read again each time it is iterated.

    Attributes:
        places: files, folders and addresses, one after the other; `-` is the standard input, `@FILE` a list.
        recursive: folders are searched to the bottom.
        column: of a table, with the paths or the images; found by its name when empty.
        part: (i, n): only the i-th of n parts, counted from 1. It takes every n-th file where all are shards or Parquet files,
            else every n-th image.
    """

    places: tuple[str, ...]
    recursive: bool = True
    column: str = ""
    part: tuple[int, int] = (1, 1)

    def __iter__(self) -> Iterator[NamedImage]:
        """Yield the images.

        Raises:
            DataError: a list, a table or a shard cannot be read, or a folder holds no image.
        """
        number, parts = self.part
        files = [file for place in self.places for file in self._matches(place)] if parts > 1 else []
        if len(files) >= parts > 1 and all(file.lower().endswith(CONTAINERS) for file in files):
            return chain.from_iterable(map(self._read, files[number - 1 :: parts]))
        images = chain.from_iterable(self._read(file) for place in self.places for file in self._matches(place))
        return islice(images, number - 1, None, parts)

    def count(self) -> int | None:
        """Return the number of images, None where they would have to be read to be counted."""
        total = 0
        for file in (file for place in self.places for file in self._matches(place)):
            if file == STDIN or file.startswith(LIST) or file.lower().endswith((*LISTS, *TABLES, *SHARDS)) or is_remote(file):
                return None
            total += sum(1 for _ in self._read(file)) if _is_folder(file) else 1
        number, parts = self.part
        return len(range(number - 1, total, parts))

    def _matches(self, place: str) -> Iterable[str]:
        """Return the files and folders that a pattern stands for; any other place as it is."""
        if place == STDIN or not GLOB.search(place) or (exists(place.removeprefix(LIST)) and not is_remote(place)):
            return (place,)
        if is_remote(place):
            folders = "**" not in place
            return (file for file in files_under(place) if file.lower().endswith(KINDS) or (folders and is_remote_folder(file)))
        matches = sorted(glob.glob(place, recursive=True))  # noqa: PTH207 # also absolute ones
        return [path for path in matches if path.lower().endswith(KINDS) or (_is_folder(path) and "**" not in place)]

    def _read(self, place: str) -> Iterator[NamedImage]:
        suffix = os.path.splitext(place)[1].lower()  # noqa: PTH122 # also of addresses
        if place == STDIN:
            return _listed(_split(sys.stdin.buffer, "the standard input"), "")
        if place.startswith(LIST) and not exists(place):
            return _read_list(place.removeprefix(LIST))
        if suffix in LISTS and not any(exists(place.removesuffix(suffix) + image) for image in EXTENSIONS):  # or it holds tags
            return _read_list(place)
        if suffix == ".parquet":
            return _read_parquet(place, self.column)
        if suffix in TABLES:
            return _read_table(place, self.column)
        if suffix in SHARDS:
            return _read_shard(place)
        if is_remote(place):
            return self._read_remote(place)
        return self._read_folder(place) if _is_folder(place) else iter((NamedImage(place, Path(place)),))

    def _read_folder(self, folder: str) -> Iterator[NamedImage]:
        from sadcl_core.data.formats.walk import images_under

        names = (name for name in images_under(Path(folder)) if self.recursive or "/" not in name)
        path = None
        for path in (Path(folder, name) for name in names):
            yield NamedImage(str(path), path)
        if path is None:
            raise DataError(f"{folder} holds no image ({', '.join(EXTENSIONS)}). Give a folder with images.")

    def _read_remote(self, address: str) -> Iterator[NamedImage]:
        if address.lower().endswith(EXTENSIONS) or not is_remote_folder(address):
            yield _named(address)
            return
        file = None
        for file in files_under(address, recursive=self.recursive):
            if file.lower().endswith(EXTENSIONS):
                yield _named(file)
        if file is None:
            raise DataError(f"{address} holds no image ({', '.join(EXTENSIONS)}). Give a folder with images.")


def open_images(
    places: Sequence[str | Path], *, recursive: bool = True, column: str = "", part: tuple[int, int] = (1, 1)
) -> ImageStream:
    """Return the images at places as a stream for `Model.iter_predict`; places on the disk are looked at, no image is read.

    Args:
        places: files, folders, patterns such as `photos/**/*.jpg`, `@FILE` or a .txt with a name a line, `-` for names on the
            standard input, .csv, .tsv and .parquet with a column of paths, addresses or images, shards of WebDataset (.tar), and
            addresses of these that fsspec opens: s3://, gs://, hf://, https://. Names in lists and tables start from the folder
            of the list, or where there is no such file from the working folder. With NUL bytes in a list they end the names.
        recursive: search folders to the bottom.
        column: of tables; by default the one whose name says so.
        part: (i, n) for the i-th of n machines, from 1.

    Raises:
        DataError: a path does not exist, a pattern matches nothing, or a folder holds no image.
        UsageError: there is no such part.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.jpg", "a.jpg", "notes.md"):
        ...     _ = (folder / name).write_bytes(b"")
        >>> [image.name.rpartition("/")[2] for image in open_images([folder])]
        ['a.jpg', 'b.jpg']
    """
    number, parts = part
    if not 1 <= number <= parts:
        raise UsageError(f"--part {number}/{parts}: there is no such part. Count from 1/{parts} to {parts}/{parts}.")
    stream = ImageStream(tuple(map(str, places)), recursive, column, part)
    for place in stream.places:
        _check(place, stream)
    return stream


def _check(place: str, stream: ImageStream) -> None:
    """Raise DataError if nothing is at a place on the disk."""
    if place == STDIN or is_remote(place):
        return
    if _is_folder(place):
        next(iter(ImageStream((place,), stream.recursive)))
    elif not exists(place) and not exists(place.removeprefix(LIST)):
        if not GLOB.search(place):
            raise DataError(f"{place} does not exist. Check the path.")
        if not stream._matches(place):
            raise DataError(f"Nothing matches {place}. Check the pattern.")


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 # pathlib raises for a name that is too long


def _named(text: str, above: str = "") -> NamedImage:
    """Return the image of an address, or of a name in a list or a table in the folder `above`."""
    address = text if is_remote(text) else f"{above}/{text}"
    if is_remote(address):
        return NamedImage(text, partial(read_remote, address))
    beside = Path(above, text)
    return NamedImage(text, beside if exists(beside) else Path(text))


def _unnamed(where: str) -> NamedImage:
    """Return an image that cannot be read, for a row without one."""

    def fetch() -> bytes:
        raise DataError(f"{where}: no image in this row.")

    return NamedImage(where, fetch)


def _above(place: str) -> str:
    """Return the folder of a file or an address."""
    return os.path.split(place)[0]


def _split(file: IO[bytes], name: str) -> Iterator[str]:
    """Yield the names of a list, between line ends, or between NUL bytes where its first block holds one."""
    rest, end, first = b"", b"\n", True
    while block := file.read1(BLOCK) if isinstance(file, io.BufferedReader) else file.read(BLOCK):
        if first and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{name} is UTF-16. Save it as UTF-8.")
        if first:
            end, block = (b"\0" if b"\0" in block else b"\n"), block.removeprefix(codecs.BOM_UTF8)
        first = False
        *names, rest = (rest + block).split(end)
        yield from (os.fsdecode(text if end == b"\0" else text.removesuffix(b"\r")) for text in names)
    yield os.fsdecode(rest)


def _listed(names: Iterable[str], above: str) -> Iterator[NamedImage]:
    return (_named(name, above) for name in names if name.strip())


def _read_list(place: str) -> Iterator[NamedImage]:
    with open_binary(place) as file:
        yield from _listed(_split(file, place), _above(place))


def _read_table(place: str, column: str) -> Iterator[NamedImage]:
    from sadcl_core.data.formats.table import SNIFFED, csv_rows, find_layout
    from sadcl_core.data.tables import IMAGE_COLUMNS, cell_at, cell_text, find_column, looks_like_image, read_lines

    with local_copy(place) as path:
        delimiter, has_header = find_layout(line for _, line in islice(read_lines(path), SNIFFED)) or (",", False)
        rows = csv_rows(path, delimiter)
        first = next(rows, (0, ()))
        header = [cell_text(cell) for cell in first[1]]
        has_header |= column in header or find_column(header, IMAGE_COLUMNS) is not None
        if has_header:
            index = _find(header, column, place)
        else:
            rows = chain([first], rows)
            index = next((k for k, cell in enumerate(header) if looks_like_image(cell)), -1)
            if index < 0 or column:
                raise DataError(f"{place} has no column of images{f' {column!r}' if column else ''}. Name it in a header.")
        for number, row in rows:
            name = cell_text(cell_at(row, index))
            yield _named(name, _above(place)) if name else _unnamed(f"{place}, row {number}")


def _find(names: Sequence[str], column: str, place: str, likely: int | None = None) -> int:
    """Return the number of the column of images."""
    from sadcl_core.data.tables import IMAGE_COLUMNS, find_column
    from sadcl_core.registry import suggest

    if column:
        if column not in names:
            raise DataError(f"{place} has no column {column!r}. {suggest(column, names)}")
        return list(names).index(column)
    found = find_column(names, IMAGE_COLUMNS) if likely is None else likely
    if found is None:
        raise DataError(f"{place} has no column such as image or path. Say which with --column.")
    return found


def _read_parquet(place: str, column: str) -> Iterator[NamedImage]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sadcl_core.data.formats.huggingface import image_columns

    row = 0
    with open_binary(place) as file:
        try:
            with pq.ParquetFile(file, pre_buffer=False, buffer_size=BLOCK) as content:
                schema = content.schema_arrow
                name = schema.names[_find(schema.names, column, place, next(iter(image_columns(schema)), None))]
                for batch in content.iter_batches(BATCH, columns=[name]):
                    batch.validate(full=True)
                    for cell in batch.column(0).to_pylist():
                        row += 1
                        yield _of_cell(cell, f"{place}#{row}", _above(place))
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise DataError(f"{place}, after row {row} cannot be read as Parquet ({str(error)[:200]}). Fetch it again.") from None


def _of_cell(cell: Any, where: str, above: str) -> NamedImage:
    """Return the image of a cell: a path, the content of a file, or both as the Hugging Face hub stores them."""
    path = ""
    if isinstance(cell, dict):
        path, cell = str(cell.get("path") or ""), cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes) and len(cell) <= MOST_OF_A_NAME and cell.lower().endswith(tuple(map(str.encode, EXTENSIONS))):
        cell = os.fsdecode(cell)
    if isinstance(cell, bytes) and cell:
        return NamedImage(path or where, cell)
    return _named(cell, above) if isinstance(cell, str) and cell.strip() else _unnamed(where)


def _read_shard(place: str) -> Iterator[NamedImage]:
    from sadcl_core.data.formats.webdataset import read_members

    with open_binary(place) as file:
        for name, content in read_members(file, place):
            if f".{name.rpartition('/')[2].partition('.')[2].lower()}" in EXTENSIONS:  # seg.png is a mask
                yield NamedImage(f"{place}/{name}", content)
