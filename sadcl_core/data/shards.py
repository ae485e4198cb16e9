"""WebDataset shards: the images of a manifest in tar files that are read as a stream, from disk or from any address.

    DIR/dataset.json manifest.arrow      as of any prepared data set, with the number of images in each shard
    DIR/train-000000.tar ...             000000012.jpg, 000000012.json, in the order of the manifest's rows

A key is the number of the row, so labels come from the manifest. The JSON beside each image repeats them for other programs.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from sadcl_core.data.manifest import (
    DESCRIPTION,
    ROWS,
    WEB,
    Manifest,
    Shards,
    is_prepared,
    load_description,
    load_manifest,
    parse_description,
)
from sadcl_core.data.split import Split, spaced
from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.runtime.files import explained, replacing, safe_name, write_json
from sadcl_core.runtime.progress import Progress

FEWEST_SHARDS = 16  # of a split, if it has as many images: loader workers and processes divide them among each other
ADDRESS = re.compile(r"^(pipe:|file:|[a-zA-Z][a-zA-Z0-9+.-]+://)")


@dataclass(frozen=True)
class Shard:
    """A tar file: its name, the row of its first image in the manifest, and its number of images."""

    name: str
    first: int
    count: int


Sample = tuple[int, str, bytes]  # row of the manifest, name of the file, its content


def require_webdataset() -> Any:
    """Import the library.

    Raises:
        MachineError: it is not installed.
    """
    try:
        import webdataset
    except ImportError:
        raise MachineError("Shards need the package webdataset. Install it: pip install 'sadcl[webdataset]'.") from None
    return webdataset


def refuse_used(folder: Path) -> None:
    """Raise UsageError if a folder for new shards is a file, or holds other files.

    Raises:
        UsageError: shards need a folder of their own.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds other files. Give the shards a folder of their own.")


def write_shards(manifest: Manifest, folder: Path, *, most: int = 2000, progress: Progress | None = None) -> Path:
    """Write every image as it is, split by split, and the manifest beside them; nothing appears unless all is written.

    Args:
        manifest: whose images are written.
        folder: new or empty.
        most: images of a shard; a split with enough images has 16 shards at least.
        progress: called with images written and images in all.

    Returns:
        The folder.

    Raises:
        UsageError: the folder holds other files.
        DataError: an image cannot be read.
        MachineError: webdataset is missing, or the disk is full.
    """
    require_webdataset()
    refuse_used(folder)
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with explained(folder):
            unfinished.mkdir(parents=True)
            files = {name: _write_split(manifest.split(name), unfinished, most, progress) for name in manifest.splits}
            Manifest(replace(manifest.description, shards=Shards("", files)), manifest.rows).save(unfinished)
            if folder.is_dir():
                folder.rmdir()
            unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _write_split(split: Split, folder: Path, most: int, progress: Progress | None) -> tuple[tuple[str, int], ...]:
    """Write the shards of a split; return their names and numbers of images."""
    size = max(1, min(most, math.ceil(len(split) / FEWEST_SHARDS)))
    first = first_row(split)
    stem = re.sub(r"[^\w-]+", "-", split.name) or "images"
    while (folder / f"{stem}-000000.tar").exists():  # of a split whose name is spelled alike
        stem += "-"
    files = []
    for number, start in enumerate(range(0, len(split), size)):
        file, end = f"{stem}-{number:06d}.tar", min(start + size, len(split))
        with (folder / file).open("wb") as stream, require_webdataset().TarWriter(stream, encoder=False, mtime=0) as writer:
            for index in range(start, end):
                writer.write({"__key__": f"{first + index:09d}", **_encode(split, index)})
        files.append((file, end - start))
        if progress is not None:
            progress(first + end, len(split.manifest))
    return tuple(files)


def _encode(split: Split, index: int) -> dict[str, bytes]:
    """Return the image and its labels as files of a shard, by extension."""
    source, names, targets = split.path(index), split.manifest.classes, split.targets(index)
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}). Prepare the data again.") from None
    labels = {kind: [names[k] for k in (targets == value).nonzero()[0]] for kind, value in (("labels", 1), ("unknown", -1))}
    document = json.dumps({"image": split[index], **labels}, ensure_ascii=False)
    return {source.suffix.lower().lstrip(".") or "jpg": content, "json": document.encode()}


def first_row(split: Split) -> int:
    """Return the row of a split's first image in the manifest; the rows of a split lie together."""
    sizes = split.manifest.split_sizes
    names = list(sizes)
    return sum(sizes[other] for other in names[: names.index(split.name)]) if split.name in sizes else 0


def shards_of(split: Split, count: int) -> list[Shard]:
    """Return the shards that hold the first `count` images of a split."""
    shards = split.manifest.description.shards
    assert shards is not None, "called for shards"
    files = shards.files.get(split.name) or [pair for pairs in shards.files.values() for pair in pairs]
    first = first_row(split)
    starts = accumulate((images for _, images in files), initial=first)
    return [Shard(name, start, images) for (name, images), start in zip(files, starts, strict=False) if start - first < count]


def image_sources(split: Split, count: int) -> Iterator[Path | bytes]:
    """Yield the first `count` images of a split, in its order: paths, or of shards the contents of files."""
    if split.manifest.description.shards is None:
        yield from (split.path(index) for index in range(count))
        return
    first = first_row(split)
    for row, _, content in read_samples(split.manifest, shards_of(split, count)):
        if row - first < count:
            yield content


def spaced_images(split: Split, count: int) -> dict[int, Path | bytes]:
    """Return the paths of at most `count` images at equal distances, by index; of shards the contents of the first images."""
    if split.manifest.description.shards is not None:
        return dict(enumerate(image_sources(split, count)))
    return {index: split.path(index) for index in spaced(range(len(split)), count)}


def is_address(text: str) -> bool:
    """Return True if a text is an address that the library may open, and no path.

    Example:
        >>> is_address("https://host/shards"), is_address("data/coco")
        (True, False)
    """
    return bool(ADDRESS.match(text)) and not Path(text).exists()


def open_shards(address: str, prepared: Path) -> Manifest:
    """Open shards at an address of any kind that the library opens: https://..., s3://..., pipe:...

    Their manifest is copied into a folder of its name below `prepared`, the images stay where they are.

    Raises:
        DataError: the address holds no description of shards.
        UsageError: the folder for the copy holds the manifest of other data.
        MachineError: the address cannot be opened.
    """
    base = address.removesuffix(DESCRIPTION).rstrip("/") + "/"
    content = _fetch(base + DESCRIPTION)
    description = parse_description(content, base + DESCRIPTION)
    if description.shards is None:
        raise DataError(f"{base} holds no shards. Write them: sadcl prepare-data NAME --shards DIR.")
    folder = prepared / safe_name(description.name)
    stored_base = base if WEB.fullmatch(base) else ""  # a command comes from the person who types it, never from a file
    copied = load_description(folder) if is_prepared(folder) else None
    if copied is not None and (copied.shards is None or copied.shards.base != stored_base):
        raise UsageError(f"{folder} is the manifest of other data. Move it away, or work in another folder.")
    if copied is None or copied.stamp != description.stamp:
        rows = _fetch(base + ROWS)
        with replacing(folder / ROWS) as temporary:
            temporary.write_bytes(rows)
        document = json.loads(content)
        document["shards"]["base"] = stored_base
        write_json(folder / DESCRIPTION, document)
    try:
        return load_manifest(folder, address=base)
    except DataError as error:
        (folder / ROWS).unlink(missing_ok=True)  # so that a mended one is fetched
        raise MachineError(f"{base + ROWS} arrived damaged ({error}) Give the same command again.") from None


def _fetch(address: str) -> bytes:
    """Return the content of a file at an address."""
    wds = require_webdataset()
    try:
        with wds.gopen(address) as stream:
            content: bytes = stream.read()
    except (OSError, ValueError, AssertionError) as error:
        raise MachineError(f"{address} cannot be opened ({_reason(error)}). Check the address and the network.") from None
    if not content:
        raise MachineError(f"{address} is empty or not there. Check the address.")
    return content


def read_samples(manifest: Manifest, shards: Sequence[Shard]) -> Iterator[Sample]:
    """Yield the samples of shards, in their order.

    Raises:
        DataError: a shard is damaged, cut short or holds other images than its rows.
    """
    description = manifest.description.shards
    assert description is not None, "called for shards"
    for shard in shards:
        url = description.base + shard.name
        seen = 0
        for seen, sample in enumerate(_open_shard(url), start=1):
            if seen <= shard.count:  # one more is an error below
                yield _check_sample(sample, url, shard.first + seen - 1)
        if seen != shard.count:
            raise DataError(f"{url} holds {seen:,} images and should hold {shard.count:,}. Write or fetch it again.")


def _open_shard(url: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of a tar file as the library groups them."""
    wds = require_webdataset()
    from webdataset.tariterators import group_by_keys, tar_file_expander

    try:
        with wds.gopen(url) as stream:
            yield from group_by_keys(tar_file_expander([{"url": url, "stream": stream}]))
    except Exception as error:  # the library passes on whatever tar, a pipe or a file system raises
        raise DataError(f"{url} cannot be read as a shard ({_reason(error)}). Check the address, or write it again.") from None


def _reason(error: Exception) -> str:
    """Return the reason in few words; of a command that failed, its exit status."""
    text = " ".join(str(part) for part in error.args[:1]) or type(error).__name__
    status = re.search(r"exit (\d+)", text)
    return f"the command that reads it failed, exit {status[1]}" if status else text[:200]


def _check_sample(sample: dict[str, Any], url: str, row: int) -> Sample:
    """Return the image of a sample."""
    key = str(sample["__key__"])
    files = [name for name in sample if not name.startswith("__") and name != "json"]
    if len(files) != 1 or not key.isdecimal() or int(key) != row:
        raise DataError(f"{url}: sample {key[:60]!r} is not image {row} of this manifest. Write the shards again.")
    return row, f"{url}/{key}.{files[0]}", sample[files[0]]
