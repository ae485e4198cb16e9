"""What one thread of this machine can do at most: bytes a second from and to memory, products of matrices a second.

python benchmarks/limits.py. The best of several runs each. Other programs print what they measure beside these.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

BYTES = 2**29
SIDE = 2048
REPEATS = 5


def bandwidth() -> float:
    """Return the bytes a second that a copy of a large array reads and writes."""
    source = torch.ones(BYTES // 4)
    target = torch.empty_like(source)
    return 2 * BYTES / best(lambda: target.copy_(source))


def read_bandwidth() -> float:
    """Return the bytes a second that are read of a large array, for its sum."""
    source = torch.ones(BYTES // 4)
    return BYTES / best(source.sum)


def products() -> float:
    """Return the operations a second of a product of two matrices in fp32."""
    matrix = torch.ones(SIDE, SIDE)
    return 2 * SIDE**3 / best(lambda: matrix @ matrix)


def best(work: Callable[[], object]) -> float:
    """Return the seconds of the processor of the fastest of several runs, after one that is not counted."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| one thread | at most |\n| --- | --- |")
    print(f"| copying, read and written | {bandwidth() / 1e9:.1f} GB/s |")
    print(f"| reading | {read_bandwidth() / 1e9:.1f} GB/s |")
    print(f"| products of matrices, fp32 | {products() / 1e9:.0f} GFLOP/s |")
