"""Hold an exported model against the one it was made from, on real images of any size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.data.images import ImageSource
from sadcl_core.errors import GateError
from sadcl_core.inference.load import Model
from sadcl_core.inference.predict import Prediction, predict
from sadcl_core.runtime.progress import Progress

TOLERANCE = 1e-3  # difference of a probability
BATCH_SIZE = 8
WARMING = 2  # images that are predicted before the time counts


@dataclass(frozen=True)
class Runner:
    """Reading and scoring with an exported model, see `sadcl_core.inference.predictor.Predictor`."""

    read: Callable[[ImageSource, object], Any]
    score: Callable[[list[Any]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Verification:
    """Differences between an exported model and the one it was made from.

    Attributes:
        images: that both predicted.
        left_out: images that one of them, or both, could not read.
        largest: difference of a probability, in 0..1.
        image: of the largest difference.
        label: of the largest difference.
        flipped: labels that one model gives and the other does not.
        unexplained: of these, labels with a probability farther than TOLERANCE from the threshold of their class.
        speed: images per second of the model, reading included.
        exported_speed: the same of the exported one.
    """

    images: int
    left_out: int
    largest: float
    image: str
    label: str
    flipped: int
    unexplained: int
    speed: float
    exported_speed: float

    @property
    def passed(self) -> bool:
        """Return True if the exported model answers as the other does."""
        return self.largest <= TOLERANCE and self.unexplained == 0

    def require(self, path: Path) -> None:
        """Raise a GateError unless the exported model answers as the other does."""
        if not self.passed:
            raise GateError(
                f"The exported model does not answer as the trained one: {self.label} of {self.image} differs by "
                f"{self.largest:.2g}, {self.flipped:,} labels flip on {self.images:,} images. {path} was deleted."
            )

    def as_json(self) -> dict[str, Any]:
        """Return the numbers."""
        return {
            "images": self.images,
            "images_left_out": self.left_out,
            "largest_difference": self.largest,
            "image": self.image,
            "label": self.label,
            "flipped_labels": self.flipped,
            "flipped_away_from_threshold": self.unexplained,
            "images_per_second": round(self.speed, 3),
            "exported_images_per_second": round(self.exported_speed, 3),
        }


def verify(
    model: Model, exported: Runner, sources: Sequence[ImageSource], *, progress: Progress | None = None
) -> Verification | None:
    """Predict images with both models, on the CPU in fp32, and compare the probabilities; None where no image is read by both.

    In progress, half an image is one that the first model has done.

    Raises:
        NotFiniteError: a model gives NaN.
    """
    runs, speeds = [], []
    runners: tuple[Model | Runner, ...] = (model, exported)
    for number, runner in enumerate(runners):
        for timed in (False, True):
            start = time.perf_counter()
            predictions: list[Prediction] = []
            for prediction in predict(
                sources if timed else sources[:WARMING],
                runner.read,
                runner.score,
                model.classes,
                thresholds=np.asarray(model.thresholds, np.float32),
                topk=None,
                batch_size=BATCH_SIZE,
                workers=None,
            ):
                predictions.append(prediction)
                if timed and progress is not None:
                    progress((number * len(sources) + len(predictions)) // 2, len(sources))
        runs.append(predictions)
        speeds.append(len(sources) / max(time.perf_counter() - start, 1e-9))
    pairs = [(one, other) for one, other in zip(*runs, strict=True) if not one.error and not other.error]
    if not pairs:
        return None
    first, second = (np.array([pair[place].scores for pair in pairs], np.float64) for place in (0, 1))
    differences = np.abs(first - second)
    row, column = np.unravel_index(int(differences.argmax()), differences.shape)
    flips = (first > model.thresholds) != (second > model.thresholds)
    near = np.abs(first - model.thresholds) <= TOLERANCE
    return Verification(
        images=len(pairs),
        left_out=len(sources) - len(pairs),
        largest=float(differences.max()),
        image=str(pairs[row][0].image),
        label=model.classes[column],
        flipped=int(flips.sum()),
        unexplained=int((flips & ~near).sum()),
        speed=speeds[0],
        exported_speed=speeds[1],
    )
