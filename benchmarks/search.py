"""Exact search by cosine among 1,000,000 vectors of 256 numbers. Run: python benchmarks/search.py [ROWS] [WIDTH].

The best of several runs each: reading all vectors once (the bound of the memory), the bare product of all vectors with the
query, the product and a full sort, and `sadcl_core.inference.search.nearest` with the 20 best, from memory, from a mapped file
and among the rows of one label in twenty. The result is compared with that of the sort.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sadcl_core.inference.embedding_index import unit
from sadcl_core.inference.search import nearest
from sadcl_core.runtime.threads import count_processors

COUNT, REPEATS, PIECE = 20, 5, 100_000


def best_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the shortest time in seconds, and the result."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def main(rows: int, width: int) -> None:
    """Measure and print."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, width))
        for start in range(0, rows, PIECE):
            mapped[start : start + PIECE] = unit(rng.standard_normal((min(PIECE, rows - start), width), dtype=np.float32))
        mapped.flush()
        vectors, mapped = np.array(mapped), np.load(path, mmap_mode="r")
        query = vectors[rows // 2]
        label = np.arange(0, rows, 20)
        bytes_read, _ = best_of(lambda: vectors.view(np.int32).max())
        product, _ = best_of(lambda: vectors @ query)
        sort, order = best_of(lambda: np.argsort(-(vectors @ query), kind="stable")[:COUNT])
        ways = {
            "nearest, in memory": lambda: nearest(vectors, query, COUNT),
            "nearest, mapped file": lambda: nearest(mapped, query, COUNT),
            "nearest, one label in twenty": lambda: nearest(mapped, query, COUNT, rows=label),
        }
        print(f"{rows:,} x {width} float32, {vectors.nbytes / 2**30:.2f} GiB, {count_processors()} processors")
        print(f"{'read once':<30} {bytes_read:7.3f} s  {vectors.nbytes / 2**30 / bytes_read:5.1f} GiB/s")
        print(f"{'bare product':<30} {product:7.3f} s  {vectors.nbytes / 2**30 / product:5.1f} GiB/s")
        print(f"{'product and sort':<30} {sort:7.3f} s  {sort / product:5.2f} times the product")
        for name, work in ways.items():
            seconds, (found, _) = best_of(work)
            same = "" if "label" in name else f", the same rows as the sort: {np.array_equal(found, order)}"
            print(f"{name:<30} {seconds:7.3f} s  {seconds / product:5.2f} times the product{same}")


if __name__ == "__main__":
    main(*[int(argument) for argument in [*sys.argv[1:], *("1000000", "256")[len(sys.argv) - 1 :]]])
