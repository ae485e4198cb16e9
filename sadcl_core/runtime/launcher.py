"""Processes that a launcher such as torchrun started; imports no torch where there is one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta


def is_main_process() -> bool:
    """Return True in the process that writes files and results: the first of those that a launcher started, or the only one.

    Example:
        >>> is_main_process()
        True
    """
    return int(os.environ.get("RANK", "0")) == 0


def is_launched() -> bool:
    """Return True in one of several processes that a launcher started.

    Example:
        >>> is_launched()
        False
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes that torchrun or accelerate launch started, and leave them at the end.

    Each process gets a GPU of its own where there are any. Alone, or inside such a block, nothing happens.
    """
    if not is_launched():
        yield
        return
    import torch
    import torch.distributed as dist

    from sadcl_core.runtime.distributed import explain_lost_process

    if dist.is_initialized():
        yield
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # the others may have to wait while one prepares the data
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=timedelta(hours=2))
    with explain_lost_process():
        yield
    dist.destroy_process_group()  # not after an error: it would wait for the others, who wait for this one


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the first process go through the block before all others, which then see the files it made."""
    if not is_launched():
        yield
        return
    from sadcl_core.runtime.distributed import barrier

    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()
