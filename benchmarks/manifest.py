"""What a large manifest costs: python benchmarks/manifest.py [IMAGES] [CLASSES].

Prints, for a generated data set, the size on disk, the time to open it and to count its labels, the memory it takes, and
what reaches a loader worker that is started anew. Times are also given as ratios to the time Python needs to walk over the
same rows as a plain list, in the same run.
"""

from __future__ import annotations

import pickle
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from sadcl_core.data.manifest import ROWS, SCHEMA, Description, Manifest, load_manifest


def generate(images: int, classes: int) -> Manifest:
    """Three labels an image, no boxes."""
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, classes, (images, 3), dtype=np.int32), axis=1)
    offsets = pa.array(np.arange(0, 3 * images + 1, 3, dtype=np.int32))
    empty = pa.ListArray.from_arrays(pa.array(np.zeros(images + 1, np.int32)), pa.array([], pa.int32()))
    split = pa.DictionaryArray.from_arrays(pa.array((np.arange(images) % 10 == 0).astype(np.int32)), pa.array(["train", "val"]))
    columns = [
        pa.array([f"train/{number:012d}.jpg" for number in range(images)]),
        split,
        pa.ListArray.from_arrays(offsets, pa.array(labels.ravel())),
        empty,
        pa.nulls(images, SCHEMA.field("boxes").type),
    ]
    description = Description(name="generated", root=Path("/images"), classes=tuple(f"class {k}" for k in range(classes)))
    return Manifest(description, pa.table(columns, schema=SCHEMA))


def memory() -> float:
    """Peak of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(images: int, classes: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = generate(images, classes)
        rows = manifest.rows["active"].to_pylist()
        start = time.perf_counter()
        plain = np.zeros(classes, np.int64)
        for row in rows:
            for label in row:
                plain[label] += 1
        walk = time.perf_counter() - start
        manifest.save(folder)
        del manifest, rows
        before = memory()
        start = time.perf_counter()
        train = load_manifest(folder).split("train")
        opened = time.perf_counter() - start
        start = time.perf_counter()
        counts = train.class_counts()
        counted = time.perf_counter() - start
        assert counts.sum() <= plain.sum()
        print(f"{images:,} images, {classes:,} classes")
        print(f"on disk           {(folder / ROWS).stat().st_size / 2**20:8.1f} MiB")
        print(
            f"Arrow memory      {pa.total_allocated_bytes() / 2**20:8.1f} MiB, peak of the process {memory() - before:+.1f} MiB"
        )
        print(f"open and split    {opened:8.3f} s   {opened / walk:6.3f} of a walk over a plain list")
        print(f"count the labels  {counted:8.3f} s   {counted / walk:6.3f} of a walk over a plain list")
        print(f"sent to a worker  {len(pickle.dumps(train)):8,} bytes")


if __name__ == "__main__":
    main(*(int(argument) for argument in (sys.argv[1:] + ["1000000", "80"][len(sys.argv) - 1 :])))
