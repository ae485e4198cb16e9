"""WebDataset shards made by others: tar files in which the files of one image have the same name.

    train-000000.tar      0001.jpg  0001.json  {"labels": ["cat", "dog"]}
                          0002.jpg  0002.cls   3
                          0003.jpg  0003.txt   cat, dog

Also compressed, as .tar.gz or .tgz. The images are unpacked beside the manifest.
"""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

from sadcl_core.data.formats import jsonl
from sadcl_core.data.formats.source import Source, label_files
from sadcl_core.data.formats.unpack import as_unpacked, unpack, unpack_folder
from sadcl_core.data.image_files import MAX_BYTES
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import LABEL_COLUMNS, readable
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import plain_path

SUFFIXES = (".tar", ".gz", ".tgz")
PARTS = True
END = 512  # bytes of zeros that a complete file ends with
PADDING = 2**20  # bytes after them, at most, of a compressed one


def recognises(path: Path) -> bool:
    """Return True if a file begins as tar files do; of a compressed one, which may never end, a block is read."""
    with _opened(path) as file:
        block = file.read(tarfile.BLOCKSIZE)
    if any(block) or not block:  # an empty one begins with zeros
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")  # raises
    return True


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb") if path.suffix == ".tar" else cast("IO[bytes]", gzip.open(path))


def read(source: Source) -> Manifest:
    """Unpack the images and read their labels as JSON lines.

    Raises:
        DataError: a shard is damaged, or an image has no labels beside it.
    """
    folder = unpack_folder(source)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    lines: dict[str, list[str]] = {}
    for split, path in label_files(source):
        with readable(path, "a tar file"), _opened(path) as shard:
            for key, files_of_key in read_samples(shard, str(path)):
                lines.setdefault(split, []).extend(_lines(source, path, key, files_of_key))
    for split, own in lines.items():
        files[split] = folder / f"{split or 'labels'}.jsonl"
        files[split].write_text("".join(own), encoding="utf-8")
    if not files:
        raise DataError(f"{source.root} has no shard with images. Name the file.")
    return as_unpacked(jsonl.read(replace(source, root=folder, files=files, parts=(), guess=False)), "webdataset", source)


class _Bounded:
    """A file that refuses to be read in one piece of a size that only a header claims."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """See the class."""
        if not -1 < size <= MAX_BYTES:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return self.file.read(size)


def _end_of(file: IO[bytes]) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(-min(size, END), os.SEEK_END)
    return file.read()


def read_samples(file: IO[bytes], name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the key and the files of each image in a tar file, by extension; they lie one after the other.

    Raises:
        DataError: the file is damaged or cut short.
    """
    last, files = "", dict[str, bytes]()
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Bounded(file)), mode="r:") as shard:
            for member in shard:
                shard.members.clear()  # type: ignore[attr-defined]  # it keeps them all, and a shard may have millions
                stream = shard.extractfile(member) if member.isfile() else None
                if stream is None:
                    continue
                if member.size + sum(map(len, files.values())) > MAX_BYTES:
                    raise tarfile.ReadError(f"{member.name[:60]!r} has more than {MAX_BYTES:,} bytes")
                above, slash, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                key = f"{above}{slash}{stem}"
                if key != last and files:
                    yield last, files
                    files = {}
                last = key
                files[extension.lower()] = stream.read()
        if isinstance(file, gzip.GzipFile):
            if len(file.read(PADDING + 1)) > PADDING:  # raises where it is cut short
                raise tarfile.ReadError("it goes on after its end")
        elif any(_end_of(file)):  # the library takes a file that stops at a header for one that ends there
            raise DataError(f"{name}, after {last[:60]!r} is cut short. Fetch it again.")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        reason = str(error).partition("\n")[0][:100]
        raise DataError(f"{name}, after {last[:60]!r} cannot be read as a tar file ({reason}). Fetch it again.") from None
    if files:
        yield last, files


def _lines(source: Source, path: Path, key: str, files: dict[str, bytes]) -> Iterator[str]:
    """Yield a JSON line for each image of a sample."""
    images = [extension for extension in files if f".{extension}".endswith(EXTENSIONS)]
    if not images:
        return
    where = f"{path}: {key[:100]}"
    labels = _labels(files, where)
    for extension in images:
        name = f"{path.stem}/{plain_path(key)}.{extension}"
        yield json.dumps({"image": unpack(source, name, files[extension]), **labels}) + "\n"


def _labels(files: dict[str, bytes], where: str) -> dict[str, Any]:
    """Return what the files beside an image say of its labels, as a line of `jsonl` does."""
    if "json" in files:
        try:
            content = json.loads(files["json"])
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}.json is not JSON ({str(error)[:100]}). Fetch the shard again.") from None
        content = content if isinstance(content, dict) else {"labels": content}
        if not {"cls", "txt"} & set(files) or any(name in content for name in LABEL_COLUMNS):
            return {name: value for name, value in content.items() if name not in jsonl.IMAGE_KEYS}
    try:
        if "cls" in files:
            return {"labels": [int(number) for number in files["cls"].decode().replace(",", " ").split()]}
        if "txt" in files:
            tags = files["txt"].decode().replace("\n", ",").split(",")
            return {"labels": [tag.strip() for tag in tags if tag.strip()]}
    except ValueError as error:
        raise DataError(f"{where}: its labels cannot be read ({str(error)[:100]}). Fetch the shard again.") from None
    raise DataError(f"{where} has no labels beside it, in a .json, .cls or .txt. Are these shards of labelled images?")
