"""Rank images without labels by what a person would best label next.

An image is worth more the less sure the calibrated probabilities of its labels are (the sum of their entropies, Settles 2009) and
the farther the label feature of its likeliest class lies from the prototype of the class. Of images that look alike one is
enough: they are chosen one after the other, each by its worth times its distance to the nearest one chosen before, as the greedy
k-center of Sener and Savarese (ICLR 2018), weighted. `benchmarks/suggest.py` compares with a random choice.

Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sadcl_core.data.images import NamedImage
from sadcl_core.errors import DataError
from sadcl_core.runtime.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from sadcl_core.inference.load import Model

CANDIDATES = 10  # times as many as are chosen: the most worth, among which they differ most

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Suggestion:
    """An image that a person would best label next.

    Attributes:
        image: with its name and where it lies.
        uncertainty: sum of the entropies of its labels, in bits.
        distance: 1 less the cosine of the label feature of its likeliest class and the prototype, 0..2; None without prototypes
            or with a head that was never trained.
        labels: (name, probability) above the thresholds, the likeliest first; the likeliest alone where none is above its own.
    """

    image: NamedImage
    uncertainty: float
    distance: float | None
    labels: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Suggestions:
    """Images in the order in which to label them.

    Attributes:
        chosen: the first of them first.
        classes: of the model.
        seen: how many images there were.
        errors: a sentence for each image that could not be read.
    """

    chosen: tuple[Suggestion, ...]
    classes: tuple[str, ...]
    seen: int
    errors: tuple[str, ...]


def suggest(
    model: Model,
    images: Iterable[NamedImage],
    *,
    count: int = 100,
    batch_size: int = 32,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Suggestions:
    """Rank images by what a person would best label next.

    Args:
        model: from `sadcl_core.load`.
        images: of `sadcl_core.open_images`; unreadable ones are left out.
        count: how many to choose at most.
        batch_size: images that go through the network at a time.
        workers: threads that read images.
        progress: called with how many images are done, of how many (0: not known).

    Raises:
        DataError: no image could be read.

    Example:
        >>> suggest(load("runs/pets"), open_images(["photos"]), count=20).chosen[0].image.name  # doctest: +SKIP
        'photos/017.jpg'
    """
    from sadcl_core.data.batches import read_batches

    seen: list[NamedImage] = []
    errors: list[str] = []
    parts: list[tuple[npt.NDArray[np.float32], ...]] = []
    prototypes = model.classifier.prototypes
    centres = model.forward.project(prototypes) if prototypes.any() and model.card.head_is_trained else None
    for batch in read_batches(images, model.read, batch_size=batch_size, workers=workers):
        errors += batch.errors.values()
        if batch.images:
            seen += [batch.sources[index] for index in batch.indices]
            parts.append(_measure(model, batch.images, centres))
        if progress is not None:
            progress(len(seen) + len(errors), 0)
    if not seen:
        raise DataError(errors[0] if errors else "No image was given. Name files, folders or lists of images.")
    scores, features, distances = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    uncertainty = entropies(scores)
    has_distance = not np.isnan(distances).any()
    order = choose(uncertainty, features, distances if has_distance else None, count=count)
    limits = model.thresholds
    chosen = []
    for row in order.tolist():
        ranked = np.argsort(-scores[row], kind="stable")
        likely = [k for k in ranked.tolist() if scores[row, k] > limits[k]] or ranked[:1].tolist()
        labels = tuple((model.classes[k], float(scores[row, k])) for k in likely)
        distance = float(distances[row]) if has_distance else None
        chosen.append(Suggestion(seen[row], float(uncertainty[row]), distance, labels))
    return Suggestions(tuple(chosen), model.classes, len(seen) + len(errors), tuple(errors))


def entropies(scores: npt.NDArray[np.floating]) -> Values:
    """Return the sum of the binary entropies (N,) in bits of probabilities (N, K).

    Example:
        >>> entropies(np.array([[0.5, 0.5], [1.0, 0.0]])).round(3)
        array([2., 0.])
    """
    p = np.clip(scores.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum(axis=1).round(9))


def choose(
    uncertainty: Values, features: npt.NDArray[np.floating], distance: npt.NDArray[np.floating] | None = None, *, count: int
) -> npt.NDArray[np.int64]:
    """Choose at most `count` images that are worth a label and do not look alike; return their indices, the first one first.

    Of N images: how unsure the model is (N,), the features (N, D) and the distance to the prototype (N,).

    Example:
        >>> features = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]])
        >>> choose(np.array([3.0, 2.9, 2.0]), features, count=2)  # the second image is much like the first
        array([0, 2])
    """
    worth = _shares_below(uncertainty)
    if distance is not None:
        worth = (worth + _shares_below(np.asarray(distance, np.float64))) / 2
    candidates = np.argsort(-worth, kind="stable")[: max(CANDIDATES * count, count)]
    units = features[candidates].astype(np.float64)
    units -= units.mean(axis=0)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    nearest = np.full(len(candidates), 2.0)  # cosine distance to the nearest that is chosen
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        value = worth[candidates] * np.maximum(nearest, 1e-9)
        value[chosen] = -1
        best = int(value.argmax())
        chosen.append(best)
        nearest = np.minimum(nearest, 1 - units @ units[best])
    return candidates[chosen]


def _shares_below(values: Values) -> Values:
    """Return for each of (N,) values the share of them that is not above it, in 0..1."""
    return np.searchsorted(np.sort(values), values, side="right") / len(values)


def _measure(model: Model, images: list[Tensor], centres: Tensor | None) -> tuple[npt.NDArray[np.float32], ...]:
    """Return scores (b, K), features (b, D_b) and distances (b,) of images, these NaN without projected prototypes (K, P)."""
    import torch

    output = model.forward(torch.stack(images), refuse_nan=True)
    scores = model.card.scores(output.logits)
    distances = torch.full((len(scores),), torch.nan)
    if centres is not None:
        likeliest = scores.argmax(dim=1).to(centres.device)
        own = output.label_features[torch.arange(len(images), device=centres.device), likeliest]
        distances = 1 - (model.forward.project(own) * centres[likeliest]).sum(dim=1)
    return tuple(tensor.float().cpu().numpy() for tensor in (scores, output.image_features, distances))
