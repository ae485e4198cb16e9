"""The truth that scores are held against: an array, or any label file or prepared data set. No image is opened or looked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sadcl_core.data.formats import DATASETS
from sadcl_core.data.formats.detect import Found, detect, detect_files, reader
from sadcl_core.data.formats.source import UNASSIGNED, Source, changed
from sadcl_core.data.manifest import ALL, Manifest, Split, is_prepared, load_manifest
from sadcl_core.data.prepare.dataset_spec import PREPARED, exists, identify
from sadcl_core.data.shards import is_address, open_shards
from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.score_files.arrays import read_label_array

HELD_OUT = ("val", "test")
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Labels:
    """Labels of M images.

    Attributes:
        targets: (M, K) int8, 1, 0 or -1 for unknown.
        classes: K names, or None for an array without.
        images: M paths, or None for an array without.
        said: what they are, for people.
        split: the M images, where they are of a data set that says where they are.
    """

    targets: npt.NDArray[np.int8]
    classes: tuple[str, ...] | None
    images: tuple[str, ...] | None
    said: str
    split: Split | None = None


def find_labels(labels: str, *, split: str | None, count: int, by_row: bool) -> Labels:
    """Read labels.

    Args:
        labels: a `.npy` or `.npz` file, a label file, a folder, a prepared folder, or a data set's name.
        split: its name; unless given the held-out split, or whichever has as many images as there are scores.
        count: images that there are scores of.
        by_row: the scores name no images, so all splits together may be meant.

    Raises:
        UsageError: the name is none, or an array is asked for a split.
        DataError: the labels are damaged, or there is no such split.
    """
    if Path(labels).suffix.lower() in ARRAYS:
        if split:
            raise UsageError(f"{labels} is an array and has no split {split!r}. Leave --split out.")
        array = read_label_array(Path(labels))
        return Labels(array.targets, array.classes, array.images, labels)
    manifest, said, placed = _manifest(labels)
    chosen = manifest.split(split or _likely_split(manifest, count, by_row))
    divided = f", split {chosen.name}" if manifest.splits != [UNASSIGNED] else ""
    return Labels(chosen.all_targets(), manifest.classes, tuple(chosen), f"{said}{divided}", chosen if placed else None)


def _manifest(labels: str) -> tuple[Manifest, str, bool]:
    """The labels as they are, where they were prepared before, or at an address; and whether images may be looked for there."""
    if is_address(labels):
        return open_shards(labels, PREPARED)[0], labels, True
    folder = Path(labels) if exists(Path(labels)) else PREPARED / labels
    if is_prepared(folder):
        manifest = load_manifest(folder)
        stale = changed(manifest.description.source) if manifest.description.shards is None else []
        return manifest, f"{folder}{f' (older than {stale[0]})' if stale else ''}", True
    named = identify([labels], data=None)
    if labels in DATASETS:
        found = Found(DATASETS[labels])
    elif UNASSIGNED in named.paths:
        found = detect(named.paths[UNASSIGNED])
    else:
        found = detect_files(named.paths)
    source = Source(name=labels if labels in DATASETS else named.name, root=named.root, files=found.files, guess=named.guess)
    read = reader(found.format).read
    try:
        return read(source), labels, True
    except DataError as error:
        try:  # the images may have been on another machine
            return read(replace(source, labels_only=True)), labels, False
        except DataError:
            raise error from None


def _likely_split(manifest: Manifest, count: int, by_row: bool) -> str:
    """A split with as many images as there are scores, the held-out ones first; else a held-out one, else all images."""
    sizes = {name: size for name, size in manifest.split_sizes.items() if name != UNASSIGNED}
    order = [name for name in HELD_OUT if name in sizes]
    fitting = [name for name in (*order, *sizes) if sizes[name] == count]
    if fitting or (order and not (by_row and len(manifest) == count)):
        return [*fitting, *order][0]
    return ALL
