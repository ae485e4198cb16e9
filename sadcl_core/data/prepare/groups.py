"""Groups of images that must not be divided: of a patient, a scene, a film, and of the same content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import UsageError
from sadcl_core.runtime.words import counted

GROUP = "group"  # column that readers of tables add

Integers = npt.NDArray[np.int64]


def is_pattern(text: str) -> bool:
    r"""Return True if --group-by is a pattern on the path of an image: it captures a part of it, in parentheses.

    Example:
        >>> is_pattern(r"(patient\d+)"), is_pattern("Patient ID")
        (True, False)
    """
    return re.search(r"(?<!\\)\(", text) is not None


def groups_by_pattern(images: Sequence[str], pattern: str) -> list[str]:
    r"""Return the group of each image, which a pattern captures in parentheses from its path; empty where it does not match.

    Raises:
        UsageError: it is not a regular expression, or matches no image.

    Example:
        >>> groups_by_pattern(["p1_a.jpg", "p1_b.jpg", "x.jpg"], r"(p\d+)_")
        ['p1', 'p1', '']
    """
    try:
        matches = [re.search(pattern, image) for image in images]
    except re.error as error:
        raise UsageError(f"--group-by {pattern}: no regular expression ({error}). Write one such as '(patient\\d+)'.") from None
    if not any(matches):
        raise UsageError(f"--group-by {pattern} matches no image, such as {images[0]}. Mend the pattern.")
    return ["" if match is None else "/".join(part or "" for part in match.groups()) for match in matches]


def take_groups(manifest: Manifest, group_by: str) -> tuple[Manifest, list[str]]:
    """Return a manifest without the column `group`, and the group of each image by a pattern, or by that column.

    Returns:
        The manifest, and N names of groups, empty for an image in none: where `group_by` is empty those of a likely column.

    Raises:
        UsageError: the pattern is not a regular expression, or matches no image.
    """
    names = [""] * len(manifest)
    if GROUP in manifest.rows.column_names:
        names = manifest.rows[GROUP].to_pylist()
        manifest = Manifest(manifest.description, manifest.rows.drop_columns(GROUP))
    if is_pattern(group_by):
        names = groups_by_pattern(manifest.rows["image"].to_pylist(), group_by)
    if not group_by:
        return manifest, names
    alone, sizes = sum(not name for name in names), Counter(name for name in names if name)
    note = f"{counted(len(sizes), 'group')} by {group_by}" + (f"; {counted(alone, 'image')} in none" if alone else "")
    note += "; each is one image, so nothing is kept together" if max(sizes.values(), default=0) < 2 else ""
    manifest.description = manifest.description.with_notes(note)
    return manifest, names


def likely_column(manifest: Manifest) -> str:
    """Return the column of the label files that looks like one of groups; empty without one."""
    account = manifest.description.interpretation
    columns = (column for file in account.files for column in file.columns) if account else ()
    return next((column.name for column in columns if column.role == "group"), "")


def groups_across(names: Sequence[str], splits: Sequence[str]) -> tuple[str, ...]:
    """Return the groups that have images in several splits.

    Example:
        >>> groups_across(["a", "a", "b", ""], ["train", "test", "train", "test"])
        ('a',)
    """
    of_group: dict[str, set[str]] = {}
    for name, split in zip(names, splits, strict=True):
        if name:
            of_group.setdefault(name, set()).add(split)
    return tuple(name for name, own in of_group.items() if len(own) > 1)


def numbered(names: Sequence[str]) -> Integers:
    """Return (N,) the number of each group, -1 for an image in none.

    Example:
        >>> numbered(["b", "a", "", "b"]).tolist()
        [0, 1, -1, 0]
    """
    number = {name: k for k, name in enumerate(dict.fromkeys(name for name in names if name))}
    return np.array([number.get(name, -1) for name in names], np.int64)


def together(first: Integers, second: Integers) -> Integers:
    """Return groups such that images of one group of either kind are in one: (N,) numbers, -1 for an image in none.

    Example:
        >>> together(np.array([0, 0, -1, -1]), np.array([-1, 3, 3, -1])).tolist()
        [0, 0, 0, -1]
    """
    count = len(first)
    rows, cols = [], []
    offset = count
    for groups in (first, second):
        members = np.flatnonzero(groups >= 0)
        rows.append(members)
        cols.append(groups[members] + offset)
        offset += int(groups.max(initial=-1)) + 1
    edges = np.concatenate(rows), np.concatenate(cols)
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=(offset, offset))
    _, component = connected_components(graph, directed=False)
    component = component[:count].astype(np.int64)
    sizes = np.bincount(component)
    return np.where(sizes[component] > 1, component, -1)
