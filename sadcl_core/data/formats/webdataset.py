"""WebDataset shards made by others: tar files in which the files of one image have the same name.

    train-000000.tar      0001.jpg  0001.json  {"labels": ["cat", "dog"]}
                          0002.jpg  0002.cls   3
                          0003.jpg  0003.txt   cat, dog
                          0004.jpg  0004.npy   [1, 1, 0]

Also compressed, as .tar.gz, .tar.bz2 or .tar.xz. The names of an image and of its labels may go on behind a dot (0001.image.jpg,
0001.labels.json), and folders in a shard may be called after the splits. The images are unpacked beside the manifest.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from sadcl_core.data.formats import jsonl
from sadcl_core.data.formats.cells import find_separator, is_list, labels_in
from sadcl_core.data.formats.source import Source, label_files, split_above
from sadcl_core.data.formats.unpack import read_unpacked, unpack, unpack_folder
from sadcl_core.data.image_files import MAX_BYTES
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS, decoded, readable
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import plain_path
from sadcl_core.runtime.words import counted

COMPRESSED: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".tgz": gzip.open,
    ".bz2": bz2.open,
    ".tbz2": bz2.open,
    ".xz": lzma.open,
    ".txz": lzma.open,
}
SUFFIXES = (".tar", *COMPRESSED)
PARTS = True
MOST = sys.maxsize
OPTIONS = jsonl.OPTIONS
END = 512  # bytes of zeros that a complete file ends with
PADDING = 2**20  # bytes after them, at most, of a compressed one
LABELS = ("json", "cls", "txt", "npy")  # extensions of files with labels, the first that is there
PICKLED = ("pyd", "pickle", "pkl", "pth", "pt")


@dataclass
class _Shard:
    """The content of a tar file, by the names of its files without extension.

    Attributes:
        images: their paths on this disk.
        labels: content by extension.
        others: extensions of other files.
    """

    images: dict[str, str] = field(default_factory=dict)
    labels: dict[str, dict[str, bytes]] = field(default_factory=dict)
    others: dict[str, None] = field(default_factory=dict)


def recognises(path: Path) -> bool:
    """Return True if a file begins as tar files do; of a compressed one, which may never end, a block is read."""
    with _opened(path) as file:
        block = file.read(tarfile.BLOCKSIZE)
    if any(block) or not block:  # an empty one begins with zeros
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")  # raises
    return True


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb") if path.suffix == ".tar" else cast("IO[bytes]", COMPRESSED[path.suffix.lower()](path))


def read(source: Source) -> Manifest:
    """Unpack the images and read their labels as JSON lines.

    Raises:
        DataError: a shard is damaged, or no image has labels beside it.
    """
    folder = unpack_folder(source)
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[tuple[str, Any, str]]] = {}  # by split: image, labels, and place for errors
    others: dict[str, None] = {}
    left_out: list[str] = []
    for split, path in label_files(source):
        with readable(path, "a tar file"), _opened(path) as file:
            shard = _unpacked(file, path, source)
            others |= shard.others
            alone: dict[str, list[str]] = {}
            for stem in shard.labels.keys() - shard.images.keys():
                alone.setdefault(_key(stem), []).append(stem)
            for stem, image in shard.images.items():
                labels = _labels_of(stem, shard, alone)
                if labels is None:
                    left_out.append(f"{path}: {stem[:100]}")
                elif labels:
                    where = f"{path}: {stem[:100]}"
                    rows.setdefault(split or split_above(stem), []).append((image, _read_labels(labels, where), where))
    if not rows:
        raise _without_labels(source, left_out, others)
    texts = [labels for own in rows.values() for _, labels, _ in own if isinstance(labels, str) and not is_list(labels)]
    between = source.reading.delimiter or find_separator(
        [text for text in texts if text], str(next(iter(label_files(source)))[1])
    )
    files: dict[str, Path] = {}
    for split, own in rows.items():
        files[split] = folder / f"{split or 'labels'}.jsonl"
        with files[split].open("w", encoding="utf-8") as lines:
            for image, labels, where in own:
                named = {"labels": labels_in(labels, between, where)} if isinstance(labels, str) else labels
                lines.write(json.dumps({"image": image, **named}) + "\n")
    notes = [f"labels in .cls and .txt files stand between {between!r}"] if between and texts else []
    notes += [f"left out {counted(len(left_out), 'image')} without labels, such as {left_out[0]}"] if left_out else []
    return read_unpacked(source, "webdataset", files, jsonl.read, notes=notes, delimiter="")


def _unpacked(file: IO[bytes], path: Path, source: Source) -> _Shard:
    """Unpack the images of a shard, and return where they are, and the content of the files with labels."""
    inside = path.is_relative_to(source.root)
    folder = (path.relative_to(source.root) if inside else Path(path.name)).with_suffix("").as_posix()
    shard = _Shard()
    for name, content in read_members(file, str(path)):
        stem, _, extension = name.rpartition(".")
        extension = extension.lower()
        if f".{extension}" in EXTENSIONS:
            shard.images[stem] = unpack(source, f"{folder}/{plain_path(stem)}.{extension}", content)
        elif extension in LABELS:
            shard.labels.setdefault(stem, {})[extension] = content
        else:
            shard.others[extension] = None
    return shard


def _labels_of(stem: str, shard: _Shard, alone: Mapping[str, Sequence[str]]) -> dict[str, bytes] | None:
    """Return the files with the labels of an image, as content by extension; empty for a further picture, such as a mask.

    They have the image's name, or else its name up to the first dot, perhaps with another word behind that. `alone` holds the
    names of labels without an image of that name, by the part up to the first dot.

    Returns:
        None where there are no labels.
    """
    key = _key(stem)
    if stem in shard.labels:
        return shard.labels[stem]
    if any(main in shard.images for main in (key, *(f"{key}.{word}" for word in IMAGE_COLUMNS))) and not _is_main(stem, key):
        return {}
    stems = alone.get(key, ())
    return shard.labels[stems[0]] if len(stems) == 1 else None


def _key(stem: str) -> str:
    above, slash, base = stem.rpartition("/")
    return f"{above}{slash}{base.partition('.')[0]}"


def _is_main(stem: str, key: str) -> bool:
    """Return True if the name of a picture says that it is the image itself."""
    return stem == key or stem.removeprefix(f"{key}.").lower() in IMAGE_COLUMNS


def _read_labels(files: Mapping[str, bytes], where: str) -> Any:
    """Return the labels in the files beside an image: as a text, or as an object like a line of `jsonl`."""
    try:
        content = json.loads(files["json"]) if "json" in files else None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}.json is not JSON ({str(error)[:100]}). Fetch the shard again.") from None
    if isinstance(content, dict) and (len(files) == 1 or any(name in content for name in LABEL_COLUMNS)):
        return {name: value for name, value in content.items() if name not in jsonl.IMAGE_KEYS}
    if content is not None and not isinstance(content, dict):
        return {"labels": content}
    try:
        if text := files.get("cls", files.get("txt")):
            return decoded(text).strip()
        return {"labels": np.load(io.BytesIO(files["npy"]), allow_pickle=False).ravel().tolist()} if "npy" in files else ""
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise DataError(
            f"{where}: its labels cannot be read ({str(error)[:100]}). Fetch the shard again, or name its --encoding: cp1252."
        ) from None


def _without_labels(source: Source, images: Sequence[str], others: Mapping[str, None]) -> DataError:
    """Return the error for shards without labels of images."""
    path = label_files(source)[0][1]
    if not images:
        return DataError(f"{path} holds no image. Name the file with the images.")
    pickled = next((extension for extension in PICKLED if extension in others), "")
    hint = (
        f"Those in .{pickled} files are Python objects, which are not read: write them as .json or .npy"
        if pickled
        else "If it is an archive of a folder, unpack it and name the folder"
    )
    return DataError(f"{images[0]} has no labels beside it, in a .json, .cls, .txt or .npy of the same name. {hint}.")


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


def read_members(file: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of each file in a tar file, but for hidden ones, as macOS writes beside each.

    Raises:
        DataError: the file is damaged or cut short.
    """
    last = ""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Bounded(file)), mode="r:") as shard:
            for member in shard:
                shard.members.clear()  # type: ignore[attr-defined]  # it keeps them all, and a shard may have millions
                stream = shard.extractfile(member) if member.isfile() else None
                if stream is None or member.name.rpartition("/")[2].startswith("."):
                    continue
                if member.size > MAX_BYTES:
                    raise tarfile.ReadError(f"{member.name[:60]!r} has more than {MAX_BYTES:,} bytes")
                last = member.name.removeprefix("./")
                yield last, stream.read()
        if not isinstance(file, (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile)):
            if any(_end_of(file)):  # the library takes a file that stops at a header for one that ends there
                raise DataError(f"{name}, after {last[:60]!r} is cut short. Fetch it again.")
        elif len(file.read(PADDING + 1)) > PADDING:  # raises where it is cut short
            raise tarfile.ReadError("it goes on after its end")
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise DataError(f"{name}, after {last[:60]!r} cannot be read as a tar file ({reason}). Fetch it again.") from None
