"""Labels of images, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from sadcl_core.data.images import NamedImage

if TYPE_CHECKING:
    from sadcl_core.data.images import ImageSource

Floats: TypeAlias = npt.NDArray[np.float32]
Pixels = TypeVar("Pixels")  # of one image: an array or a tensor


class Details(NamedTuple):
    """Everything that a model says of B images.

    Attributes:
        scores: (B, K) in 0..1.
        features: (B, D_b), of the whole images.
        embeddings: (B, K, P) of length 1, of every label.
        attention: (B, K, h, w), where every label was read from; each map sums to 1.
    """

    scores: Floats
    features: Floats
    embeddings: Floats
    attention: Floats


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of one image, or the reason why it has none.

    Attributes:
        image: its path or name as in the request, or its number from 0 where it came from memory.
        labels: (name, probability in 0..1) of the labels that count, the most probable first.
        scores: (K,) float32, the probability of every class in the model's order; of length 0 where there is an error.
        error: why the image could not be read, or empty.
        feature: (D_b,) of the whole image, where details were asked for.
        embeddings: (n, P) of length 1, of each of the labels.
        attention: (n, h, w), where each of the labels was read from; each map sums to 1.
    """

    image: str | Path | int
    labels: tuple[tuple[str, float], ...] = ()
    scores: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    error: str = ""
    feature: Floats | None = None
    embeddings: Floats | None = None
    attention: Floats | None = None

    @property
    def name(self) -> str:
        """Return the image as a text, see `printable_name`."""
        return printable_name(self.image)

    def as_json(self, classes: Sequence[str] = ()) -> dict[str, Any]:
        """Return a document for JSON; with the names of all K classes it holds every score.

        Example:
            >>> Prediction("a.jpg", (("cat", 0.75),), np.float32([0.75, 0.25])).as_json(["cat", "dog"])["scores"]
            {'cat': 0.75, 'dog': 0.25}
        """
        document: dict[str, Any] = {
            "schema_version": 1,
            "image": self.name,
            "labels": [{"name": name, "score": round(score, 6)} for name, score in self.labels],
        }
        if self.error:
            document["error"] = self.error
        elif classes:
            document["scores"] = {name: round(score, 6) for name, score in zip(classes, self.scores.tolist(), strict=True)}
        return document


def printable_name(image: object) -> str:
    r"""Return the name of an image as a text that can be written; bytes of a path that are no UTF-8 stand by their numbers.

    Example:
        >>> printable_name("a\udcff.jpg")
        'a\\xff.jpg'
    """
    return str(image).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def predict(
    images: Iterable[ImageSource],
    read: Callable[[ImageSource, object], Pixels],
    score: Callable[[list[Pixels]], Floats | Details],
    classes: Sequence[str],
    *,
    thresholds: Floats,
    topk: int | None,
    batch_size: int,
    workers: int | None,
) -> Iterator[Prediction]:
    """Yield the prediction of each image, in order.

    A label counts when its score is above its threshold (K,), and never where that is NaN. `read`, and `score` or `details`, are
    methods of `sadcl_core.inference.predictor.Predictor`.
    """
    from sadcl_core.data.batches import read_batches

    for batch in read_batches(images, read, batch_size=batch_size, workers=workers):
        output = score(batch.images) if batch.images else np.empty((0, len(classes)), np.float32)
        scores = output.scores if isinstance(output, Details) else output
        rows = {index: row for row, index in enumerate(batch.indices)}
        for index, image in batch.sources.items():
            name = image.name if isinstance(image, NamedImage) else image if isinstance(image, str | Path) else index
            if index in batch.errors:
                yield Prediction(name, error=batch.errors[index])
                continue
            row = rows[index]
            active = active_classes(scores[row], thresholds, topk)
            labels = tuple((classes[k], float(scores[row, k])) for k in active)
            # copies: a view would keep the batch
            details = (
                (output.features[row].copy(), output.embeddings[row, active], output.attention[row, active])
                if isinstance(output, Details)
                else ()
            )
            yield Prediction(name, labels, scores[row], "", *details)


def active_classes(scores: Floats, thresholds: Floats, topk: int | None = None) -> npt.NDArray[np.intp]:
    """Return the indices of the classes that count in an image, at most `topk`, the most probable first.

    A class counts whose score (K,) is above its threshold (K,); never where that is NaN.

    Example:
        >>> active_classes(np.float32([0.2, 0.9, 0.6, 0.8]), np.float32([0.5, 0.5, 0.5, np.nan])).tolist()
        [1, 2]
    """
    possible = np.flatnonzero(~np.isnan(thresholds))
    order = possible[np.argsort(-scores[possible], kind="stable")[:topk]]
    return order[scores[order] > thresholds[order]]
