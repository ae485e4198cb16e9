"""Compact copies of the images of a manifest: smaller, upright, all JPEG, so that an epoch reads less. The originals stay."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from sadcl_core.data.checks import CHUNK, ORIENTATION, TOLD
from sadcl_core.data.images import as_rgb, explained_image
from sadcl_core.data.manifest import Box, Manifest, Record
from sadcl_core.files import replacing
from sadcl_core.progress import Progress

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


def compact(manifest: Manifest, folder: Path, *, short_side: int, progress: Progress | None = None) -> Manifest:
    """Copy every image, its short side at most `short_side` pixels, and return the manifest of the copies.

    A copy that is newer than its original is kept, so that an interrupted run goes on where it was.

    Raises:
        DataError: an image cannot be read.
        MachineError: the disk is full.
    """
    rows = manifest.rows
    root, count = manifest.description.root, rows.num_rows

    def one(image: str, boxes: list[dict[str, float]] | None) -> tuple[str, tuple[Box, ...] | None]:
        name = copy_name(image)
        orientation, size, scale = _copy(root / image, folder / name, short_side)
        turned = None if boxes is None else tuple(_moved(Box(**box), orientation, size, scale) for box in boxes)  # type: ignore[arg-type]
        return name, turned

    def records() -> Iterator[Record]:
        copied = 0
        with ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1) as pool:
            for start in range(0, count, CHUNK):
                part = rows.slice(start, CHUNK).to_pydict()
                done = pool.map(one, part["image"], part["boxes"])
                for (name, boxes), split, active, unknown in zip(
                    done, part["split"], part["active"], part["unknown"], strict=True
                ):
                    yield Record(name, split, tuple(active), tuple(unknown), boxes)
                    copied += 1
                    if progress is not None and (copied % TOLD == 0 or copied == count):
                        progress(copied, count)

    note = f"images are compact copies with a short side of {short_side} pixels at most; the originals are in {root}"
    description = replace(manifest.description, root=folder.resolve(), notes=(*manifest.description.notes, note))
    return Manifest.from_records(description, records())


def copy_name(image: str) -> str:
    """The path of the copy: the same, with .jpg added to what is no JPEG."""
    return image if image.lower().endswith(JPEG) else f"{image}.jpg"


def _copy(source: Path, target: Path, short_side: int) -> tuple[int, tuple[int, int], float]:
    """Write one copy; returns orientation, width and height of the original as stored, and the scale of the copy."""
    with explained_image(source), Image.open(source) as image:
        size, orientation = image.size, int(image.getexif().get(ORIENTATION, 1))
        scale = min(1.0, short_side / min(size))
        if target.is_file() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            return orientation, size, scale
        small = as_rgb(image)
        if scale < 1:
            width, height = (max(1, round(side * scale)) for side in small.size)
            small = small.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    with replacing(target) as temporary:
        small.save(temporary, format="JPEG", quality=QUALITY, subsampling=0)
    return orientation, size, scale


def _moved(box: Box, orientation: int, size: tuple[int, int], scale: float) -> Box:
    """Where a box of the original is in its copy."""
    x, y = TURNED[orientation](box, *size) if orientation in TURNED else (box.x, box.y)
    width, height = (box.height, box.width) if orientation in ON_ITS_SIDE else (box.width, box.height)
    return Box(box.label, x * scale, y * scale, width * scale, height * scale)
