"""The multi-label JSON of OpenMMLab (MMPretrain's MultiLabelDataset).

{"metainfo": {"classes": ["cat", "dog"]},
"data_list": [{"img_path": "a.jpg", "gt_label": [0, 1]}]}
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.tables import mentions, read_json
from sadcl_core.errors import DataError

SUFFIXES = (".json",)


def recognises(path: Path) -> bool:
    """Return True if a file has the two keys of the format."""
    return mentions(path, "metainfo", "data_list")


def _listing(path: Path) -> Listing:
    document = read_json(path)
    names = document["metainfo"]["classes"]
    if not isinstance(names, list) or not names or not all(isinstance(name, (str, int)) for name in names):
        raise DataError(f'{path}: metainfo has no list of class names. Write "metainfo": {{"classes": ["cat", "dog"]}}.')
    labels = ((image["img_path"], image.get("gt_label", [])) for image in document["data_list"])
    entries = (Entry(image, own if isinstance(own, list) else [own]) for image, own in labels)
    return Listing([str(name) for name in names], entries)


read = partial(read_listing, kind="openmmlab", parse=_listing, content="OpenMMLab's JSON", paths="near")
