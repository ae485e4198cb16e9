"""The images of a split, in files or in shards, as uint8 tensors with their targets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from sadcl_core.data.images import read_image
from sadcl_core.data.sampling import Key
from sadcl_core.data.shards import Sample, first_row, read_samples, shards_of
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import Inputs, Transform
from sadcl_core.runtime.distributed import get_rank, get_world_size
from sadcl_core.runtime.seeds import drawing_from, seed_of

PixelBatch = tuple[Tensor, Tensor, Tensor]  # images, targets, and the index of each image in the split
Batch = tuple[Inputs, Tensor, Tensor]  # the same, or maps in the place of images


def transform_views(image: Tensor, transform: Transform, views: int, seed: int | None = None) -> Tensor:
    """Return (3, S, S) uint8, or (V, 3, S, S) for V > 1 views, each transformed by itself, with chance drawn from the seed."""
    with nullcontext() if seed is None else drawing_from(seed):
        return transform(image) if views == 1 else torch.stack([transform(image) for _ in range(views)])


class SplitDataset(Dataset[PixelBatch]):
    """Image `i` as (3, S, S) uint8, or (V, 3, S, S) for V > 1 views, its targets (K,) int8, and `i`.

    Requested as `(i, seed)`, the transform draws from that seed and from nothing else.
    """

    def __init__(
        self, split: Split, transform: Transform, limit: int | None = None, views: int = 1, at_least: int | None = None
    ) -> None:
        """Keep the first `limit` images only, if it is given; for `at_least`, see `sadcl_core.data.images.read_image`."""
        self.split = split
        self.transform = transform
        self.at_least = at_least
        self.views = views
        self.count = len(split) if limit is None else min(limit, len(split))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: int | Key) -> PixelBatch:
        index, seed = key if isinstance(key, tuple) else (key, None)
        pixels = read_image(self.split.path(index), at_least=self.at_least)
        image = transform_views(pixels, self.transform, self.views, seed)
        return image, torch.from_numpy(self.split.targets(index)), torch.tensor(index)


class ShardDataset(IterableDataset[PixelBatch]):
    """The images of a split in shards, in small pieces as they come off the stream.

    Every process and every loader worker reads shards of its own. With a seed, shards are shuffled, and images within a
    window; each pass over the data, counted in `passes`, has another order.
    """

    def __init__(
        self,
        split: Split,
        transform: Transform,
        *,
        limit: int | None = None,
        views: int = 1,
        shuffle_seed: int | None = None,
        process: tuple[int, int] | None = None,
        at_least: int | None = None,
        piece: int = 16,
    ) -> None:
        """Find the shards of a split; a worker hands over `piece` images at a time, the others are as of `make_loader`."""
        self.split = split
        self.transform = transform
        self.views = views
        self.shuffle_seed = shuffle_seed
        self.at_least = at_least
        self.piece = piece
        self.count = len(split) if limit is None else min(limit, len(split))
        self.first, self.files = first_row(split), shards_of(split, self.count)
        self.process = process or (get_rank(), get_world_size())  # now: a loader worker belongs to no process group
        self.passes = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that live on

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[PixelBatch]:
        """Yield pieces: images (b, 3, S, S), or in V views, targets (b, K) and indices (b,)."""
        files = list(self.files)
        shuffle, passes = self.shuffle_seed, int(self.passes)
        if shuffle is not None:
            random.Random(f"{shuffle}-{passes}").shuffle(files)
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        rank, world_size = self.process
        own = files[rank::world_size][number::count]
        samples: Iterator[Sample] = (
            sample for sample in read_samples(self.split.manifest, own) if sample[0] - self.first < self.count
        )
        if shuffle is not None:
            samples = shuffled(samples, random.Random(f"{shuffle}-{passes}-{rank}-{number}"))
        while batch := [self._decode(sample, passes) for sample in islice(samples, self.piece)]:
            images, targets, indices = zip(*batch, strict=True)
            yield torch.stack(images), torch.stack(targets), torch.stack(indices)

    def _decode(self, sample: Sample, passes: int) -> PixelBatch:
        row, name, content = sample
        index = row - self.first
        seed = None if self.shuffle_seed is None else seed_of(self.shuffle_seed, passes, index)
        image = transform_views(read_image(content, name, at_least=self.at_least), self.transform, self.views, seed)
        return image, torch.from_numpy(self.split.targets(index)), torch.tensor(index)


def shuffled(samples: Iterator[Sample], rng: random.Random, *, window: int = 1024) -> Iterator[Sample]:
    """Yield the same samples, each exchanged with one of the next `window`."""
    buffer: list[Sample] = []
    for sample in samples:
        buffer.append(sample)
        if len(buffer) >= window:
            place = rng.randrange(len(buffer))
            buffer[place], buffer[-1] = buffer[-1], buffer[place]
            yield buffer.pop()
    rng.shuffle(buffer)
    yield from buffer
