"""Open every image before anyone trains on it, and count what is in a manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from sadcl_core.data.images import open_image
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError
from sadcl_core.progress import Progress

CHUNK = 512  # images handed to the threads at a time


@dataclass(frozen=True)
class Problem:
    """An image that cannot be used, and why in one sentence that starts with its path."""

    image: str
    reason: str


@dataclass(frozen=True)
class SplitReport:
    """What one split holds; the arrays are per class, in the order of the manifest."""

    name: str
    images: int
    without_labels: int
    labels_per_image: float
    class_counts: tuple[int, ...]
    unknown_counts: tuple[int, ...]


def find_broken(manifest: Manifest, *, decode: bool = True, progress: Progress | None = None) -> list[Problem]:
    """Try to open every image of a manifest, several at a time.

    Args:
        manifest: what to check.
        decode: read the pixels; otherwise only see whether the file is there.
        progress: called with how many are done, of how many.
    """
    images: list[str] = manifest.rows["image"].to_pylist()
    root = manifest.description.root
    problems: list[Problem] = []
    with ThreadPoolExecutor(max_workers=min(32, (os.cpu_count() or 1) + 1)) as pool:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            reasons = pool.map(lambda image: _why_broken(root / image, decode), chunk)
            problems += [Problem(image, reason) for image, reason in zip(chunk, reasons, strict=True) if reason]
            if progress is not None:
                progress(start + len(chunk), len(images))
    return problems


def _why_broken(path: Path, decode: bool) -> str:
    if not decode:
        return "" if path.is_file() else f"{path}: no such file."
    try:
        open_image(path)
    except DataError as error:
        return str(error)
    return ""


def without(manifest: Manifest, images: set[str]) -> Manifest:
    """The manifest less some images."""
    keep = [image not in images for image in manifest.rows["image"].to_pylist()]
    return Manifest(manifest.description, manifest.rows.filter(pa.array(keep)))


def report_splits(manifest: Manifest) -> Iterator[SplitReport]:
    """Count each split."""
    for name in manifest.splits:
        split = manifest.split(name)
        labels = split.labels_per_image()
        yield SplitReport(
            name=name,
            images=len(split),
            without_labels=int((labels == 0).sum()),
            labels_per_image=float(np.mean(labels)),
            class_counts=tuple(map(int, split.class_counts())),
            unknown_counts=tuple(map(int, split.unknown_counts())),
        )
