"""SpliceMix: further images of a batch, tiled from cells that each show a whole image at a smaller size.

Wang et al., "Splicemix: A Cross-scale and Semantic Blending Augmentation Strategy for Multi-label Image Classification", arXiv
2311.15200. The labels of a spliced image are those of its cells together. Everything is drawn from the given generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GRIDS, CHANCES = ((1, 2), (2, 2), (2, 3)), (0.3, 0.4, 0.3)  # rows and columns; those that are not square are turned half the time
BLANKED = 0.3  # chance that cells of a spliced image are left blank
PART = 4  # one spliced image for so many images of a batch


@dataclass(frozen=True)
class Splices:
    """Places of images in the spliced images of a batch, which follow the B images themselves.

    Attributes:
        grid: rows and columns of cells.
        sources: (E, cells), the image in each cell, row by row.
        shown: (E, cells), false where a cell is blank.
    """

    grid: tuple[int, int]
    sources: Tensor
    shown: Tensor

    def cells(self, maps: Tensor) -> Tensor:
        """Return (E * cells, D, h / rows, w / columns), the cells of maps (E, D, h, w); a rest at the edges is cut off.

        Example:
            >>> splices = Splices((1, 2), torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool))
            >>> splices.cells(torch.tensor([[[[1, 1, 2, 2]]]])).tolist()
            [[[[1, 1]]], [[[2, 2]]]]
        """
        rows, columns = self.grid
        tall, wide = max(maps.shape[2] // rows, 1), max(maps.shape[3] // columns, 1)
        tops = [row * maps.shape[2] // rows for row in range(rows)]
        lefts = [column * maps.shape[3] // columns for column in range(columns)]
        cells = [maps[:, :, top : top + tall, left : left + wide] for top in tops for left in lefts]
        return torch.stack(cells, dim=1).flatten(0, 1)


def splice(
    images: Tensor, targets: Tensor, *, generator: torch.Generator, black: Tensor | float = 0.0
) -> tuple[Tensor, Tensor, Splices | None]:
    """Add a spliced image for every four of a batch, one at least.

    Args:
        images: (B, 3, S, S) of a floating type, on any device.
        targets: (B, K) with 1, 0 or -1 for unknown, or what lies between where images were mixed.
        generator: source of all random numbers, on the CPU.
        black: the value of a blank cell, for each channel (3, 1, 1) or all of them.

    Returns:
        Images (B + E, 3, S, S) and targets (B + E, K), spliced ones behind, and where their cells are from; for fewer than two
        images the arguments and None. In a spliced image a label is active if it is in one of the cells shown, else unknown if it
        is unknown in one of them.

    Example:
        >>> images, targets = torch.rand(4, 3, 8, 8), torch.eye(4, dtype=torch.int8)
        >>> spliced, labels, splices = splice(images, targets, generator=torch.Generator().manual_seed(0))
        >>> spliced.shape, labels[4].tolist(), splices.sources.tolist(), splices.shown.tolist()
        (torch.Size([5, 3, 8, 8]), [1, 1, 1, 1], [[3, 2, 0, 1]], [[True, True, True, True]])
    """
    count, side = len(images), images.shape[2:]
    if count < 2:
        return images, targets, None
    rows, columns = GRIDS[int(torch.multinomial(torch.tensor(CHANCES), 1, generator=generator))]
    while rows * columns > count:
        rows, columns = (rows, columns - 1) if columns > rows else (rows - 1, columns)
    if rows != columns and torch.rand((), generator=generator) < 0.5:
        rows, columns = columns, rows
    cells, extra = rows * columns, max(count // PART, 1)
    sources = torch.stack([torch.randperm(count, generator=generator)[:cells] for _ in range(extra)])
    shown = torch.ones(extra, cells, dtype=torch.bool)
    for row in shown:
        if torch.rand((), generator=generator) < BLANKED:
            blank = int(torch.randint(1, cells, (), generator=generator))
            row[torch.randperm(cells, generator=generator)[:blank]] = False
    splices = Splices((rows, columns), sources.to(images.device), shown.to(images.device))
    size = (-(-side[0] // rows), -(-side[1] // columns))
    small = F.interpolate(images[splices.sources.flatten()], size=size, mode="bilinear", antialias=True)
    small = torch.where(splices.shown.flatten()[:, None, None, None], small, torch.as_tensor(black).to(small))
    tiled = small.unflatten(0, (extra, rows, columns)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    spliced = F.interpolate(tiled, size=side, mode="bilinear", antialias=True) if tiled.shape[2:] != side else tiled
    return torch.cat([images, spliced]), torch.cat([targets, _union(targets, splices)]), splices


def _union(targets: Tensor, splices: Splices) -> Tensor:
    """Return (E, K): the highest target of the cells shown, but unknown where none is 1 and one of them is unknown."""
    seen = targets[splices.sources].masked_fill(~splices.shown[..., None], 0)  # (E, cells, K)
    highest = seen.amax(dim=1)
    return highest.masked_fill((highest < 1) & (seen < 0).any(dim=1), -1)
