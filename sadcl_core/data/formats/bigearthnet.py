"""BigEarthNet's table of patches (Clasen et al., IGARSS 2025), with a file per band or a picture per patch.

    metadata.parquet                                patch_id, labels: ["Mixed forest", ...], split: train | validation | test
    BigEarthNet-S2/TILE/PATCH/PATCH_B04.tif, ...    or images/PATCH.png

The visible bands (B04, B03, B02) are put together, a reflectance of 0.3 being white, and written beside the manifest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sadcl_core.data.formats.listing import Entry, Listing, images_by_name, read_listing
from sadcl_core.data.formats.source import Source, split_name
from sadcl_core.data.formats.unpack import UNPACKED, compose, not_there, unpack_folder
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError

SUFFIXES = (".parquet",)
COLUMNS = ("patch_id", "labels")
BANDS = ("B04", "B03", "B02")  # red, green, blue
WHITE = 3000.0  # reflectance times 10,000


def recognises(path: Path) -> bool:
    """Return True if a table has the columns of the format."""
    return set(COLUMNS) <= set(pq.read_schema(path).names)


def read(source: Source) -> Manifest:
    """Read the table and put the bands together; patches that are not on the disk are left out, for many have a part of them.

    Raises:
        DataError: the table is damaged, or no patch is on the disk.
    """
    files = images_by_name(source)
    bands = any(name.endswith(BANDS[0]) for name in files)

    def parse(path: Path) -> Listing:
        try:
            rows = pq.read_table(path, columns=[name for name in (*COLUMNS, "split") if name in pq.read_schema(path).names])
            rows.validate(full=True)  # or texts that are no UTF-8 raise later
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read as Parquet ({str(error)[:200]}). Fetch it again.") from None
        content = rows.to_pylist()
        end = f"_{BANDS[0]}" if bands else ""
        there = [row for row in content if source.labels_only or f"{row['patch_id']}{end}" in files]
        notes = [f"bands put together, in {UNPACKED}/"] if bands else []
        notes += not_there(len(content) - len(there), "listed patch", "listed patches")
        return Listing((), map(entry, there), notes)

    def entry(row: dict[str, Any]) -> Entry:
        name = str(row["patch_id"])
        image = compose(source, name, files, BANDS, visible) if bands else files.get(name, name)
        return Entry(image, row["labels"], split=split_name(row.get("split") or ""))

    below = replace(source, root=unpack_folder(source)) if bands else source
    return read_listing(below, "bigearthnet", parse, content="a table of patches", paths="exact")


def visible(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the grey values of a band (H, W)."""
    reflectance = np.asarray(image, np.float32)
    grey: npt.NDArray[np.uint8] = np.clip(reflectance * (255 / WHITE), 0, 255).astype(np.uint8)
    return grey
