"""Choose the images of every batch of an epoch, from the seed and the epoch alone.

So training can go on from the middle of an epoch, and several processes agree without communication: each takes its share of
every batch, and the shares together are the batch that one process would have.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler

from sadcl_core.errors import UsageError
from sadcl_core.runtime.distributed import get_rank, get_world_size
from sadcl_core.runtime.seeds import seed_of

Key = tuple[int, int]  # index of an image in the split, and the seed of its transform


class EpochBatches(Sampler[list[Key]]):
    """The batches of one process in one epoch, as lists of (index, seed).

    Attributes:
        epoch: number of the epoch to iterate over, from 1.
        skip: batches to leave out at its start, since they were trained on before an interruption.

    Example:
        >>> batches = EpochBatches(5, 2, seed=0)
        >>> [[index for index, _ in batch] for batch in batches]
        [[1, 3], [2, 0]]
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int,
        weights: npt.NDArray[np.float64] | None = None,
        process: tuple[int, int] | None = None,
        drop_last: bool = False,
    ) -> None:
        """Draw each of `count` images once an epoch; with `weights` as many, in proportion to them, some more than once.

        The other arguments are those of `sadcl_core.data.loader.make_loader`.

        Raises:
            UsageError: there are more processes than images in a batch.
        """
        self.count, self.batch_size, self.seed, self.weights = count, batch_size, seed, weights
        self.drop_last = drop_last
        self.rank, self.world_size = process or (get_rank(), get_world_size())
        self.epoch, self.skip = 1, 0
        if min(count, batch_size) < self.world_size:
            raise UsageError(
                f"A batch of {min(count, batch_size)} images cannot be shared by {self.world_size} processes. Give a larger -b, "
                "or start fewer processes."
            )

    def __len__(self) -> int:
        """Count the batches of a whole epoch, without a last one too small for BatchNorm to learn from."""
        whole, rest = divmod(self.count, self.batch_size)
        return whole + int((rest >= 2 * self.world_size and not self.drop_last) or whole == 0)

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order()
        for number in range(self.skip, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            first, end = (len(batch) * rank // self.world_size for rank in (self.rank, self.rank + 1))
            positions = range(number * self.batch_size + first, number * self.batch_size + end)
            yield [
                (int(index), seed_of(self.seed, self.epoch, position))
                for index, position in zip(batch[first:end].tolist(), positions, strict=True)
            ]

    def _order(self) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch, "order"))
        if self.weights is None:
            return torch.randperm(self.count, generator=generator)
        uniform = torch.rand(self.count, generator=generator, dtype=torch.float64).numpy()
        sums = np.cumsum(self.weights)
        return torch.from_numpy(np.searchsorted(sums, uniform * sums[-1], side="right").clip(max=self.count - 1))
