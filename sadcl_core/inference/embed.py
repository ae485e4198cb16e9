"""Features of any images in memory: of every label, and of the whole image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sadcl_core.data.batches import read_batches
from sadcl_core.data.images import ImageSource
from sadcl_core.errors import DataError
from sadcl_core.inference.forward import Forward
from sadcl_core.runs.card import ModelCard

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Features of N images, float32.

    Attributes:
        label_features: (N, K, D), of each label before the projection.
        embeddings: (N, K, P), after it, of length 1: what the contrastive losses compare.
        image_features: (N, D_b), the feature map averaged over its locations.
        scores: (N, K), the probability of each label.
    """

    label_features: Floats
    embeddings: Floats
    image_features: Floats
    scores: Floats


def embed(
    forward: Forward, card: ModelCard, images: Iterable[ImageSource], *, batch_size: int = 32, workers: int | None = None
) -> Embeddings:
    """Return the features of images; see `sadcl_core.inference.load.Model.embed`."""
    parts: list[tuple[Floats, ...]] = []
    for batch in read_all(images, forward, batch_size=batch_size, workers=workers):
        output = forward(batch, refuse_nan=True)
        tensors = (
            output.label_features,
            forward.project(output.label_features),
            output.image_features,
            card.scores(output.logits),
        )
        parts.append(tuple(tensor.float().cpu().numpy() for tensor in tensors))
    if not parts:
        raise DataError("There is no image to embed.")
    return Embeddings(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def read_all(images: Iterable[ImageSource], forward: Forward, *, batch_size: int, workers: int | None) -> Iterator[Tensor]:
    """Yield batches (B, 3, S, S) uint8 of images in order, as a forward pass takes them.

    Raises:
        DataError: an image cannot be read.
    """
    for batch in read_batches(images, forward.read, batch_size=batch_size, workers=workers):
        if batch.errors:
            raise DataError(batch.errors[min(batch.errors)])
        yield torch.stack(batch.images)
