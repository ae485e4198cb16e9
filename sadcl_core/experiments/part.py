"""Part of the training images to judge settings by, so that no held-out image takes part in a choice."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.stratify import stratify_rows
from sadcl_core.errors import DataError, UsageError
from sadcl_core.training.setup import limited

FIT, JUDGE = "fit", "judge"  # names of the two parts of the training split
JUDGED = 0.25  # share of the second


def part_of_training(manifest: Manifest, split: str, *, limit: int = 0) -> Manifest:
    """Return the images of a split alone, divided into those to train on and those to judge by.

    Every class has its share in both, see `stratify`; the same images come out each time. With a `limit`, they are those that
    runs with this `data.limit` train on.

    Raises:
        UsageError: the images are in shards, which cannot be divided.
        DataError: there are too few images.
    """
    if manifest.description.shards is not None:
        raise UsageError(
            f"Settings are judged by a part of images that are files, and those of {manifest.description.name} are in shards."
        )
    manifest = limited(manifest, limit)
    rows = manifest.rows.filter(pc.equal(manifest.rows["split"], split))
    if rows.num_rows < 1 / JUDGED:
        raise DataError(f"Split {split} of {manifest.description.name} has {rows.num_rows} images: too few to judge settings by.")
    codes = stratify_rows(rows, [1 - JUDGED, JUDGED], seed=1)
    order = np.argsort(codes, kind="stable")
    names = pa.array([(FIT, JUDGE)[code] for code in codes[order].tolist()], rows["split"].type)
    rows = rows.take(pa.array(order)).set_column(rows.column_names.index("split"), "split", pa.chunked_array([names]))
    return Manifest(manifest.description, rows)
