"""Any images a batch at a time, read in parallel by threads; importing it costs little beside torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from sadcl_core.data.images import ImageSource, read_image
from sadcl_core.data.transforms import Transform
from sadcl_core.errors import DataError
from sadcl_core.runtime.threads import map_ahead


class ImageBatch(NamedTuple):
    """A batch of any images.

    Attributes:
        indices: (b,) positions of the images that could be read, in the order they were given.
        images: (b, 3, S, S) uint8, one for each index.
        errors: position -> why an image could not be read.
    """

    indices: list[int]
    images: Tensor
    errors: dict[int, str]


def read_batches(
    images: Iterable[ImageSource], transform: Transform, *, batch_size: int = 32, workers: int | None = None
) -> Iterator[ImageBatch]:
    """Read any images in order, a batch at a time, decoding in threads; only a few batches are in memory.

    Args:
        images: any number of paths, bytes of files, PIL images, arrays or tensors, see `sadcl_core.data.images.read_image`.
        transform: (3, H, W) uint8 -> (3, S, S) uint8.
        batch_size: images taken for a batch, broken ones among them.
        workers: threads; 0: none beside the caller's; None: one for each processor, 8 at most.

    Yields:
        A batch for every `batch_size` images. An image that cannot be read is reported in `errors` and ends nothing.

    Example:
        >>> from sadcl_core.data.transforms import Preprocessing
        >>> resize = Preprocessing(img_size=8, mean=(0, 0, 0), std=(1, 1, 1)).resize
        >>> images = [torch.zeros(3, 4, 6, dtype=torch.uint8), b"no image", torch.zeros(3, 5, 5, dtype=torch.uint8)]
        >>> for batch in read_batches(images, resize):
        ...     print(batch.indices, tuple(batch.images.shape), batch.errors)
        [0, 2] (2, 3, 8, 8) {1: 'image 1: not an image.'}
    """

    def read(numbered: tuple[int, ImageSource]) -> Tensor | str:
        number, source = numbered
        try:
            return transform(read_image(source, name=source if isinstance(source, str | os.PathLike) else f"image {number}"))
        except DataError as error:
            return str(error)

    results = enumerate(map_ahead(read, enumerate(images), workers=workers, ahead=2 * batch_size))
    while batch := list(islice(results, batch_size)):
        pixels = {number: result for number, result in batch if isinstance(result, Tensor)}
        errors = {number: result for number, result in batch if isinstance(result, str)}
        yield ImageBatch(list(pixels), torch.stack([*pixels.values()]) if pixels else torch.empty(0, 3, 0, 0).byte(), errors)
