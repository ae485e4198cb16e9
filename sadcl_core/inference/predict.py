"""Labels of images, a batch at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from sadcl_core.data.images import NamedImage

if TYPE_CHECKING:
    from sadcl_core.data.images import ImageSource

Pixels = TypeVar("Pixels")  # of one image: an array or a tensor


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of one image, or why there are none.

    Attributes:
        image: its path or name as in the request, or its number from 0 where it came from memory.
        labels: (name, probability in 0..1) of the labels that count, the most probable first.
        scores: (K,) float32, the probability of every class in the model's order; of length 0 where there is an error.
        error: why the image could not be read, or empty.
    """

    image: str | Path | int
    labels: tuple[tuple[str, float], ...] = ()
    scores: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    error: str = ""

    @property
    def name(self) -> str:
        """Return the image as a text of a file or a terminal; bytes of a path that are no UTF-8 stand by their numbers."""
        return str(self.image).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

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


def predict(
    images: Iterable[ImageSource],
    read: Callable[[ImageSource, object], Pixels],
    score: Callable[[list[Pixels]], npt.NDArray[np.float32]],
    classes: Sequence[str],
    *,
    thresholds: npt.NDArray[np.float32],
    topk: int | None,
    batch_size: int,
    workers: int | None,
) -> Iterator[Prediction]:
    """Yield the prediction of each image, in order; a label counts when its score is above its threshold (K,).

    See `sadcl_core.inference.predictor.Predictor`, whose methods `read` and `score` are.
    """
    from sadcl_core.data.batches import read_batches

    names: deque[str | Path | int] = deque()  # of images that are being read

    def named() -> Iterator[ImageSource]:
        for number, image in enumerate(images):
            names.append(image.name if isinstance(image, NamedImage) else image if isinstance(image, str | Path) else number)
            yield image

    for batch in read_batches(named(), read, batch_size=batch_size, workers=workers):
        rows: Iterator[npt.NDArray[np.float32]] = iter(score(batch.images) if batch.images else ())
        for index in sorted((*batch.indices, *batch.errors)):
            if index in batch.errors:
                yield Prediction(names.popleft(), error=batch.errors[index])
            else:
                scores = next(rows)
                labels = [k for k in np.argsort(-scores, kind="stable")[:topk] if scores[k] > thresholds[k]]
                yield Prediction(names.popleft(), tuple((classes[k], float(scores[k])) for k in labels), scores)
