"""Alone and with two processes that really run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from sadcl_core.distributed import gathered, summed
from sadcl_core.model.memory_bank import MemoryBank


def test_alone_nothing_changes() -> None:
    rows = torch.randn(3, 2)
    assert gathered(rows) is rows
    assert summed(rows) is rows


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of both processes: features (7, 3, 2), targets and scores; the first process has 5 images, the second 2."""
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(7, 3, generator=generator) < 0.6).long()
    return torch.randn(7, 3, 2, generator=generator), targets, torch.rand(7, 3, generator=generator)


def in_each_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    features, targets, scores = (part[:5] if rank == 0 else part[5:] for part in batch())
    bank = MemoryBank(slots=3, num_classes=3, width=2)
    bank.remember(features, targets, scores, min_score=0.3)
    bank.remember(features[:0], targets[:0], scores[:0], min_score=0.3)  # nothing anywhere
    total = summed(torch.tensor([1.0 + rank]))
    torch.save({"bank": bank.state_dict(), "rows": gathered(features), "total": total}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_hold_the_bank_of_one(tmp_path: Path) -> None:
    spawn(in_each_process, args=(str(tmp_path),), nprocs=2)
    features, targets, scores = batch()
    alone = MemoryBank(slots=3, num_classes=3, width=2)
    alone.remember(features, targets, scores, min_score=0.3)
    assert alone.filled.any()
    for rank in range(2):
        stored = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(stored["rows"], features)
        assert stored["total"].item() == 3
        for name, tensor in alone.state_dict().items():
            assert torch.equal(stored["bank"][name], tensor), name
