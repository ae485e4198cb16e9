"""WebDataset shards: the images of a manifest in tar files that are read as a stream, from disk or from any address.

    DIR/dataset.json manifest.arrow      what any prepared data set has, and which shard holds how many images
    DIR/train-000000.tar ...             000000012.jpg, 000000012.json, in the order of the manifest's rows

A key is the number of the row, so labels come from the manifest. The JSON beside each image repeats them for others.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.manifest import (
    DESCRIPTION,
    ROWS,
    Manifest,
    Shards,
    Split,
    is_prepared,
    load_description,
    load_manifest,
    parse_description,
)
from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.files import explained, replacing, write_json
from sadcl_core.progress import Progress

MOST = 2000  # images of a shard
FEWEST_SHARDS = 16  # of a split, if it has as many images: loader workers and processes share shards out
ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+:")
Sample = tuple[int, str, bytes]  # row of the manifest, name of the file, its content


def require_webdataset() -> Any:
    """The library.

    Raises:
        MachineError: it is not installed.
    """
    try:
        import webdataset
    except ImportError:
        raise MachineError("Shards need the package webdataset. Install it: pip install 'sadcl[webdataset]'.") from None
    return webdataset


def write_shards(manifest: Manifest, folder: Path, *, progress: Progress | None = None) -> Path:
    """Write every image as it is, split by split, and the manifest beside them; nothing appears unless all is written.

    Raises:
        UsageError: the folder holds other files.
        DataError: an image is gone.
        MachineError: webdataset is missing, or the disk is full.
    """
    require_webdataset()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds other files. Give the shards a folder of their own.")
    drawing = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(drawing, ignore_errors=True)
    try:
        with explained(folder):
            drawing.mkdir(parents=True)
            files = {name: _write_split(manifest, name, drawing, progress) for name in manifest.splits}
            description = replace(manifest.description, shards=Shards("", files))
            Manifest(description, manifest.rows).save(drawing)
            if folder.is_dir():
                folder.rmdir()
            drawing.replace(folder)
    finally:
        shutil.rmtree(drawing, ignore_errors=True)
    return folder


def _write_split(manifest: Manifest, name: str, folder: Path, progress: Progress | None) -> tuple[tuple[str, int], ...]:
    split = manifest.split(name)
    size = max(1, min(MOST, math.ceil(len(split) / FEWEST_SHARDS)))
    first = first_row(split)
    files = []
    for number, start in enumerate(range(0, len(split), size)):
        file, end = f"{_file_name(name)}-{number:06d}.tar", min(start + size, len(split))
        _write_shard(folder / file, split, range(start, end), first)
        files.append((file, end - start))
        if progress is not None:
            progress(first + end, len(manifest))
    return tuple(files)


def _write_shard(path: Path, split: Split, rows: range, first: int) -> None:
    names = split.manifest.classes
    with path.open("wb") as file, require_webdataset().TarWriter(file, encoder=False, mtime=0) as writer:
        for i in rows:
            source = split.path(i)
            try:
                content = source.read_bytes()
            except OSError as error:
                raise DataError(f"{source}: cannot be read ({error.strerror}). Prepare the data again.") from None
            targets = split.targets(i)
            labels = {
                kind: [names[k] for k in (targets == value).nonzero()[0]] for kind, value in (("labels", 1), ("unknown", -1))
            }
            about = json.dumps({"image": split[i], **labels}, ensure_ascii=False).encode()
            writer.write({"__key__": f"{first + i:09d}", source.suffix.lower().lstrip(".") or "jpg": content, "json": about})


def _file_name(split: str) -> str:
    return re.sub(r"[^\w-]+", "-", split) or "images"


def first_row(split: Split) -> int:
    """Row of a split's first image in the manifest; the rows of a split lie together."""
    sizes = split.manifest.split_sizes
    names = list(sizes)
    return sum(sizes[other] for other in names[: names.index(split.name)]) if split.name in sizes else 0


def shards_of(split: Split, count: int) -> list[tuple[str, int]]:
    """The shards that hold the first `count` images of a split."""
    shards = split.manifest.description.shards
    assert shards is not None, "called for shards"
    files = shards.files.get(split.name) or [pair for pairs in shards.files.values() for pair in pairs]
    before = [sum(images for _, images in files[:number]) for number in range(len(files))]
    return [pair for pair, start in zip(files, before, strict=True) if start < count]


def is_address(text: str) -> bool:
    """Whether a text is an address that the library may open, and no path."""
    return bool(ADDRESS.match(text)) and not Path(text).exists()


def open_shards(address: str, prepared: Path) -> tuple[Manifest, str]:
    """The manifest of shards at an address; it is copied into a folder of its name, the images stay where they are.

    Args:
        address: of the folder of shards: https://..., s3://..., pipe:..., whatever the library opens.
        prepared: under which the copy goes.

    Returns:
        The manifest, and a sentence on where it came from.

    Raises:
        DataError: what is there is no description of shards.
        MachineError: the address cannot be opened.
    """
    base = address.removesuffix(DESCRIPTION).rstrip("/") + "/"
    content = _fetch(base + DESCRIPTION)
    description = parse_description(content, base + DESCRIPTION)
    if description.shards is None:
        raise DataError(f"{base} holds no shards. Write them: sadcl prepare-data NAME --shards DIR.")
    folder = prepared / re.sub(r"[^\w.-]+", "-", description.name)
    _refuse_other(folder, base)
    here = replace(description, shards=replace(description.shards, base=base))
    if not is_prepared(folder) or load_description(folder) != here:
        with replacing(folder / ROWS) as temporary:
            temporary.write_bytes(_fetch(base + ROWS))
        document = json.loads(content)
        document["shards"]["base"] = base
        write_json(folder / DESCRIPTION, document)
    return load_manifest(folder), f"shards at {base}, manifest {folder}"


def _refuse_other(folder: Path, base: str) -> None:
    if (folder / DESCRIPTION).is_file():
        shards = load_description(folder).shards
        if shards is None or shards.base != base:
            raise UsageError(f"{folder} is the manifest of other data. Move it away, or work in another folder.")


def _fetch(address: str) -> bytes:
    wds = require_webdataset()
    try:
        with wds.gopen(address) as stream:
            content: bytes = stream.read()
    except (OSError, ValueError, AssertionError) as error:
        raise MachineError(f"{address} cannot be opened ({_said(error)}). Check the address and the network.") from None
    if not content:
        raise MachineError(f"{address} is empty or not there. Check the address.")
    return content


def read_samples(manifest: Manifest, files: list[tuple[str, int]]) -> Iterator[Sample]:
    """The samples of some shards, in their order.

    Raises:
        DataError: a shard is damaged, cut short or holds something else.
        MachineError: a shard cannot be opened.
    """
    shards = manifest.description.shards
    assert shards is not None, "called for shards"
    for name, count in files:
        url = shards.base + name
        seen = 0
        for sample in _open_shard(url):
            seen += 1
            yield _sample(sample, url, len(manifest))
        if seen != count:
            raise DataError(f"{url} holds {seen:,} images and should hold {count:,}: it is cut short. Write or fetch it again.")


def _open_shard(url: str) -> Iterator[dict[str, Any]]:
    wds = require_webdataset()
    from webdataset.tariterators import group_by_keys, tar_file_expander

    try:
        with wds.gopen(url) as stream:
            yield from group_by_keys(tar_file_expander([{"url": url, "stream": stream}]))
    except Exception as error:  # the library passes on whatever tar, a pipe or a file system raises
        raise DataError(f"{url} cannot be read as a shard ({_said(error)}). Check the address, or write it again.") from None


def _said(error: Exception) -> str:
    """The reason in few words; of a command that failed, its exit status."""
    text = " ".join(str(part) for part in error.args[:1]) or type(error).__name__
    status = re.search(r"exit (\d+)", text)
    return f"the command that reads it failed, exit {status[1]}" if status else text[:200]


def _sample(sample: dict[str, Any], url: str, count: int) -> Sample:
    key = str(sample["__key__"])
    extension = next((f".{name}" for name in sample if f".{name}" in EXTENSIONS), None)
    if extension is None or not PurePosixPath(key).name.isdecimal() or not 0 <= int(key) < count:
        raise DataError(f"{url}: sample {key[:60]!r} is not an image of this manifest. Write the shards again.")
    return int(key), f"{url}/{key}{extension}", sample[extension[1:]]
