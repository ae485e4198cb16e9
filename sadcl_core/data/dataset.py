"""A split as batches of uint8 images and targets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sadcl_core.data.images import open_image
from sadcl_core.data.manifest import Split
from sadcl_core.data.transforms import Transform
from sadcl_core.errors import DataError

Batch = tuple[Tensor, Tensor]
WORKER_PREFIX = f"{DataError.__module__}.{DataError.__qualname__}: "  # before the message in a worker's traceback


def read_image(path: Path) -> Tensor:
    """Decode a file to (3, H, W) uint8; see `sadcl_core.data.images.open_image` for what it raises."""
    pixels: Tensor = TF.pil_to_tensor(open_image(path))
    return pixels


class SplitDataset(Dataset[Batch]):
    """Image `i` as (3, S, S) uint8, or (V, 3, S, S) for V > 1 views, and its targets (K,) int8."""

    def __init__(self, split: Split, transform: Transform, limit: int | None = None, views: int = 1) -> None:
        """`limit` keeps the first images only; each view is transformed by itself."""
        self.split = split
        self.transform = transform
        self.views = views
        self.count = len(split) if limit is None else min(limit, len(split))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        image = read_image(self.split.path(index))
        seen = self.transform(image) if self.views == 1 else torch.stack([self.transform(image) for _ in range(self.views)])
        return seen, torch.from_numpy(self.split.targets(index))


class ImageLoader(DataLoader[Batch]):
    """A loader whose workers' data errors arrive as the one sentence they are, without the worker's traceback."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Batches of images (B, 3, S, S) uint8, or (B, V, 3, S, S) in V views, and targets (B, K) int8."""
        try:
            yield from super().__iter__()
        except DataError as error:
            raise DataError(str(error).strip().splitlines()[-1].removeprefix(WORKER_PREFIX)) from None


def _leave_interrupts_to_the_main_process(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the main one decides what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_loader(dataset: Dataset[Batch], *, batch_size: int, workers: int, shuffle_seed: int | None = None) -> ImageLoader:
    """Batches in order, or shuffled by a seed.

    A last batch of one image is left out when shuffled: BatchNorm cannot learn from it.
    """
    generator = None if shuffle_seed is None else torch.Generator().manual_seed(shuffle_seed)
    count = len(dataset)  # type: ignore[arg-type]
    return ImageLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle_seed is not None,
        generator=generator,
        num_workers=workers,
        worker_init_fn=_leave_interrupts_to_the_main_process,
        persistent_workers=workers > 0 and shuffle_seed is not None,
        drop_last=shuffle_seed is not None and count > batch_size and count % batch_size == 1,
    )


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
