from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sadcl_core.data.dataset import loader_workers, make_loader
from sadcl_core.data.formats.coco import read
from sadcl_core.data.formats.source import Source
from sadcl_core.data.transforms import Preprocessing, augmentation
from sadcl_core.errors import DataError

RESIZE = Preprocessing(img_size=32, mean=(0, 0, 0), std=(1, 1, 1)).resize


def test_batches_hold_every_image_once_in_order(coco: Path) -> None:
    split = read(Source("coco", coco)).split("train")
    images, targets, indices = zip(*make_loader(split, RESIZE, batch_size=7, workers=0), strict=True)
    assert torch.cat(indices).tolist() == list(range(len(split)))
    assert [len(batch) for batch in images] == [7, 7, 7, 3]
    assert images[0].dtype == torch.uint8
    stacked = torch.cat(targets)
    assert all(stacked[i].tolist() == split.targets(i).tolist() for i in range(len(split)))


def test_views_are_transformed_one_by_one(coco: Path) -> None:
    split = read(Source("coco", coco)).split("train")
    images, targets, _ = next(iter(make_loader(split, augmentation("shift-and-turn", 32), views=2, batch_size=4, workers=0)))
    assert images.shape == (4, 2, 3, 32, 32)
    assert targets.shape == (4, 10)
    assert not torch.equal(images[:, 0], images[:, 1])
    same, _, _ = next(iter(make_loader(split, RESIZE, views=2, batch_size=4, workers=0)))
    assert torch.equal(same[:, 0], same[:, 1])


def test_workers_give_the_same_batches(coco: Path) -> None:
    split = read(Source("coco", coco)).split("train")
    alone, helped = (list(make_loader(split, RESIZE, batch_size=7, workers=count)) for count in (0, 2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(alone, helped, strict=True))


def test_shuffled_by_seed_and_differently_each_epoch(coco: Path) -> None:
    split = read(Source("coco", coco)).split("train")

    def epochs(seed: int) -> list[list[int]]:
        loader = make_loader(split, RESIZE, batch_size=24, workers=0, shuffle_seed=seed)
        return [next(loader.epoch(number))[0].flatten(1).sum(1).tolist() for number in (1, 2)]

    assert epochs(1) == epochs(1)
    first, second = epochs(1)
    assert first != second
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize(("limit", "batches"), [(9, 1), (10, 2), (1, 1)])
def test_a_last_batch_of_one_is_left_out_of_training(coco: Path, limit: int, batches: int) -> None:
    split = read(Source("coco", coco)).split("train")
    assert len(list(make_loader(split, RESIZE, limit=limit, batch_size=8, workers=0, shuffle_seed=0))) == batches
    assert sum(len(images) for images, *_ in make_loader(split, RESIZE, limit=limit, batch_size=8, workers=0)) == limit


@pytest.mark.parametrize("workers", [0, 1])
def test_a_vanished_image_is_one_sentence_with_or_without_workers(coco: Path, workers: int) -> None:
    split = read(Source("coco", coco)).split("train")
    split.path(5).unlink()
    with pytest.raises(DataError) as caught:
        list(make_loader(split, RESIZE, batch_size=4, workers=workers))
    assert str(caught.value) == f"{split.path(5)}: no such file."


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loader_workers(3, 10) == 3
    assert loader_workers(0, 10**6) == 0
    assert loader_workers(None, 10) == 0
    for processors, workers in ((1, 0), (2, 1), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=processors: set(range(count)), raising=False)
        assert loader_workers(None, 10**6) == workers
