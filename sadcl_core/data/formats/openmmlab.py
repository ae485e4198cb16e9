"""The multi-label JSON of OpenMMLab (MMPretrain's MultiLabelDataset).

{"metainfo": {"classes": ["cat", "dog"]},
"data_list": [{"img_path": "a.jpg", "gt_label": [0, 1]}]}
"""

from __future__ import annotations

from pathlib import Path

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.source import Source
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import mentions, read_json, readable
from sadcl_core.errors import DataError

SUFFIXES = (".json",)


def recognises(path: Path) -> bool:
    """Return True if a file has the two keys of the format."""
    return mentions(path, "metainfo", "data_list")


def read(source: Source) -> Manifest:
    """Read one file per split, or one of all.

    Raises:
        DataError: a file lacks classes or images, or a label is not an index into the classes.
    """
    rows: LabelRows | None = None
    for split, path in source.files.items():
        with readable(path, "OpenMMLab's JSON"):
            document = read_json(path)
            classes = _classes(document["metainfo"]["classes"], path)
            rows = rows or LabelRows(source, "openmmlab", classes=classes)
            if rows.listed != classes:
                first = rows.first_file or "the list of classes"
                raise DataError(f"{path} has other classes than {first}. Use files of one data set.")
            rows.start(path)
            for number, entry in enumerate(document["data_list"], start=1):
                labels = entry.get("gt_label", [])
                rows.add(entry["img_path"], labels if isinstance(labels, list) else [labels], row=number, split=split)
    if rows is None:
        raise DataError(f"{source.root} has no OpenMMLab JSON. Name the file.")
    return rows.manifest()


def _classes(names: object, path: Path) -> tuple[str, ...]:
    if not isinstance(names, list) or not names or not all(isinstance(name, (str, int)) for name in names):
        raise DataError(f'{path}: metainfo has no list of class names. Write "metainfo": {{"classes": ["cat", "dog"]}}.')
    return tuple(str(name) for name in names)
