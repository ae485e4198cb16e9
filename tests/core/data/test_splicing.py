"""Spliced images show the images that their targets are from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sadcl_core.data.splicing import GRIDS, Splices, splice


def batch(count: int) -> tuple[Tensor, Tensor]:
    """Image k is k + 1 everywhere; class k is active in it alone, every fifth label is unknown."""
    images = torch.arange(1.0, count + 1)[:, None, None, None].expand(count, 3, 12, 12).contiguous()
    targets = torch.eye(count, dtype=torch.int8)
    targets[torch.rand(count, count, generator=torch.Generator().manual_seed(0)) < 0.2] = -1
    return images, targets


@pytest.mark.parametrize("count", [2, 3, 4, 9, 16])
def test_cells_show_their_images_and_targets_are_the_union_of_the_shown(count: int) -> None:
    images, targets = batch(count)
    grids, blank = set(), 0
    for seed in range(40):
        spliced, labels, splices = splice(images, targets, generator=torch.Generator().manual_seed(seed), black=-7.0)
        assert splices is not None
        assert len(spliced) == len(labels) == count + max(count // 4, 1)
        assert spliced[:count].equal(images)
        assert labels[:count].equal(targets)
        grids.add(splices.grid)
        colours = splices.cells(spliced[count:])[:, 0].mean(dim=(1, 2)).view_as(splices.sources)
        assert colours.allclose(torch.where(splices.shown, splices.sources + 1.0, -7.0))
        blank += int((~splices.shown).any(dim=1).sum())
        for row, (sources, shown) in enumerate(zip(splices.sources, splices.shown, strict=True)):
            assert len(set(sources.tolist())) == len(sources)
            assert shown.any()
            seen = targets[sources[shown]]
            for k, label in enumerate(labels[count + row].tolist()):
                column = seen[:, k].tolist()
                assert label == (1 if 1 in column else -1 if -1 in column else 0)
    assert grids <= {*GRIDS, *((columns, rows) for rows, columns in GRIDS)}
    assert len(grids) == (5 if count >= 6 else 3 if count >= 4 else 2)
    assert blank


def test_a_size_that_the_grid_does_not_divide_stays() -> None:
    images, targets = torch.rand(6, 3, 13, 17), torch.zeros(6, 2)
    for seed in range(8):
        assert splice(images, targets, generator=torch.Generator().manual_seed(seed))[0].shape == (7, 3, 13, 17)


def test_one_image_has_no_other_to_be_spliced_with() -> None:
    images, targets = batch(1)
    assert splice(images, targets, generator=torch.Generator()) == (images, targets, None)


def test_cells_of_maps_lie_where_the_cells_of_the_image_are() -> None:
    maps = torch.arange(36.0).view(1, 1, 6, 6)
    cells = Splices((2, 3), torch.zeros(1, 6), torch.ones(1, 6)).cells(maps)
    assert cells[4, 0].equal(maps[0, 0, 3:, 2:4])
