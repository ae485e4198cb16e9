"""Which images make the batches of an epoch: a function of the seed and the epoch alone.

So training can go on from the middle of an epoch, and several processes agree without talking: each takes its share of every
batch, and the shares together are the batch that one process would have.
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

Key = tuple[int, int]  # which image of the split, and the seed of what is done to it


class EpochBatches(Sampler[list[Key]]):
    """The batches of one process in one epoch.

    Attributes:
        epoch: whose batches come next, from 1.
        skip: batches of it that are left out at the start, since they were trained on before an interruption.
    """

    def __init__(self, count: int, batch_size: int, *, seed: int, weights: npt.NDArray[np.float64] | None = None) -> None:
        """Every image once an epoch; with `weights` as many, drawn in proportion to them, some more than once.

        Args:
            count: images of the split.
            batch_size: images of a batch, over all processes.
            seed: of the order.
            weights: (count,), of each image.

        Raises:
            UsageError: there are more processes than images in a batch.
        """
        self.count, self.batch_size, self.seed, self.weights = count, batch_size, seed, weights
        self.rank, self.processes = get_rank(), get_world_size()
        self.epoch, self.skip = 1, 0
        if min(count, batch_size) < self.processes:
            raise UsageError(
                f"A batch of {min(count, batch_size)} images cannot be shared by {self.processes} processes. Give a larger -b, "
                "or start fewer processes."
            )

    def __len__(self) -> int:
        """Batches of a whole epoch; a last one too small for BatchNorm to learn from is left out."""
        whole, rest = divmod(self.count, self.batch_size)
        return whole + int(rest >= 2 * self.processes or whole == 0)

    def __iter__(self) -> Iterator[list[Key]]:
        order = self._order()
        for number in range(self.skip, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            first, end = (len(batch) * rank // self.processes for rank in (self.rank, self.rank + 1))
            positions = range(number * self.batch_size + first, number * self.batch_size + end)
            yield [
                (int(index), seed_of(self.seed, self.epoch, position))
                for index, position in zip(batch[first:end].tolist(), positions, strict=True)
            ]

    def _order(self) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch, "order"))
        if self.weights is None:
            return torch.randperm(self.count, generator=generator)
        places = torch.rand(self.count, generator=generator, dtype=torch.float64).numpy()
        sums = np.cumsum(self.weights)
        return torch.from_numpy(np.searchsorted(sums, places * sums[-1], side="right").clip(max=self.count - 1))
