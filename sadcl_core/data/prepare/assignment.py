"""Assign the images of a data set to splits: its own are kept, others are made, and images stay where they were."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sadcl_core.data.formats.detect import SPLIT_ORDER
from sadcl_core.data.formats.source import UNASSIGNED
from sadcl_core.data.manifest import DIVIDED, ROWS, Manifest
from sadcl_core.data.prepare.copies import copy_name
from sadcl_core.data.prepare.stratify import rounded, stratify_rows
from sadcl_core.data.rows import SCHEMA
from sadcl_core.errors import UsageError


@dataclass(frozen=True)
class Division:
    """An earlier division: its fractions and seed, and the split of each image by the name that a copy of it has."""

    options: dict[str, Any]
    splits: dict[str, str]


def division_of(folder: Path) -> Division | None:
    """Return how the rows in a folder were divided; None without rows, and for rows with splits of their own.

    It is stored with the rows, so that it is not lost with the description beside them.
    """
    try:
        rows = pa.ipc.open_file(pa.memory_map(str(folder / ROWS))).read_all()
        options = json.loads((rows.schema.metadata or {}).get(DIVIDED, b"null"))
        images, splits = (rows[name].to_pylist() for name in ("image", "split"))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return Division(options, {copy_name(image): split for image, split in zip(images, splits, strict=True)}) if options else None


def splits_before(earlier: Mapping[str, str], images: Sequence[str]) -> list[str | None]:
    """Return the split that each image was in; None for a new image.

    Images are compared by their whole paths, or, where the folder moved, by their last parts if these are unique. Earlier
    ones are named as their copies.

    Example:
        >>> splits_before({"old/a.jpg": "train", "old/b.jpg": "val"}, ["new/b.jpg", "new/c.jpg"])
        ['val', None]
    """
    best: list[str | None] = [None] * len(images)
    for parts in (0, 3, 2, 1):
        before = [_end(image, parts) for image in earlier]
        splits = dict(zip(before, earlier.values(), strict=True))
        ends = [_end(copy_name(image), parts) for image in images]
        repeated = {end for counts in (Counter(before), Counter(ends)) for end, count in counts.items() if count > 1}
        matches = [splits.get(end) if end not in repeated else None for end in ends]
        if sum(split is not None for split in matches) > sum(split is not None for split in best):
            best = matches
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
    units: npt.NDArray[np.int64],
    how: Mapping[str, Any] | None,
) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """Assign images to splits and sort the rows by them; images that were divided in the same way before stay where they were.

    Groups (N,) number images of the same content, and units (N,) those that stay together; -1 is one alone. Without fractions
    the data keep their splits. What decides on the division is `how`, as `division_of` returns it with the earlier one.

    Returns:
        The manifest and groups, in their new order.

    Raises:
        UsageError: there are fewer images than splits.
    """
    if fractions is None:
        return _sort_by_split(manifest, groups)
    names = list(fractions)
    own = ", ".join(name for name in manifest.splits if name != UNASSIGNED)
    shown = ", ".join(f"{name} {share:g}" for name, share in fractions.items())
    several = len(names) > 1
    note = f"divided by iterative stratification: {shown}, seed {seed}" if several else f"all images are in split {names[0]}"
    if several and earlier is not None and earlier.options == how:
        before = splits_before(earlier.splits, manifest.rows["image"].to_pylist())
        divided, order = extend_splits(manifest, before, fractions, seed=seed, groups=units)
        note += f"; {sum(split is not None for split in before):,} images stay where they were"
    else:
        divided, order = assign_splits(manifest, fractions, seed=seed, groups=units)
    note += f"; the splits {own} that they had are not kept" if own else ""
    divided.description = divided.description.with_notes(note)
    return divided, groups[order]


def _sort_by_split(manifest: Manifest, groups: npt.NDArray[np.int64]) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """Sort the rows by split, train before val before test, so that a split is read in place and not copied."""
    usual = [name for name in SPLIT_ORDER if name in manifest.splits]
    number = {name: place for place, name in enumerate(dict.fromkeys([*usual, *manifest.splits]))}
    names = manifest.rows["split"].combine_chunks().dictionary.to_pylist()
    codes = np.array([number.get(name, -1) for name in names])  # -1: all of its images were left out
    of_row = codes[manifest.rows["split"].combine_chunks().indices.to_numpy()]
    if (np.diff(of_row) >= 0).all():
        return manifest, groups
    order = np.argsort(of_row, kind="stable")
    return Manifest(manifest.description, manifest.rows.take(order)), groups[order]


def assign_splits(
    manifest: Manifest, fractions: Mapping[str, float], *, seed: int, groups: npt.NDArray[np.int64] | None = None
) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """Divide the N images of a manifest again by `stratify`; the splits it had are forgotten.

    Returns:
        A manifest that is not stored, with the same rows: those of a split together, in the order of `fractions`, and
        within a split in the order they had; and (N,) the former row of each. Unknown labels have no influence.

    Raises:
        UsageError: there are fewer images than splits.
    """
    codes = stratify_rows(manifest.rows, list(fractions.values()), seed=seed, groups=groups)
    return _in_splits(manifest, list(fractions), codes)


def extend_splits(
    manifest: Manifest,
    before: Sequence[str | None],
    fractions: Mapping[str, float],
    *,
    seed: int,
    groups: npt.NDArray[np.int64] | None = None,
) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """Keep the splits that N images were in before, and divide the new ones, which were in None, as `assign_splits` does.

    A new image goes where one of its group is. All images are divided again if a split would be empty otherwise.
    """
    names = list(fractions)
    codes = np.array([names.index(split) if split is not None and split in fractions else -1 for split in before])
    if groups is not None:
        code_of = {group: code for group, code in zip(groups.tolist(), codes.tolist(), strict=True) if group >= 0 and code >= 0}
        codes = np.array([code_of.get(g, c) if c < 0 else c for g, c in zip(groups.tolist(), codes.tolist(), strict=True)])
    if len(set(codes.tolist()) - {-1}) < len(names):
        return assign_splits(manifest, fractions, seed=seed, groups=groups)
    new = np.flatnonzero(codes < 0)
    if len(new):
        kept = np.bincount(codes[codes >= 0], minlength=len(names))
        lacking = np.maximum(len(codes) * np.array(list(fractions.values())) - kept, 0)
        new_sizes = rounded(len(new) * lacking / lacking.sum())
        rows = Manifest(manifest.description, manifest.rows.take(pa.array(new)))
        alone = None if groups is None else groups[new]
        share = {name: float(count) for name, count in zip(names, new_sizes, strict=True) if count}
        try:
            divided, order = assign_splits(rows, share, seed=seed, groups=alone)
            codes[new[order]] = [names.index(split) for split in divided.rows["split"].to_pylist()]
        except UsageError:  # all of one content
            codes[new] = int(np.argmax(new_sizes))
    return _in_splits(manifest, names, codes)


def _in_splits(manifest: Manifest, names: list[str], codes: npt.NDArray[Any]) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """Return the rows sorted by the number of their split, and the former row of each."""
    order = np.argsort(codes, kind="stable")
    column = pa.DictionaryArray.from_arrays(pa.array(codes[order], pa.int32()), pa.array(names, pa.string()))
    rows = manifest.rows.take(pa.array(order))
    rows = rows.set_column(SCHEMA.get_field_index("split"), SCHEMA.field("split"), column)
    return Manifest(manifest.description, rows), order
