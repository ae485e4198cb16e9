"""What several processes that train together have to agree on; alone, every function returns what it was given."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sadcl_core.errors import MachineError, SadclError

T = TypeVar("T")
LOST = re.compile(r"Connection (closed|reset)|Broken pipe|Timed out|NCCL|timeout|remote process", re.IGNORECASE)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes that torchrun or accelerate launch started, and leave them at the end; alone, nothing happens.

    Each process gets a GPU of its own where there are any.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # the others may have to wait while one prepares the data
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=timedelta(hours=2))
    with explain_lost_process():
        yield
    dist.destroy_process_group()  # after an error the others would be waited for, who wait for this one


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the first process go through the block before all others, which then find what it made."""
    if is_distributed() and dist.get_rank() > 0:
        dist.barrier()
    yield
    if is_distributed() and dist.get_rank() == 0:
        dist.barrier()


def is_main_process() -> bool:
    """Whether this process does what only one is to do: the first of those that a launcher started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def is_distributed() -> bool:
    """Whether this is one of several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def get_rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


def get_world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if is_distributed() else 1


def all_gather(rows: Tensor) -> Tensor:
    """(N, ...) of this process -> the rows of all processes, by rank; N may differ. Carries no gradient."""
    if not is_distributed():
        return rows
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = max(int(count) for count in counts)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def all_reduce(values: Tensor) -> Tensor:
    """The sum over all processes, on the device that the values are on."""
    if not is_distributed():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


class _Rows(torch.autograd.Function):
    """The rows of all processes, padded to equal numbers: (N, ...) -> (processes, N, ...)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """See the class."""
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The sum of what every process wants of these rows."""
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def all_gather_with_grad(rows: Tensor) -> Tensor:
    """(N, ...) of this process -> the rows of all processes, by rank; N may differ.

    The gradient goes back to where a row is from. Where every process computes the same loss from the same rows and gradients
    of weights are averaged over processes, as DistributedDataParallel does, each weight gets the gradient that one process
    with all rows would give it.
    """
    if not is_distributed():
        return rows
    counts = all_gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    padded = torch.cat([rows, rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])])
    parts = _Rows.apply(padded) if max(counts) else padded[None].expand(len(counts), *padded.shape)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


@torch.no_grad()
def average_buffers(module: nn.Module) -> None:
    """Let all processes hold the mean of the floating-point buffers, such as the statistics of BatchNorm."""
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()] if is_distributed() else []
    if buffers:
        flat = torch.cat([buffer.flatten().float() for buffer in buffers])
        flat = all_reduce(flat) / dist.get_world_size()
        for buffer, mean in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(mean.view_as(buffer))


def broadcast(value: T) -> T:
    """What the first process says, on all of them."""
    if not is_distributed():
        return value
    said = [value]
    dist.broadcast_object_list(said, src=0)
    return said[0]


def all_reduce_min(number: int) -> int:
    """The smallest of the numbers that the processes have."""
    if not is_distributed():
        return number
    smallest = torch.tensor(number)
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    return int(smallest)


def barrier() -> None:
    """Return when every process has come here."""
    if is_distributed():
        dist.barrier()


def any_rank(condition: bool) -> bool:
    """Whether it is so on at least one process."""
    return bool(all_reduce(torch.tensor(float(condition))) > 0)


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Say in one sentence that another process ended, where torch says it in many.

    Raises:
        MachineError: it did.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_distributed() or isinstance(error, SadclError) or not LOST.search(str(error)):
            raise
        raise MachineError(
            f"Another process of this training ended, so process {dist.get_rank()} cannot go on. Look for what that one said."
        ) from None
