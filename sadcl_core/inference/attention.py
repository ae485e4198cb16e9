"""Attention maps: where in an image each label was read from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from sadcl_core.data.images import ImageSource
from sadcl_core.inference.embed import read_all
from sadcl_core.inference.forward import Forward
from sadcl_core.runs.card import ModelCard


def attention(
    forward: Forward,
    card: ModelCard,
    images: Iterable[ImageSource],
    labels: Sequence[str] | None = None,
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> npt.NDArray[np.float32]:
    """Return the maps of N images, (N, K', h, w); see `sadcl_core.inference.load.Model.attention`."""
    rows = card.class_indices(labels) if labels is not None else list(range(len(card.classes)))
    parts = []
    for batch in read_all(images, forward, batch_size=batch_size, workers=workers):
        maps = forward(batch, need_attention=True, refuse_nan=True).attention
        assert maps is not None, "asked for"
        parts.append(maps[:, rows].float().cpu().numpy())
    return np.concatenate(parts) if parts else np.empty((0, len(rows), 0, 0), np.float32)


def attention_maps(
    forward: Forward, card: ModelCard, image: ImageSource, *, labels: Sequence[str] = (), topk: int = 3
) -> list[tuple[int, float, npt.NDArray[np.float32]]]:
    """Return class index, score in 0..1 and map (h, w) of labels of one image: those named, or the `topk` scored highest.

    Raises:
        DataError: the image cannot be read.
        UsageError: the model has no class of a name.
    """
    names = card.class_indices(labels)
    output = forward(forward.read(image)[None], need_attention=True, refuse_nan=True)
    assert output.attention is not None, "asked for"
    scores = card.scores(output.logits)[0].cpu().numpy()
    rows = names or [int(k) for k in np.argsort(-scores, kind="stable")[:topk]]
    maps = output.attention[0, rows].float().cpu().numpy()
    return [(k, float(scores[k]), heat) for k, heat in zip(rows, maps, strict=True)]
