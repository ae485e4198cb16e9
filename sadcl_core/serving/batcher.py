"""Score the images of many requests together; imports no torch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sadcl_core.data.images import NamedImage
from sadcl_core.errors import DataError, MachineError
from sadcl_core.inference.predictor import Predictor
from sadcl_core.runtime.threads import count_processors

Scores = npt.NDArray[np.float32]  # (K,)
FULL = "Too many images wait already. Send them again in a moment."


class QueueFullError(MachineError):
    """More images wait for the network than are allowed to."""


class _Decoded(NamedTuple):
    pixels: Any
    scores: asyncio.Future[Scores]


class Batcher:
    """The one way to the network for all requests of an event loop.

    Images are decoded by threads while a batch is scored by another; whatever is decoded by the end of a batch is the next one,
    so that nothing waits for a batch to fill.

    Attributes:
        waiting: images that are in here.
        images: that were scored so far.
        batches: that they went through in.

    Example:
        >>> import io
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> import torch
        >>> from sadcl_core.config.schema import ModelSection
        >>> from sadcl_core.inference.load import Model
        >>> from sadcl_core.model.classifier import Classifier
        >>> from sadcl_core.runs.card import ModelCard
        >>> section = ModelSection(backbone="test_resnet", stride=16, head="pooled")
        >>> card = ModelCard(classes=("cat", "dog", "cow"), img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, model=section)
        >>> classifier = Classifier(section, num_classes=3, img_size=64)
        >>> model = Model(classifier.eval(), card, Path("pets.safetensors"), device=torch.device("cpu"))
        >>> async def score() -> list[Scores | DataError]:
        ...     file = io.BytesIO()
        ...     Image.new("RGB", (9, 6)).save(file, "png")
        ...     async with Batcher(model) as batcher:
        ...         return await batcher.score([NamedImage("a.png", file.getvalue()), NamedImage("b.png", b"")])
        >>> scores, error = asyncio.run(score())
        >>> scores.shape, str(error)
        ((3,), 'b.png: not an image.')
    """

    def __init__(
        self, model: Predictor[Any], *, batch_size: int = 32, most_waiting: int = 1024, workers: int | None = None
    ) -> None:
        """Prepare to score `batch_size` images at most together, decoded by threads; see `build_application`."""
        self.model, self.most_waiting = model, most_waiting
        self.batch_size = min(batch_size, model.LARGEST_BATCH)
        self.waiting = self.images = self.batches = 0
        self._room = asyncio.Semaphore(2 * self.batch_size)  # decoded images take more memory than files
        self._decoded: asyncio.Queue[_Decoded] = asyncio.Queue()
        self._readers = ThreadPoolExecutor(workers or min(8, count_processors()))
        self._scorer = ThreadPoolExecutor(1)

    async def __aenter__(self) -> Self:
        """Begin to score."""
        self._task = asyncio.create_task(self._score_batches())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the threads."""
        self._task.cancel()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._scorer.shutdown(wait=False, cancel_futures=True)

    async def score(self, images: Sequence[NamedImage]) -> list[Scores | DataError]:
        """Return the probabilities (K,) of each image, or why it cannot be read.

        Raises:
            QueueFullError: too many images wait.
            NotFiniteError: the model gives NaN.
        """
        if self.waiting + len(images) > self.most_waiting:
            raise QueueFullError(FULL)
        self.waiting += len(images)
        try:
            return await asyncio.gather(*map(self._score, images))
        finally:
            self.waiting -= len(images)

    async def _score(self, image: NamedImage) -> Scores | DataError:
        loop = asyncio.get_running_loop()
        async with self._room:
            try:
                pixels = await loop.run_in_executor(self._readers, self.model.read, image, image.name)
            except DataError as error:
                return error
            decoded = _Decoded(pixels, loop.create_future())
            self._decoded.put_nowait(decoded)
            return await decoded.scores

    async def _score_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._decoded.get()]
            while len(batch) < self.batch_size and not self._decoded.empty():
                batch.append(self._decoded.get_nowait())
            batch = [image for image in batch if not image.scores.done()]  # without those of requests that were given up
            if not batch:
                continue
            try:
                rows = await loop.run_in_executor(self._scorer, self.model.score, [image.pixels for image in batch])
            except Exception as error:  # of whatever kind, it is that of all these requests
                for image in batch:
                    if not image.scores.done():
                        image.scores.set_exception(error)
                continue
            self.batches += 1
            self.images += len(batch)
            for image, row in zip(batch, rows, strict=True):
                if not image.scores.done():
                    image.scores.set_result(row.copy())
