"""How a data set comes to its splits: its own are kept, others are made, and images do not change sides when labels do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.data.compact import copy_name
from sadcl_core.data.formats.detect import SPLIT_ORDER
from sadcl_core.data.manifest import Manifest, is_prepared, load_manifest
from sadcl_core.data.splits import assign_splits, extend_splits
from sadcl_core.errors import DataError


@dataclass(frozen=True)
class Division:
    """An earlier division: fractions and seed, and the split of each image by the name that a copy of it has."""

    how: dict[str, Any]
    splits: dict[str, str]


def division_of(folder: Path) -> Division | None:
    """How the manifest in a folder was divided; None when there is none, or it has splits of its own."""
    try:
        manifest = load_manifest(folder) if is_prepared(folder) else None
    except DataError:
        return None
    divided = None if manifest is None else manifest.description.options.get("divided")
    if manifest is None or not divided:
        return None
    images, splits = (manifest.rows[name].to_pylist() for name in ("image", "split"))
    return Division(divided, {copy_name(image): split for image, split in zip(images, splits, strict=True)})


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
        before = [earlier.splits.get(copy_name(image)) for image in manifest.rows["image"].to_pylist()]
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
