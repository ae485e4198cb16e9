"""Compact copies of the images of a manifest: smaller, upright, all JPEG, so that an epoch reads less. The originals stay."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from sadcl_core.data.images import as_rgb, explained_image, orientation, stored_size
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.checks import CHUNK, TOLD
from sadcl_core.data.rows import SCHEMA, Box, Record
from sadcl_core.runtime.files import replacing
from sadcl_core.runtime.progress import Progress

QUALITY = 95  # of JPEG, with its colours at full resolution
JPEG = (".jpg", ".jpeg")

# Of a box (x, y, width, height) in an image of w x h pixels, what becomes of it when the EXIF orientation is applied
TURNED: dict[int, Callable[[Box, int, int], tuple[float, float]]] = {
    2: lambda b, w, h: (w - b.x - b.width, b.y),
    3: lambda b, w, h: (w - b.x - b.width, h - b.y - b.height),
    4: lambda b, w, h: (b.x, h - b.y - b.height),
    5: lambda b, w, h: (b.y, b.x),
    6: lambda b, w, h: (h - b.y - b.height, b.x),
    7: lambda b, w, h: (h - b.y - b.height, w - b.x - b.width),
    8: lambda b, w, h: (b.y, w - b.x - b.width),
}
ON_ITS_SIDE = (5, 6, 7, 8)  # orientations that exchange width and height


class Copied(NamedTuple):
    """A copy: its path, EXIF orientation, width and height of the original as stored, and the scale."""

    name: str
    turned: int
    size: tuple[int, int]
    scale: float


def compact(manifest: Manifest, folder: Path, *, short_side: int, progress: Progress | None = None) -> Manifest:
    """Copy every image, its short side at most `short_side` pixels, and return the manifest of the copies.

    A copy that is as old as its original, which it is made to be, is kept, so that an interrupted run goes on where it was.

    Raises:
        DataError: an image cannot be read.
        MachineError: the disk is full.
    """
    rows = manifest.rows
    root, count = manifest.description.root, rows.num_rows

    originals = frozenset(rows["image"].to_pylist())

    def one(image: str) -> Copied:
        return _copy(root / image, folder, copy_name(image, originals), short_side)

    def records() -> Iterator[Record]:
        copied = 0
        with ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1) as pool:
            for start in range(0, count, CHUNK):
                part = rows.slice(start, CHUNK).to_pydict()
                once = dict.fromkeys(part["image"])  # an image may be in several splits
                copies, done = pool.map(one, once), dict[str, Copied]()
                for image, split, active, unknown, boxes in zip(*(part[name] for name in SCHEMA.names), strict=True):
                    copy = done[image] if image in done else done.setdefault(image, next(copies))
                    moved = None if boxes is None else tuple(_moved(Box(**box), copy) for box in boxes)
                    yield Record(copy.name, split, tuple(active), tuple(unknown), moved)
                    copied += 1
                    if progress is not None and (copied % TOLD == 0 or copied == count):
                        progress(copied, count)

    note = f"images are compact copies with a short side of {short_side} pixels at most; the originals are in {root}"
    description = replace(manifest.description, root=folder.resolve(), notes=(*manifest.description.notes, note))
    return Manifest.from_records(description, records())


def copy_name(image: str, originals: Set[str] = frozenset()) -> str:
    """The path of the copy: the same, with .jpg added to what is no JPEG, again if another original is called so."""
    name = image if image.lower().endswith(JPEG) else f"{image}.jpg"
    while name != image and name in originals:
        name += ".jpg"
    return name


def _copy(source: Path, folder: Path, name: str, short_side: int) -> Copied:
    """Write one copy, unless it is there."""
    target = folder / name
    with explained_image(source), Image.open(source) as image:
        size = stored_size(image)
        copied = Copied(name, orientation(image), size, min(1.0, short_side / min(size)))
        if target.is_file() and target.stat().st_mtime_ns == source.stat().st_mtime_ns:
            return copied
        small = as_rgb(image)
        if copied.scale < 1:
            width, height = (max(1, round(side * copied.scale)) for side in small.size)
            small = small.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    with replacing(target) as temporary:
        small.save(temporary, format="JPEG", quality=QUALITY, subsampling=0)
        os.utime(temporary, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    return copied


def _moved(box: Box, copy: Copied) -> Box:
    """Where a box of the original is in its copy."""
    x, y = TURNED[copy.turned](box, *copy.size) if copy.turned in TURNED else (box.x, box.y)
    width, height = (box.height, box.width) if copy.turned in ON_ITS_SIDE else (box.width, box.height)
    return Box(box.label, *(side * copy.scale for side in (x, y, width, height)))
