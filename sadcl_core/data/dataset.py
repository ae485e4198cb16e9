"""A split as batches of uint8 images and targets."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import threading
from collections.abc import Iterator
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from sadcl_core.data.images import open_image
from sadcl_core.data.manifest import Split
from sadcl_core.data.sampling import EpochBatches, Key
from sadcl_core.data.shards import Sample, first_row, read_samples, require_webdataset, shards_of
from sadcl_core.data.transforms import Transform
from sadcl_core.errors import MachineError, SadclError, UsageError
from sadcl_core.runtime.distributed import get_rank, get_world_size
from sadcl_core.runtime.seeds import drawing_from, seed_of

Batch = tuple[Tensor, Tensor, Tensor]  # images, targets, and which image of the split each is
PIECE = 16  # images that a worker hands over at a time from shards
WINDOW = 1024  # encoded images among which the next one of a shuffled stream is chosen
WORKER_DIED = re.compile(r"DataLoader worker \(pid.*\) (is killed|exited)")
WORKER_PREFIX = re.compile(rf"^{re.escape(SadclError.__module__)}\.\w+: ")  # before the message in a worker's traceback


def read_image(path: Path, content: bytes | None = None) -> Tensor:
    """Decode a file, or the content of one, to (3, H, W) uint8; see `sadcl_core.data.images.open_image` for what it raises."""
    pixels: Tensor = TF.pil_to_tensor(open_image(path, None if content is None else io.BytesIO(content)))
    return pixels


def transformed(image: Tensor, transform: Transform, views: int, seed: int | None = None) -> Tensor:
    """(3, S, S) uint8, or (V, 3, S, S) for V > 1 views, each transformed by itself, with chance drawn from the seed."""
    if seed is not None:
        with drawing_from(seed):
            return transformed(image, transform, views)
    return transform(image) if views == 1 else torch.stack([transform(image) for _ in range(views)])


class SplitDataset(Dataset[Batch]):
    """Image `i` as (3, S, S) uint8, or (V, 3, S, S) for V > 1 views, its targets (K,) int8, and `i`.

    Asked for with a seed, `(i, seed)`, the transform draws from that and from nothing else.
    """

    def __init__(self, split: Split, transform: Transform, limit: int | None = None, views: int = 1) -> None:
        """`limit` keeps the first images only."""
        self.split = split
        self.transform = transform
        self.views = views
        self.count = len(split) if limit is None else min(limit, len(split))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: int | Key) -> Batch:
        index, seed = key if isinstance(key, tuple) else (key, None)
        image = transformed(read_image(self.split.path(index)), self.transform, self.views, seed)
        return image, torch.from_numpy(self.split.targets(index)), torch.tensor(index)


class ShardDataset(IterableDataset[Batch]):
    """The images of a split in shards, in small batches as they come off the stream.

    Every process and every loader worker reads shards of its own. With a seed, shards are shuffled, and images within a
    window; each pass over the data, of which `passes` is the number, in another order.
    """

    def __init__(
        self, split: Split, transform: Transform, *, limit: int | None = None, views: int = 1, shuffle_seed: int | None = None
    ) -> None:
        """`limit` keeps the first images only."""
        shards = split.manifest.description.shards
        assert shards is not None, "made for shards"
        self.split = split
        self.transform = transform
        self.views = views
        self.shuffle_seed = shuffle_seed
        self.count = len(split) if limit is None else min(limit, len(split))
        self.first, self.files = first_row(split), shards_of(split, self.count)
        self.place = get_rank(), get_world_size()  # asked here: a worker is no process of the group
        self.passes = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that live on

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        """Small batches of images (b, 3, S, S), or in V views, targets (b, K) and indices (b,)."""
        files = list(self.files)
        if self.shuffle_seed is None:
            rng = None
        else:
            rng = random.Random(f"{self.shuffle_seed}-{int(self.passes)}")
            rng.shuffle(files)
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        rank, world = self.place
        mine = files[rank::world][number::count]
        samples: Iterator[Sample] = (
            sample for sample in read_samples(self.split.manifest, mine) if sample[0] - self.first < self.count
        )
        if rng is not None:
            samples = shuffled(samples, random.Random(f"{self.shuffle_seed}-{int(self.passes)}-{rank}-{number}"))
        while batch := [self._decoded(sample) for sample in islice(samples, PIECE)]:
            images, targets, indices = zip(*batch, strict=True)
            yield torch.stack(images), torch.stack(targets), torch.stack(indices)

    def _decoded(self, sample: Sample) -> Batch:
        row, name, content = sample
        index = row - self.first
        seed = None if self.shuffle_seed is None else seed_of(self.shuffle_seed, int(self.passes), index)
        image = transformed(read_image(Path(name), content), self.transform, self.views, seed)
        return image, torch.from_numpy(self.split.targets(index)), torch.tensor(index)


def shuffled(samples: Iterator[Sample], rng: random.Random) -> Iterator[Sample]:
    """The same samples, each exchanged with one of the next WINDOW."""
    window: list[Sample] = []
    for sample in samples:
        window.append(sample)
        if len(window) >= WINDOW:
            place = rng.randrange(len(window))
            window[place], window[-1] = window[-1], window[place]
            yield window.pop()
    rng.shuffle(window)
    yield from window


class ImageLoader(DataLoader[Batch]):
    """A loader whose workers' errors arrive as the one sentence they are, without the worker's traceback."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Batches of images (B, 3, S, S) uint8, or (B, V, 3, S, S) in V views, targets (B, K) int8, and indices (B,).

        Raises:
            SadclError: an image cannot be read.
            MachineError: a worker ended before its work.
        """
        try:
            batches = super().__iter__()
            if self.num_workers and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise wherever the program happens to be
            yield from batches
        except SadclError as error:
            raise type(error)(WORKER_PREFIX.sub("", str(error).strip().splitlines()[-1])) from None
        except RuntimeError as error:
            if not WORKER_DIED.search(str(error)):
                raise
            raise MachineError(
                "A process that reads images has ended, often because memory ran out. Use fewer of them with -j, or none: -j 0."
            ) from None

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch of a shuffled loader, from 1, without the first `skip`."""
        assert isinstance(self.batch_sampler, EpochBatches), "made with a seed"
        self.batch_sampler.epoch, self.batch_sampler.skip = number, skip
        return iter(self)


class ShardLoader(ImageLoader):
    """Puts what workers read from shards together to batches of one size."""

    def __init__(self, dataset: ShardDataset, *, size: int, workers: int) -> None:
        """`size` is over all processes where the order is shuffled, of each process where it is not.

        Raises:
            MachineError: webdataset is not installed.
        """
        require_webdataset()
        super().__init__(
            dataset,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_leave_signals_to_the_main_process,
            persistent_workers=workers > 0 and dataset.shuffle_seed is not None,
        )
        rank, processes = dataset.place
        self.images = dataset
        self.shared = dataset.shuffle_seed is not None and processes > 1
        self.size = size * (rank + 1) // processes - size * rank // processes if self.shared else size
        count = len(dataset) if self.shared else -(-len(dataset) // processes)  # about: shards differ in size
        self.whole_only = dataset.shuffle_seed is not None and count > size and count % size == 1
        self.count = count // size if self.whole_only else -(-count // size)
        if self.shared and not (self.size and dataset.files[rank::processes]):
            raise UsageError(
                f"{len(dataset.files)} shards and batches of {size} images cannot be shared by {processes} processes. Write "
                "smaller shards, or start fewer processes."
            )

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """See `ImageLoader.epoch`; what is skipped is read all the same, since a stream has no places to go to."""
        self.images.passes.fill_(number - 1)
        return islice(iter(self), skip, None)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """As those of an ImageLoader; processes that share batches all have as many, the shorter ones by starting over."""
        self.images.passes += 1
        times = repeat(None) if self.shared else repeat(None, 1)
        batches = self._batches(chain.from_iterable(super(ShardLoader, self).__iter__() for _ in times))
        return islice(batches, self.count) if self.shared else batches

    def _batches(self, pieces: Iterator[Batch]) -> Iterator[Batch]:
        held: list[Batch] = []
        for piece in pieces:
            held.append(piece)
            while sum(len(indices) for _, _, indices in held) >= self.size:
                whole = tuple(torch.cat(parts) for parts in zip(*held, strict=True))
                images, targets, indices = (part[: self.size] for part in whole)
                held = [(whole[0][self.size :], whole[1][self.size :], whole[2][self.size :])]
                yield images, targets, indices
        if any(len(indices) for _, _, indices in held) and not self.whole_only:  # what is left makes a last batch
            images, targets, indices = (torch.cat(parts) for parts in zip(*held, strict=True))
            yield images, targets, indices


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Ctrl-C, and SIGTERM of a whole process group, are the main process's to answer: a worker is in no group with it."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_loader(
    split: Split,
    transform: Transform,
    *,
    batch_size: int,
    workers: int | None,
    shuffle_seed: int | None = None,
    limit: int | None = None,
    views: int = 1,
    weights: npt.NDArray[np.float64] | None = None,
) -> ImageLoader:
    """Batches of a split in order, or shuffled by a seed; from shards in no order, each image with its index.

    In order, several processes take whole batches in turn: each holds what it would hold in one process. Shuffled, they share
    every batch, and order and transforms depend on the seed and the epoch alone, see `sadcl_core.data.sampling`. A last batch
    too small for BatchNorm to learn from is left out when shuffled.

    Args:
        split: which images.
        transform: (3, H, W) uint8 -> (3, S, S) uint8.
        batch_size: images of a batch; shuffled, over all processes.
        workers: processes that read; None chooses.
        shuffle_seed: of the order, when it is to be another one in every epoch; see `ImageLoader.epoch`.
        limit: only the first so many images.
        views: of each image, transformed one by one.
        weights: of each image, for a shuffled order in which some are drawn more often.

    Raises:
        UsageError: there are more processes than images or shards to share, or images in shards are to be drawn by weight.
    """
    dataset: SplitDataset | ShardDataset
    if split.manifest.description.shards is not None:
        if weights is not None:
            raise UsageError("Images in shards come as a stream and cannot be drawn by weight. Leave data.sampler at uniform.")
        dataset = ShardDataset(split, transform, limit=limit, views=views, shuffle_seed=shuffle_seed)
        number = loader_workers(workers, len(dataset))
        return ShardLoader(dataset, size=batch_size, workers=min(number, len(dataset.files)))
    dataset = SplitDataset(split, transform, limit=limit, views=views)
    count = len(dataset)
    number = loader_workers(workers, count)
    batches = (
        batches_of_this_process(count, batch_size)
        if shuffle_seed is None
        else EpochBatches(count, batch_size, seed=shuffle_seed, weights=weights)
    )
    return ImageLoader(
        dataset,
        batch_sampler=batches,
        num_workers=number,
        worker_init_fn=_leave_signals_to_the_main_process,
        persistent_workers=number > 0 and shuffle_seed is not None,
        pin_memory=shuffle_seed is not None and torch.cuda.is_available(),
    )


def batches_of_this_process(count: int, size: int) -> list[list[int]]:
    """Which images make the batches of this process, when all `count` are taken in order by all processes in turn."""
    rank, world = get_rank(), get_world_size()
    return [list(range(start, min(start + size, count))) for start in range(rank * size, count, world * size)]


def loader_workers(asked: int | None, images: int) -> int:
    """The number of loader processes: what was asked, else one less than the processors, 8 at most.

    Few images are read faster than a process is started.
    """
    if asked is not None:
        return asked
    if images < 256:
        return 0
    return (
        max(0, min(8, len(os.sched_getaffinity(0)) - 1))
        if hasattr(os, "sched_getaffinity")
        else min(8, (os.cpu_count() or 1) - 1)
    )
