"""Make the data of a model with one more class: unknown in every image that no person looked at."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sadcl_core.data.images import NamedImage
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.rows import SCHEMA, Record, Rows
from sadcl_core.runtime.files import NO_UTF8


def with_class(manifest: Manifest, name: str, shown: Iterable[NamedImage], without: Iterable[NamedImage] = ()) -> Manifest:
    """Return a manifest with a class more, active in images that show it, inactive in images without it, unknown in all others.

    Such images that have no row yet are added to split train, with all other classes unknown. Images are left out that are not
    files on this disk or have names that are not UTF-8, and all of them if the manifest has its images in shards.

    Example:
        >>> from sadcl_core.data.manifest import Description
        >>> manifest = Manifest.from_records(Description("pets", Path("/pets"), ("cat",)), [Record("a.jpg", "test", (0,))])
        >>> photos = [NamedImage("new/b.jpg", Path("/new/b.jpg"))]
        >>> split = with_class(manifest, "otter", photos).split("all")
        >>> list(split), split.all_targets().tolist()
        (['a.jpg', '../new/b.jpg'], [[1, -1], [-1, 1]])
    """
    description, count = manifest.description, len(manifest.classes)
    root = Path(os.path.abspath(description.root))  # noqa: PTH100 # links in it stay
    known: dict[str, bool] = {}
    for images, is_shown in ((without, False), (shown, True)):
        for image in images:
            if isinstance(image.source, Path) and description.shards is None:
                known[Path(os.path.relpath(image.source, root)).as_posix()] = is_shown
    names = manifest.rows["image"].to_pylist()
    state = np.array([known.get(image, -1) for image in names], np.int8)
    rows = manifest.rows
    for column, value in (("active", 1), ("unknown", -1)):
        lists = _appended(rows[column].combine_chunks(), state == value, count)
        rows = rows.set_column(SCHEMA.get_field_index(column), SCHEMA.field(column), lists)
    added = Rows()
    there = set(names)
    for place, is_shown in known.items():
        if place not in there and not NO_UTF8.search(place):
            added.add(Record(place, "train", (count,) if is_shown else (), tuple(range(count))))
    if len(added):
        rows = pa.concat_tables([rows, added.table()]).combine_chunks().unify_dictionaries()
    supers = (*description.superclasses, name) if description.superclasses else ()
    return Manifest(replace(description, classes=(*description.classes, name), superclasses=supers), rows)


def _appended(lists: pa.ListArray, where: npt.NDArray[np.bool_], label: int) -> pa.ListArray:
    """Return lists of class indices, with a label above all others added to those that are chosen."""
    lengths = lists.value_lengths().to_numpy()
    values = np.insert(lists.flatten().to_numpy(), np.cumsum(lengths)[where], label).astype(np.int32)
    ends = np.concatenate([[0], np.cumsum(lengths + where)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values, pa.int32()))
