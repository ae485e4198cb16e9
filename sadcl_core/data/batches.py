"""Any images a batch at a time, read in parallel by threads; imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from sadcl_core.data.images import ImageSource
from sadcl_core.errors import DataError
from sadcl_core.runtime.threads import map_ahead

Source = TypeVar("Source", bound=ImageSource)
Pixels = TypeVar("Pixels")  # of one image: an array or a tensor


class ImageBatch(NamedTuple, Generic[Source, Pixels]):
    """A batch of any images.

    Attributes:
        indices: (b,) positions of the images that could be read, in the order they were given.
        images: pixels, for each index.
        errors: position -> why an image could not be read.
        sources: position -> each image as it was given.
    """

    indices: list[int]
    images: list[Pixels]
    errors: dict[int, str]
    sources: dict[int, Source]


def read_batches(
    images: Iterable[Source], read: Callable[[Source, object], Pixels], *, batch_size: int = 32, workers: int | None = None
) -> Iterator[ImageBatch[Source, Pixels]]:
    """Read any images in order, a batch at a time, decoding in threads; only a few batches are in memory.

    Args:
        images: any number of paths, bytes of files, PIL images, arrays or tensors.
        read: called from any thread with an image and its name for messages; returns its pixels, or raises a DataError.
        batch_size: images taken for a batch, broken ones among them.
        workers: threads; 0: none beside the caller's; None: one for each processor, 8 at most.

    Yields:
        A batch for every `batch_size` images. An image that cannot be read is reported in `errors` and ends nothing.

    Example:
        >>> import numpy as np
        >>> from sadcl_core.data.images import read_pixels
        >>> images = [np.zeros((4, 6, 3), np.uint8), b"no image", np.zeros((5, 5, 3), np.uint8)]
        >>> for batch in read_batches(images, read_pixels):
        ...     print(batch.indices, [pixels.shape for pixels in batch.images], batch.errors)
        [0, 2] [(4, 6, 3), (5, 5, 3)] {1: 'image 1: not an image.'}
    """

    def attempt(numbered: tuple[int, Source]) -> tuple[int, Source, Pixels | DataError]:
        number, source = numbered
        try:
            return number, source, read(source, source if isinstance(source, str | os.PathLike) else f"image {number}")
        except DataError as error:
            return number, source, error

    results = map_ahead(attempt, enumerate(images), workers=workers, ahead=2 * batch_size)
    while batch := list(islice(results, batch_size)):
        errors = {number: str(result) for number, _, result in batch if isinstance(result, DataError)}
        pixels = {number: result for number, _, result in batch if not isinstance(result, DataError)}
        yield ImageBatch(list(pixels), list(pixels.values()), errors, {number: source for number, source, _ in batch})
