"""BigEarthNet in its first version (Sumbul et al., IGARSS 2019): a JSON file per patch, with its bands beside it.

BigEarthNet-v1.0/PATCH/PATCH_labels_metadata.json      {"labels": ["Sea and ocean", ...], ...}
BigEarthNet-v1.0/PATCH/PATCH_B04.tif, ...              or one folder less
splits/train.csv, val.csv, test.csv                    a patch a line, if they are there
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sadcl_core.data.formats.bigearthnet import BANDS, visible
from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.formats.source import Source
from sadcl_core.data.formats.unpack import UNPACKED, compose, unpack_folder
from sadcl_core.data.formats.walk import folders_in
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import read_json
from sadcl_core.errors import DataError

SUFFIXES = ()
END = "_labels_metadata.json"
FEW = 3  # folders below in which patches may lie


def recognises(folder: Path) -> bool:
    """Return True if the first folder in it, or in a folder below, holds a patch."""
    return _place(folder) is not None


def read(source: Source) -> Manifest:
    """Read the labels of every patch and put its bands together.

    Raises:
        DataError: no patch is found, or one is damaged.
    """
    place = _place(source.root)
    if place is None:
        raise DataError(f"{source.root} has no folder of a patch with its *{END}. Unpack BigEarthNet there.")

    def parse(folder: Path) -> Listing:
        return Listing((), _entries(source, folder), [f"bands put together, in {UNPACKED}/"])

    below = replace(source, root=unpack_folder(source), files={"": place})
    return read_listing(below, "bigearthnet_v1", parse, content="labels of patches", paths="exact")


def _place(folder: Path) -> Path | None:
    places = (folder, *folders_in(folder)[:FEW])
    return next((place for place in places for patch in folders_in(place)[:1] if (patch / f"{patch.name}{END}").is_file()), None)


def _entries(source: Source, folder: Path) -> Iterator[Entry]:
    for patch in folders_in(folder):
        file = patch / f"{patch.name}{END}"
        content = read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("labels"), list):
            raise DataError(f"{file} has no list of labels. Fetch it again.")
        bands = {f"{patch.name}_{band}": f"{patch.relative_to(source.root)}/{patch.name}_{band}.tif" for band in BANDS}
        yield Entry(compose(source, patch.name, bands, BANDS, visible), content["labels"])
