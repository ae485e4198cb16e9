"""How a data set comes to its splits: its own are kept, others are made, and images do not change sides when labels do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sadcl_core.data.compact import copy_name
from sadcl_core.data.formats.detect import SPLIT_ORDER
from sadcl_core.data.manifest import DIVIDED, ROWS, Manifest
from sadcl_core.data.splits import assign_splits, extend_splits


@dataclass(frozen=True)
class Division:
    """An earlier division: fractions and seed, and the split of each image by the name that a copy of it has."""

    how: dict[str, Any]
    splits: dict[str, str]


def division_of(folder: Path) -> Division | None:
    """How the rows in a folder were divided; None when there are none, or they have splits of their own.

    The rows say it themselves, so that it is known even when the description beside them is gone.
    """
    try:
        rows = pa.ipc.open_file(pa.memory_map(str(folder / ROWS))).read_all()
        how = json.loads((rows.schema.metadata or {}).get(DIVIDED, b"null"))
        images, splits = (rows[name].to_pylist() for name in ("image", "split"))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return Division(how, {copy_name(image): split for image, split in zip(images, splits, strict=True)}) if how else None


def splits_before(earlier: Mapping[str, str], images: Sequence[str]) -> list[str | None]:
    """The split that each image was in; by its whole path, or where the folder moved by the last parts of it that are its own."""
    best: list[str | None] = [None] * len(images)
    for parts in (0, 3, 2, 1):
        known = Counter(_end(image, parts) for image in earlier)
        splits = {_end(image, parts): split for image, split in earlier.items()}
        ends = [_end(copy_name(image), parts) for image in images]
        now = Counter(ends)
        found = [splits.get(end) if known[end] == now[end] == 1 else None for end in ends]
        if sum(split is not None for split in found) > sum(split is not None for split in best):
            best = found
    return best


def _end(image: str, parts: int) -> str:
    return "/".join(image.split("/")[-parts:]) if parts else image


def with_splits(
    manifest: Manifest,
    groups: npt.NDArray[np.int64],
    fractions: dict[str, float] | None,
    *,
    seed: int,
    earlier: Division | None,
) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """Give data their splits, so that the rows of each lie together; images that were divided before stay where they were.

    Args:
        manifest: N images.
        groups: (N,) the same number for images of the same content, -1 for one alone.
        fractions: of each split; None keeps those the data have.
        seed: of the division.
        earlier: from `division_of`.

    Returns:
        The manifest and groups, in their new order.

    Raises:
        UsageError: there are fewer images than splits.
    """
    if fractions is None:
        return sorted_by_split(manifest, groups)
    names = list(fractions)
    shown = ", ".join(f"{name} {share:g}" for name, share in fractions.items())
    note = (
        f"divided by iterative stratification: {shown}, seed {seed}" if len(names) > 1 else f"all images are in split {names[0]}"
    )
    if len(names) > 1 and earlier is not None and earlier.how == {"fractions": fractions, "seed": seed}:
        before = splits_before(earlier.splits, manifest.rows["image"].to_pylist())
        divided, order = extend_splits(manifest, before, fractions, seed=seed, groups=groups)
        note += f"; {sum(split is not None for split in before):,} images stay where they were"
    else:
        divided, order = assign_splits(manifest, fractions, seed=seed, groups=groups)
    divided.description = replace(divided.description, notes=(*divided.description.notes, note))
    return divided, groups[order]


def sorted_by_split(manifest: Manifest, groups: npt.NDArray[np.int64]) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """The same rows with each split's together, train before val before test; a split is then looked at in place."""
    known = [name for name in SPLIT_ORDER if name in manifest.splits]
    number = {name: place for place, name in enumerate(dict.fromkeys([*known, *manifest.splits]))}
    names = manifest.rows["split"].combine_chunks().dictionary.to_pylist()
    codes = np.array([number.get(name, -1) for name in names])  # -1: all of its images were left out
    of_row = codes[manifest.rows["split"].combine_chunks().indices.to_numpy()]
    if (np.diff(of_row) >= 0).all():
        return manifest, groups
    order = np.argsort(of_row, kind="stable")
    return Manifest(manifest.description, manifest.rows.take(order)), groups[order]
