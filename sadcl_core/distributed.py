"""What several processes that train together have to agree on; alone, every function returns what it was given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that torchrun or accelerate launch started, and leave them at the end; alone, nothing happens.

    Each process gets a GPU of its own where there are any.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def first_one_first() -> Iterator[None]:
    """Let the first process go through the block before all others, which then find what it made."""
    if together() and dist.get_rank() > 0:
        dist.barrier()
    yield
    if together() and dist.get_rank() == 0:
        dist.barrier()


def works_alone() -> bool:
    """Whether this process does what only one is to do: the first of those that a launcher started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def together() -> bool:
    """Whether this is one of several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def place() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if together() else (0, 1)


def gathered(rows: Tensor) -> Tensor:
    """(N, ...) of this process -> the rows of all processes, by rank; N may differ. Carries no gradient."""
    if not together():
        return rows
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = max(int(count) for count in counts)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, on the device that the values are on."""
    if not together():
        return values
    total = values.cuda() if dist.get_backend() == "nccl" else values.clone()
    dist.all_reduce(total)
    return total.to(values.device)
