"""Alone and with two processes that really run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import load_manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.data.shards import write_shards
from sadcl_core.errors import NotFiniteError
from sadcl_core.evaluation.score_split import score_split
from sadcl_core.inference.load import load_trained
from sadcl_core.model.memory_bank import BatchBank, MemoryBank, confident
from sadcl_core.runtime.distributed import (
    all_gather,
    all_gather_with_grad,
    all_reduce,
    any_rank,
    average_buffers,
    broadcast,
    get_rank,
    get_world_size,
)
from tests.processes import run_ranks


def test_alone_nothing_changes() -> None:
    rows = torch.randn(3, 2)
    assert all_gather(rows) is rows
    assert all_reduce(rows) is rows
    assert (get_rank(), get_world_size()) == (0, 1)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of both processes: features (7, 3, 2), targets and scores; the first process has 5 images, the second 2."""
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(7, 3, generator=generator) < 0.6).long()
    return torch.randn(7, 3, 2, generator=generator), targets, torch.rand(7, 3, generator=generator)


def in_each_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    talk(rank)
    features, targets, scores = (part[:5] if rank == 0 else part[5:] for part in batch())
    bank = MemoryBank(slots=3, num_classes=3, width=2)
    bank.write(*confident(features, targets, scores, min_score=0.3))
    bank.write(*confident(features[:0], targets[:0], scores[:0], min_score=0.3))  # nothing anywhere
    by_place = BatchBank(slots=10, num_classes=3, width=2)
    by_place.write(*confident(features, targets, scores, min_score=0.3))
    places = by_place.features, by_place.contrasted(targets == 1)
    total = all_reduce(torch.tensor([1.0 + rank]))
    torch.save(
        {"bank": bank.state_dict(), "places": places, "rows": all_gather(features), "total": total}, Path(folder) / f"{rank}.pt"
    )
    dist.destroy_process_group()


def talk(rank: int) -> None:
    """Check what the processes tell each other."""
    assert broadcast(f"from {rank}") == "from 0"
    assert any_rank(rank == 1)
    assert not any_rank(False)
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean.fill_(float(rank))  # type: ignore[union-attr]
    average_buffers(norm)
    assert norm.running_mean.tolist() == [0.5, 0.5]  # type: ignore[union-attr]
    rows = torch.full((rank, 2), float(rank), requires_grad=True)  # none in the first process
    everybody = all_gather_with_grad(rows)
    assert everybody.tolist() == [[1.0, 1.0]]
    (everybody.sum() * (rank + 1)).backward()
    assert rows.grad is not None
    assert rows.grad.tolist() == [[3.0, 3.0]] * rank  # what each process wants of them, 1 and 2
    assert len(all_gather_with_grad(torch.zeros(0, 2, requires_grad=True))) == 0


@pytest.mark.slow
def test_two_processes_hold_the_bank_of_one(tmp_path: Path) -> None:
    run_ranks(in_each_process, tmp_path)
    features, targets, scores = batch()
    alone = MemoryBank(slots=3, num_classes=3, width=2)
    alone.write(*confident(features, targets, scores, min_score=0.3))
    assert alone.filled.any()
    slots = torch.tensor([0, 2, 4, 6, 8, 1, 3])  # of five images here and two there
    active, remembered = torch.zeros(10, 3, dtype=torch.bool), torch.zeros(10, 3, 2)
    active[slots] = targets == 1
    remembered[slots] = features * ((targets == 1) & (scores > 0.3))[..., None]
    for rank in range(2):
        stored = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(stored["rows"], features)
        assert stored["total"].item() == 3
        assert all(torch.equal(one, other) for one, other in zip(stored["places"], (remembered, active), strict=True))
        for name, tensor in alone.state_dict().items():
            assert torch.equal(stored["bank"][name], tensor), name


def as_it_is(image: torch.Tensor) -> torch.Tensor:
    return image


def stream_in_each_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    split = load_manifest(Path(folder) / "shards").split("train")
    seen = {}
    for workers in (0, 1):
        loader = make_loader(split, as_it_is, batch_size=6, workers=workers, shuffle_seed=0)
        batches = [indices for *_, indices in loader.epoch(1)]
        assert [len(indices) for indices in batches] == [3] * len(loader) == [3] * 4  # half of each batch, and as many
        again = [indices for *_, indices in loader.epoch(1)]
        assert all(torch.equal(one, other) for one, other in zip(batches, again, strict=True))
        rest = [indices for *_, indices in loader.epoch(1, skip=3)]
        assert torch.equal(rest[0], batches[3])
        seen[workers] = torch.cat(batches)
    torch.save({"place": (get_rank(), get_world_size()), "seen": seen}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_stream_images_of_their_own_in_as_many_batches(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_shards(prepare("coco", data=coco).manifest, tmp_path / "shards")
    run_ranks(stream_in_each_process, tmp_path)
    stored = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert [one["place"] for one in stored] == [(0, 2), (1, 2)]
    for workers in (0, 1):
        parts = [one["seen"][workers].tolist() for one in stored]
        assert not set(parts[0]) & set(parts[1])
        # shards differ in size: what one process has too many of is left out, and the other starts over
        assert len({*parts[0], *parts[1]}) >= 20


def score_in_each_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    if rank >= 0:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    opened = load_trained(Path(folder) / "run")
    candidate = score_split(
        opened, load_manifest(Path(folder) / "prepared").split("train"), batch_size=5, workers=0, similarity=True
    )
    assert candidate.similarity is not None
    assert candidate.localisation is not None
    sums = np.stack([getattr(candidate.localisation, name) for name in ("pointing", "energy", "area", "counts")])
    parts = {
        "scores": candidate.scores,
        "targets": candidate.targets,
        "similarity": candidate.similarity,
        "places": sums,
    }
    np.savez(Path(folder) / f"{rank}.npz", allow_pickle=False, **parts)
    if rank == 1:  # NaN in one process ends both, and neither waits for the other
        with torch.no_grad():
            for parameter in opened.classifier.head.parameters():
                parameter.fill_(torch.nan)
    if rank >= 0:
        with pytest.raises(NotFiniteError):
            score_split(opened, load_manifest(Path(folder) / "prepared").split("train"), batch_size=5, workers=0)
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_score_as_one_to_the_last_digit(trained: Path, tmp_path: Path) -> None:
    """24 images in batches of 5: three batches for the first process, the last one of 4 images among the second's two."""
    shutil.copytree(trained / "runs" / "coco", tmp_path / "run")
    shutil.copytree(trained / "prepared" / "coco", tmp_path / "prepared")
    run_ranks(score_in_each_process, tmp_path)
    run_ranks(in_no_group, tmp_path, count=1)
    alone, first, second = (np.load(tmp_path / f"{rank}.npz") for rank in (-1, 0, 1))
    assert alone["scores"].shape == (24, 10)
    for name in ("scores", "targets", "similarity", "places"):
        assert np.array_equal(first[name], second[name], equal_nan=True), name
        if name == "places":  # sums over images, taken in another order
            np.testing.assert_allclose(first[name], alone[name], rtol=1e-12)
        else:
            assert np.array_equal(first[name], alone[name], equal_nan=True), name


def in_no_group(_: int, folder: str) -> None:
    score_in_each_process(-1, folder)
