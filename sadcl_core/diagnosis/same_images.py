"""Whether images that are held out are among those that are trained on."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sadcl_core.data.split import Split

SAMPLE = 200  # held-out files whose content is compared
TRAINED = 20_000  # training files whose size is looked at
HASHED = 2_000  # files that are read at most


@dataclass(frozen=True)
class SameImages:
    """What was found.

    Attributes:
        images: of the held-out split.
        same_path: how many of them are listed for training as well.
        compared: others whose content was compared with that of training files; 0 where the files cannot be reached.
        same_content: how many of those have a twin.
        example: a held-out image and its twin.
    """

    images: int
    same_path: int
    compared: int
    same_content: int
    example: tuple[str, str] | None


def find_same_images(train: Split, held_out: Split) -> SameImages:
    """Compare all paths, and the content of an evenly spaced sample of files."""
    trained = set(train)
    both = [image for image in held_out if image in trained]
    example = (both[0], both[0]) if both else None
    rest = spaced([image for image in held_out if image not in trained], SAMPLE)
    if train.manifest.description.shards is not None:
        rest = []
    compared, twins = _twins(train.manifest.description.root, rest, spaced(list(train), TRAINED))
    return SameImages(len(held_out), len(both), compared, len(twins), example or (twins[0] if twins else None))


def spaced(images: list[str], count: int) -> list[str]:
    """At most `count` of them at equal distances."""
    return images if len(images) <= count else [images[place] for place in np.linspace(0, len(images) - 1, count).astype(int)]


def _twins(root: Path, images: list[str], others: list[str]) -> tuple[int, list[tuple[str, str]]]:
    """How many images there are on disk, and those with a twin among the others, with it; only files of one size are read."""
    sizes = {image: size for image in images if (size := _size(root / image)) > 0}
    wanted, rivals = set(sizes.values()), defaultdict(list)
    for other in others if wanted else []:
        if (size := _size(root / other)) in wanted:
            rivals[size].append(other)
    twins, read = [], 0
    for image, size in sizes.items():
        candidates = rivals[size][: max(HASHED - read, 0)]
        read += len(candidates)
        own = _digest(root / image) if candidates else b""
        twin = next((other for other in candidates if own and _digest(root / other) == own), None)
        if twin is not None:
            twins.append((image, twin))
    return len(sizes), twins


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _digest(path: Path) -> bytes:
    """Of a file's content; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""
