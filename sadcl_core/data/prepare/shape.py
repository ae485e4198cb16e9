"""Shape a data set: merge, leave out and keep classes, take a part of the images, hide labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.reading_options import split_words
from sadcl_core.data.prepare.stratify import rounded, stratify_rows
from sadcl_core.data.rows import SCHEMA, lists_of, with_labels
from sadcl_core.data.split import ALL, Split
from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest
from sadcl_core.runtime.words import some_of

SHOWN = 5  # classes named in a note
BLOCK = 1 << 12  # images whose labels are hidden at a time

Integers = npt.NDArray[np.int64]


def parse_merges(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the classes that become one, by its name.

    Raises:
        UsageError: a text is not of this form.

    Example:
        >>> parse_merges(["vehicle=car,bus"])
        {'vehicle': ('car', 'bus')}
    """
    merges: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, parts = text.partition("=")
        names = split_words(parts)
        if not (equals and name.strip() and names):
            raise UsageError(f"--merge {text} does not say which classes become one. Write --merge vehicle=car,bus.")
        merges[name.strip()] = (*merges.get(name.strip(), ()), *names)
    return merges


def shape_classes(
    manifest: Manifest,
    *,
    merge: Mapping[str, Sequence[str]],
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
    min_positives: int = 0,
) -> Manifest:
    """Return the same images with other classes: first some become one, then others are left out.

    A merged class is active where one of its parts is, and unknown where none is and one of them is unknown.

    Args:
        manifest: N images.
        merge: new or old name of a class -> the classes that become it.
        drop: classes to leave out, each a name or several with commas between them.
        keep: classes that stay; all when empty.
        min_positives: classes with fewer images, in split train if there is one, are left out.

    Raises:
        UsageError: there is no class of a name, a class is merged twice, or is to be kept as well as left out.
        DataError: no class would be left.

    Example:
        >>> from pathlib import Path
        >>> from sadcl_core.data.manifest import Description
        >>> from sadcl_core.data.rows import Record
        >>> records = [Record("a.jpg", "train", (0,)), Record("b.jpg", "train", (1,), unknown=(2,))]
        >>> manifest = Manifest.from_records(Description("pets", Path("photos"), ("bus", "car", "dog")), records)
        >>> shaped = shape_classes(manifest, merge={"vehicle": ("bus", "car")}, drop=("dog",))
        >>> shaped.classes, shaped.split("train").all_targets().tolist()
        (('vehicle',), [[1], [1]])
    """
    names = list(manifest.classes)
    target = {name: name for name in names}
    for new, parts in merge.items():
        for part in parts:
            _known(part, names, "--merge")
            if target[part] != part:
                raise UsageError(f"--merge names the class {part!r} twice. Name it once.")
            target[part] = new
    merged = list(dict.fromkeys(target[name] for name in names))
    drop = [name for text in drop for name in ([text] if text in names else split_words(text))]
    for option, chosen in (("--drop", drop), ("--keep", keep)):
        for name in chosen:
            if name not in merged and name in target:
                raise UsageError(
                    f"{option}: {name!r} is part of {target[name]!r} by --merge. Name {target[name]!r}, or leave it out."
                )
            _known(name, merged, option)
    both = next((name for name in drop if name in keep), None)
    if both is not None:
        raise UsageError(f"--keep and --drop both name the class {both!r}. Name it in one of them.")
    index = {name: k for k, name in enumerate(merged)}
    shaped = _renamed(manifest, merged, np.array([index[target[name]] for name in names], np.int64))
    counts = shaped.split("train" if "train" in shaped.splits else "all").class_counts()
    rare = {name for name, count in zip(merged, counts, strict=True) if count < min_positives}
    left = [name for name in merged if name not in drop and (not keep or name in keep) and name not in rare]
    if not left:
        raise DataError(f"{manifest.description.name}: no class would be left. Leave fewer classes out.")
    place = {name: k for k, name in enumerate(left)}
    shaped = _renamed(shaped, left, np.array([place.get(name, -1) for name in merged], np.int64))
    notes = [f"{', '.join(parts)} became {new}" for new, parts in merge.items()]
    gone = [name for name in merged if name not in left]
    if gone:
        notes.append(f"left out {len(gone):,} of {len(merged):,} classes: {some_of(gone, SHOWN)}")
    shaped.description = shaped.description.with_notes(*notes)
    return shaped


def take_part(manifest: Manifest, limit: int, *, seed: int = 0) -> Manifest:
    """Return `limit` images, of each split its share and one at least, in which every class keeps its share.

    Example:
        >>> from pathlib import Path
        >>> from sadcl_core.data.manifest import Description
        >>> from sadcl_core.data.rows import Record
        >>> records = [Record(f"{k}.jpg", "train", (k % 2,)) for k in range(10)]
        >>> manifest = Manifest.from_records(Description("pets", Path("photos"), ("cat", "dog")), records)
        >>> take_part(manifest, 4).split("train").class_counts().tolist()
        [2, 2]
    """
    count = len(manifest)
    if limit >= count:
        return manifest
    splits = np.array(manifest.rows["split"].to_pylist(), dtype=object)
    names = manifest.splits
    sizes = np.array([int((splits == name).sum()) for name in names])
    parts = np.minimum(np.maximum(rounded(limit * sizes / count), 1), sizes)
    while parts.sum() > limit and parts.max() > 1:  # what small splits got more
        parts[parts.argmax()] -= 1
    chosen: list[Integers] = []
    for name, size, part in zip(names, sizes.tolist(), parts.tolist(), strict=True):
        rows = np.flatnonzero(splits == name)
        if part < size:
            rows = rows[stratify_rows(manifest.rows.take(rows), [part / size, 1 - part / size], seed=seed) == 0]
        chosen.append(rows)
    rows = np.sort(np.concatenate(chosen))
    note = f"{len(rows):,} of {count:,} images, by iterative stratification, seed {seed}"
    return Manifest(manifest.description.with_notes(note), manifest.rows.take(pa.array(rows)))


def hide_labels(
    manifest: Manifest,
    split: str,
    *,
    share: float = 0.0,
    single_positive: bool = False,
    become: Literal["unknown", "inactive"] = "unknown",
    seed: int = 0,
) -> Manifest:
    """Return the same images with labels of one split hidden, for studies of what missing labels cost.

    Args:
        manifest: N images, with their labels.
        split: whose labels are hidden.
        share: probability in 0..1 with which each known label is hidden.
        single_positive: hide every label of an image but one of its active ones.
        become: what hidden labels are afterwards; inactive: as where annotators missed labels.
        seed: of the draws.

    Example:
        >>> from pathlib import Path
        >>> from sadcl_core.data.manifest import Description
        >>> from sadcl_core.data.rows import Record
        >>> record = Record("a.jpg", "train", (0, 2))
        >>> manifest = Manifest.from_records(Description("pets", Path("photos"), ("cat", "cow", "dog")), [record])
        >>> sorted(hide_labels(manifest, "train", single_positive=True).split("train").targets(0).tolist())
        [-1, -1, 1]
    """
    rows = manifest.rows
    hidden: dict[str, list[pa.ListArray]] = {"active": [], "unknown": []}
    for start in range(0, len(manifest), BLOCK):
        block = Manifest(manifest.description, rows.slice(start, BLOCK))
        targets = Split(block, ALL).all_targets()
        rng = np.random.default_rng((seed, start))
        hide = rng.random(targets.shape) < share
        if single_positive:
            kept = np.where((targets == 1) & ~hide, rng.random(targets.shape), -1.0)
            hide |= (kept < kept.max(axis=1, keepdims=True)) | (targets != 1)
        hide &= (targets >= 0) & (block.rows["split"].to_numpy() == split)[:, None]
        targets[hide] = -1 if become == "unknown" else 0
        for name, value in (("active", 1), ("unknown", -1)):
            images, labels = np.nonzero(targets == value)
            hidden[name].append(lists_of(images, labels, len(targets)))
    for name, parts in hidden.items():
        rows = rows.set_column(
            rows.column_names.index(name), SCHEMA.field(name), pa.chunked_array(parts, SCHEMA.field(name).type)
        )
    what = "all labels but one active one of each image" if single_positive else f"{share:.0%} of the labels"
    note = f"{what} of split {split} hidden, seed {seed}, and {become} now"
    return Manifest(manifest.description.with_notes(note), rows)


def _known(name: str, names: Sequence[str], option: str) -> None:
    if name not in names:
        raise UsageError(f"{option}: there is no class {name!r}. {suggest(name, names)}")


def _renamed(manifest: Manifest, classes: Sequence[str], place: Integers) -> Manifest:
    """Return a manifest whose class k is now class place[k], or none where that is -1."""
    first = {int(k): number for number, k in reversed([*enumerate(place)])}
    superclasses = manifest.description.superclasses
    description = replace(
        manifest.description,
        classes=tuple(classes),
        superclasses=tuple(superclasses[first[k]] for k in range(len(classes))) if superclasses else (),
    )
    return Manifest(description, with_labels(manifest.rows, place, len(classes)))
