"""Images of a split a batch at a time, in order or shuffled, read by several processes."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from itertools import chain, islice, repeat
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from sadcl_core.data.dataset import Batch, PixelBatch, ShardDataset, SplitDataset
from sadcl_core.data.sampling import EpochBatches
from sadcl_core.data.shards import require_webdataset
from sadcl_core.data.split import Split
from sadcl_core.data.transforms import Transform
from sadcl_core.errors import MachineError, SadclError, UsageError
from sadcl_core.runtime.distributed import get_rank, get_world_size
from sadcl_core.runtime.threads import count_processors

Item = TypeVar("Item", bound=Batch, covariant=True)
WORKER_DIED = re.compile(r"DataLoader worker \(pid.*\) (is killed|exited)")
WORKER_PREFIX = re.compile(rf"^{re.escape(SadclError.__module__)}\.\w+: ")  # before the message in a worker's traceback


class BatchLoader(DataLoader[Item]):
    """A loader whose workers' errors arrive as the one sentence they are, without the worker's traceback."""

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        """Yield batches of images (B, 3, S, S) uint8, or (B, V, 3, S, S) in V views, targets (B, K) int8, and indices (B,).

        Raises:
            SadclError: an image cannot be read.
            MachineError: a worker ended before its work.
        """
        batches: Iterator[Item] | None = None
        failure: SadclError
        try:
            batches = super().__iter__()
            if self.num_workers and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise wherever the program happens to be
            yield from batches
        except SadclError as error:
            error.__traceback__ = None  # it holds the workers, in a cycle
            failure = type(error)(WORKER_PREFIX.sub("", str(error).strip().splitlines()[-1]))
        except RuntimeError as error:
            if not WORKER_DIED.search(str(error)):
                raise
            failure = MachineError(
                "A process that reads images has ended, often because memory ran out. Use fewer of them with -j, or none: -j 0."
            )
        else:
            return
        del batches  # ends the workers now; left to the garbage collector they take five seconds
        raise failure

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Item]:
        """Return the batches of one epoch of a shuffled loader, from 1, without the first `skip`."""
        assert isinstance(self.batch_sampler, EpochBatches), "made with a seed"
        self.batch_sampler.epoch, self.batch_sampler.skip = number, skip
        return iter(self)


class ShardLoader(BatchLoader[PixelBatch]):
    """Put the pieces that workers read from shards together to batches of one size."""

    def __init__(self, dataset: ShardDataset, *, size: int, workers: int, drop_last: bool = False) -> None:
        """`size` is over all processes where the order is shuffled, of each process where it is not.

        Raises:
            MachineError: webdataset is not installed.
            UsageError: there are fewer shards, or images in a batch, than processes that share them.
        """
        require_webdataset()
        shuffled = dataset.shuffle_seed is not None
        super().__init__(
            dataset,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_leave_signals_to_the_main_process,
            persistent_workers=workers > 0 and shuffled,
        )
        rank, world_size = dataset.process
        self.images = dataset
        self.shared = shuffled and world_size > 1
        self.size = size * (rank + 1) // world_size - size * rank // world_size if self.shared else size
        count = len(dataset) if self.shared else -(-len(dataset) // world_size)  # about: shards differ in size
        self.whole_only = shuffled and count > size and (count % size == 1 or drop_last)
        self.count = count // size if self.whole_only else -(-count // size)
        if self.shared and not (self.size and dataset.files[rank::world_size]):
            raise UsageError(
                f"{len(dataset.files)} shards and batches of {size} images cannot be shared by {world_size} processes. Write "
                "smaller shards, or start fewer processes."
            )

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[PixelBatch]:
        """See `BatchLoader.epoch`; skipped batches are read all the same, since a stream has no positions."""
        self.images.passes.fill_(number - 1)
        return islice(iter(self), skip, None)

    def __iter__(self) -> Iterator[PixelBatch]:  # type: ignore[override]
        """Yield batches like any loader; processes that share batches all have as many, the shorter ones by starting over."""
        self.images.passes += 1
        passes = repeat(None) if self.shared else repeat(None, 1)
        pieces = chain.from_iterable(super(ShardLoader, self).__iter__() for _ in passes)
        return islice(self._batches(pieces), self.count if self.shared else None)

    def _batches(self, pieces: Iterator[PixelBatch]) -> Iterator[PixelBatch]:
        images = chain.from_iterable(zip(*piece, strict=True) for piece in pieces)
        while batch := list(islice(images, self.size)):
            if len(batch) == self.size or not self.whole_only:
                pixels, targets, indices = zip(*batch, strict=True)
                yield torch.stack(pixels), torch.stack(targets), torch.stack(indices)


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Leave Ctrl-C, and SIGTERM of a whole process group, to the main process: a worker is in no group with it."""
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
    process: tuple[int, int] | None = None,
    at_least: int | None = None,
    drop_last: bool = False,
) -> BatchLoader[PixelBatch]:
    """Return batches of a split in order, or shuffled by a seed; from shards in no order, each image with its index.

    In order, several processes take whole batches in turn: each holds what it would hold in one process. Shuffled, they share
    every batch, and order and transforms depend on the seed and the epoch alone, see `sadcl_core.data.sampling`. A last batch
    too small for BatchNorm to learn from is left out when shuffled.

    Args:
        split: N images.
        transform: (3, H, W) uint8 -> (3, S, S) uint8.
        batch_size: images of a batch; shuffled, over all processes.
        workers: processes that read; None: see `loader_workers`.
        shuffle_seed: of an order that differs from epoch to epoch, see `BatchLoader.epoch`; None: as listed.
        limit: only the first so many images.
        views: of each image, transformed one by one.
        weights: (N,), for a shuffled order in which images are drawn in proportion to them.
        process: (rank, world_size); None: of this process.
        at_least: pixels that the transform needs on both sides, see `sadcl_core.data.images.read_image`.
        drop_last: leave out a last batch that is smaller than the others, when shuffled.

    Raises:
        UsageError: there are more processes than images or shards to share, or images in shards are to be drawn by weight.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from sadcl_core.data.manifest import Description, Manifest
        >>> from sadcl_core.data.rows import Record
        >>> from sadcl_core.data.transforms import augmentation
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (9, 6)).save(f"{folder}/a.png")
        ...     manifest = Manifest.from_records(
        ...         Description("pets", Path(folder), ("cat", "dog")), [Record("a.png", "train", (1,))]
        ...     )
        ...     loader = make_loader(manifest.split("train"), augmentation("none", 8), batch_size=4, workers=0)
        ...     for images, targets, indices in loader:
        ...         print(tuple(images.shape), targets.tolist(), indices.tolist())
        (1, 3, 8, 8) [[0, 1]] [0]
    """
    if split.manifest.description.shards is not None:
        if weights is not None:
            raise UsageError("Images in shards come as a stream and cannot be drawn by weight. Leave data.sampler at uniform.")
        stream = ShardDataset(
            split, transform, limit=limit, views=views, shuffle_seed=shuffle_seed, process=process, at_least=at_least
        )
        number = loader_workers(workers, len(stream))
        return ShardLoader(stream, size=batch_size, workers=min(number, len(stream.files)), drop_last=drop_last)
    dataset = SplitDataset(split, transform, limit=limit, views=views, at_least=at_least)
    number = loader_workers(workers, len(dataset))
    batches = make_batches(
        len(dataset), batch_size, shuffle_seed=shuffle_seed, weights=weights, process=process, drop_last=drop_last
    )
    return BatchLoader(
        dataset,
        batch_sampler=batches,
        num_workers=number,
        worker_init_fn=_leave_signals_to_the_main_process,
        persistent_workers=number > 0 and shuffle_seed is not None,
        pin_memory=shuffle_seed is not None and torch.cuda.is_available(),
    )


def make_batches(
    count: int,
    batch_size: int,
    *,
    shuffle_seed: int | None = None,
    weights: npt.NDArray[np.float64] | None = None,
    process: tuple[int, int] | None = None,
    drop_last: bool = False,
) -> list[list[int]] | EpochBatches:
    """Return the batches of this process as lists of indices, in order; shuffled with the seed of each image's transform.

    There are `count` images in all; the other arguments are those of `make_loader`.

    Example:
        >>> make_batches(5, 2)
        [[0, 1], [2, 3], [4]]
    """
    rank, world_size = process = process or (get_rank(), get_world_size())
    if shuffle_seed is not None:
        return EpochBatches(count, batch_size, seed=shuffle_seed, weights=weights, process=process, drop_last=drop_last)
    starts = range(rank * batch_size, count, world_size * batch_size)
    return [list(range(start, min(start + batch_size, count))) for start in starts]


def loader_workers(requested: int | None, images: int, *, processors: int | None = None) -> int:
    """Return the number of loader processes: as requested, or one less than the processors (of this machine), 8 at most.

    Few images are read faster than a process is started.

    Example:
        >>> loader_workers(None, 10_000, processors=4), loader_workers(None, 100, processors=4), loader_workers(2, 100)
        (3, 0, 2)
    """
    if requested is not None:
        return requested
    return 0 if images < 256 else max(0, min(8, (processors or count_processors()) - 1))
