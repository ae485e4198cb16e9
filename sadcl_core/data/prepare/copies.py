"""Compact copies of the images of a manifest: smaller, upright, all JPEG, so that an epoch reads less. The originals stay."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from sadcl_core.data.exif import upright_box, upright_size
from sadcl_core.data.image_files import identify, image_file
from sadcl_core.data.images import as_rgb, explained_image, orientation, stored_size
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.rows import Box, Record
from sadcl_core.runtime.files import replacing
from sadcl_core.runtime.progress import Progress
from sadcl_core.runtime.threads import count_processors, map_ahead

ORIGIN = ".origin.json"  # beside copies: of which data they are
QUALITY = 95  # of JPEG, with its colours at full resolution
JPEG = (".jpg", ".jpeg")
DECODED = 2  # times the size of a copy that is decoded at least


class Copy(NamedTuple):
    """A copy: its path, EXIF orientation, width and height of the original as stored, and the scale."""

    name: str
    orientation: int
    size: tuple[int, int]
    scale: float


def compact(manifest: Manifest, folder: Path, *, short_side: int, progress: Progress | None = None) -> Manifest:
    """Copy every image into a folder, with a short side of so many pixels at most, and return the manifest of the copies.

    A copy gets the time of its original and is kept while both agree, so that an interrupted run goes on where it was.

    Raises:
        DataError: an image cannot be read.
        MachineError: the disk is full.
    """
    root, count = manifest.description.root, len(manifest)
    images = manifest.rows["image"].to_pylist()
    originals = frozenset(images)

    def copy(image: str) -> Copy:
        return _copy(root / image, folder, copy_name(image, originals), short_side)

    def records() -> Iterator[Record]:
        last = {image: place for place, image in enumerate(images)}  # an image may be in several splits
        copies = map_ahead(copy, dict.fromkeys(images), workers=count_processors() + 1)
        done: dict[str, Copy] = {}
        for place, row in enumerate(row for batch in manifest.rows.to_batches(max_chunksize=4096) for row in batch.to_pylist()):
            image = row["image"]
            if image not in done:
                done[image] = next(copies)
            new = done[image] if last[image] > place else done.pop(image)
            boxes = None if row["boxes"] is None else tuple(_box_of_copy(Box(**box), new) for box in row["boxes"])
            yield Record(new.name, row["split"], tuple(row["active"]), tuple(row["unknown"]), boxes)
            if progress is not None:
                progress(place + 1, count)

    note = f"images are compact copies with a short side of {short_side} pixels at most; the originals are in {root}"
    return Manifest.from_records(replace(manifest.description.with_notes(note), root=folder.resolve()), records())


def copy_name(image: str, originals: Set[str] = frozenset()) -> str:
    """Return the path of a copy: .jpg is added to a name that is not of a JPEG, again while another original has that name.

    Example:
        >>> copy_name("a.jpeg"), copy_name("b.png"), copy_name("c.png", {"c.png", "c.png.jpg"})
        ('a.jpeg', 'b.png.jpg', 'c.png.jpg.jpg')
    """
    name = image if image.lower().endswith(JPEG) else f"{image}.jpg"
    while name != image and name in originals:
        name += ".jpg"
    return name


def originals(root: Path, images: Iterable[str]) -> list[Path]:
    """Return the files of images below a root: of compact copies their originals, where these are on this disk."""
    try:
        above = Path(json.loads((root / ORIGIN).read_text(encoding="utf-8"))["root"])
    except (OSError, ValueError, KeyError, TypeError):
        return [root / image for image in images]
    files = []
    for image in images:
        names = [image]
        while names[-1].endswith(".jpg"):
            names.append(names[-1].removesuffix(".jpg"))
        files.append(next((above / name for name in names if (above / name).is_file()), root / image))
    return files


def _copy(source: Path, folder: Path, name: str, short_side: int) -> Copy:
    """Write one copy, unless it is there."""
    target = folder / name
    with explained_image(source), identify(image_file(source)) as image:
        size = stored_size(image)
        copy = Copy(name, orientation(image), size, min(1.0, short_side / min(size)))
        if target.is_file() and target.stat().st_mtime_ns == source.stat().st_mtime_ns:
            return copy
        width, height = (max(1, round(side * copy.scale)) for side in size)
        image.draft(None, (DECODED * width, DECODED * height))  # of a JPEG no more is decoded than this needs
        small = as_rgb(image)
        if copy.scale < 1:
            small = small.resize(upright_size((width, height), copy.orientation), Image.Resampling.LANCZOS, reducing_gap=3.0)
    with replacing(target) as temporary:
        small.save(temporary, format="JPEG", quality=QUALITY, subsampling=0)
        os.utime(temporary, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    return copy


def _box_of_copy(box: Box, copy: Copy) -> Box:
    """Return where a box of the original is in its copy."""
    box = upright_box(box, copy.size, copy.orientation)
    return Box(box.label, *(side * copy.scale for side in (box.x, box.y, box.width, box.height)))
