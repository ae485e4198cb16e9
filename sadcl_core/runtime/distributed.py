"""Communication between the processes that torchrun started; a process that is alone gets back its own values.

Names are accelerate's and torch's. Everything works on torch's process group, so that nothing needs accelerate's own state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sadcl_core.errors import MachineError, SadclError

T = TypeVar("T")
LOST = re.compile(r"Connection (closed|reset)|Broken pipe|Timed out|NCCL|timeout|remote process", re.IGNORECASE)


def is_distributed() -> bool:
    """Return True if this is one of several processes that have joined."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def get_rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


def get_world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if is_distributed() else 1


def barrier() -> None:
    """Return when every process has come here."""
    if is_distributed():
        dist.barrier()


def broadcast(value: T) -> T:
    """Return on every process the value that the first one gave."""
    values = [value]
    if is_distributed():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def all_reduce(values: Tensor, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """Return the sum over all processes, element by element, or another reduction of them."""
    if not is_distributed():
        return values
    total = values.clone()
    dist.all_reduce(total, op)
    return total


def all_reduce_min(number: int) -> int:
    """Return the smallest of the processes' numbers."""
    return int(all_reduce(torch.tensor(number), dist.ReduceOp.MIN))


def any_rank(condition: bool) -> bool:
    """Return True if the condition holds on at least one process."""
    return bool(all_reduce(torch.tensor(float(condition))) > 0)


def all_gather(rows: Tensor) -> Tensor:
    """Return the rows of all processes by rank, without a gradient: (N, ...) -> (sum of N, ...); N may differ."""
    return all_gather_with_grad(rows.detach()) if is_distributed() else rows


def all_gather_with_grad(rows: Tensor) -> Tensor:
    """Return the rows of all processes by rank: (N, ...) -> (sum of N, ...); N may differ.

    The gradient goes back to where a row is from. Where every process computes the same loss from the same rows and gradients
    of weights are averaged over processes, as DistributedDataParallel does, each weight gets the gradient that one process
    with all rows would give it.
    """
    if not is_distributed():
        return rows
    counts = _Gather.apply(torch.tensor([len(rows)], device=rows.device)).flatten().tolist()
    padded = torch.cat([rows, rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])])
    parts = _Gather.apply(padded) if max(counts) else padded[None].expand(len(counts), *padded.shape)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


class _Gather(torch.autograd.Function):
    """Equal numbers of rows of all processes: (N, ...) -> (processes, N, ...).

    torch.distributed.nn.functional.all_gather needs an all-to-all for its gradient, which gloo beside nccl does not have.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """Gather."""
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Add up what the loss of every process asks of these rows."""
        return all_reduce(gradient.contiguous())[dist.get_rank()]


@torch.no_grad()
def average_buffers(module: nn.Module) -> None:
    """Set floating-point buffers, such as the statistics of BatchNorm, to their mean over the processes."""
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()] if is_distributed() else []
    if buffers:
        flat = all_reduce(torch.cat([buffer.flatten().float() for buffer in buffers])) / dist.get_world_size()
        for buffer, mean in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(mean.view_as(buffer))


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Raise a MachineError of one sentence where torch reports in many that another process ended."""
    try:
        yield
    except RuntimeError as error:
        if not is_distributed() or isinstance(error, SadclError) or not LOST.search(str(error)):
            raise
        raise MachineError(
            f"Another process ended, so process {dist.get_rank()} cannot go on. See the other one's error."
        ) from None
