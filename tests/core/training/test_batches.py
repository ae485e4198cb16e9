"""Tests of the batches that a stage trains on."""

import pytest
import torch

from sadcl_core.training.batches import split_batch


@pytest.mark.parametrize(("images", "views", "parts", "sizes"), [(7, 1, 2, [4, 3]), (5, 2, 3, [4, 4, 2]), (2, 1, 9, [1, 1])])
def test_micro_batches_are_as_many_as_requested_and_keep_views_together(
    images: int, views: int, parts: int, sizes: list[int]
) -> None:
    batch = torch.arange(images * views)[:, None]
    micro_batches = split_batch(batch, batch, parts=parts, batch_size=images)
    assert [len(part) for part, _ in micro_batches] == sizes
    assert torch.equal(torch.cat([targets for _, targets in micro_batches]), batch)
