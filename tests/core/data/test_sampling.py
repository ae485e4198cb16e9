from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sadcl_core.data.sampling import EpochBatches
from sadcl_core.errors import UsageError


def images(batches: EpochBatches) -> list[list[int]]:
    return [[index for index, _ in batch] for batch in batches]


def of_epoch(batches: EpochBatches, epoch: int, skip: int = 0) -> EpochBatches:
    batches.epoch, batches.skip = epoch, skip
    return batches


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    batches = EpochBatches(23, 5, seed=1)
    orders = [images(of_epoch(batches, epoch)) for epoch in (1, 2)]
    for order in orders:
        assert [len(batch) for batch in order] == [5, 5, 5, 5, 3]
        assert sorted(index for batch in order for index in batch) == list(range(23))
    assert orders[0] != orders[1]
    assert images(of_epoch(EpochBatches(23, 5, seed=1), 2)) == orders[1]
    assert images(of_epoch(EpochBatches(23, 5, seed=2), 2)) != orders[1]


@pytest.mark.parametrize(("count", "size", "expected"), [(21, 5, 4), (22, 5, 5), (5, 5, 1), (1, 5, 1), (6, 5, 1), (20, 5, 4)])
def test_a_last_batch_of_one_image_is_left_out(count: int, size: int, expected: int) -> None:
    batches = EpochBatches(count, size, seed=0)
    assert len(batches) == len(images(batches)) == expected


@pytest.mark.parametrize(("count", "size", "expected"), [(23, 5, 4), (25, 5, 5), (3, 5, 1)])
def test_a_smaller_last_batch_is_left_out_where_asked(count: int, size: int, expected: int) -> None:
    batches = EpochBatches(count, size, seed=0, drop_last=True)
    assert len(batches) == len(images(batches)) == expected


def test_the_rest_of_an_epoch_is_what_would_have_come() -> None:
    batches = EpochBatches(23, 5, seed=1)
    whole = list(of_epoch(batches, 3))
    assert list(of_epoch(batches, 3, skip=2)) == whole[2:]
    assert len(batches) == 5


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_shares_of_processes_make_the_batches_of_one(world_size: int) -> None:
    whole = list(of_epoch(EpochBatches(27, 6, seed=1), 2))
    shares = [list(of_epoch(EpochBatches(27, 6, seed=1, process=(rank, world_size)), 2)) for rank in range(world_size)]
    together = [[key for share in shares for key in share[number]] for number in range(len(shares[0]))]
    assert together == whole[:4]  # the last one of 3 images is too small to be shared by two
    assert all(batch for share in shares for batch in share)


def test_more_processes_than_images_are_refused() -> None:
    with pytest.raises(UsageError, match="A batch of 6 images cannot be shared by 8 processes"):
        EpochBatches(100, 6, seed=0, process=(0, 8))


def test_seeds_differ_from_image_to_image_and_epoch_to_epoch() -> None:
    seeds = [seed for epoch in (1, 2) for batch in of_epoch(EpochBatches(23, 5, seed=1), epoch) for _, seed in batch]
    assert len(set(seeds)) == 46


def test_weights_are_how_often_images_are_drawn() -> None:
    weights = np.array([0.5, 0.25, 0.25, 0.0])
    batches = EpochBatches(4, 2, seed=0, weights=weights)
    counts = Counter(index for epoch in range(1, 1001) for batch in images(of_epoch(batches, epoch)) for index in batch)
    assert sum(counts.values()) == 4000
    for index, weight in enumerate(weights):
        assert counts[index] / 4000 == pytest.approx(weight, abs=0.03)
    drawn = [index for batch in images(of_epoch(batches, 7)) for index in batch]
    assert [index for batch in images(of_epoch(EpochBatches(4, 2, seed=0, weights=weights), 7)) for index in batch] == drawn
