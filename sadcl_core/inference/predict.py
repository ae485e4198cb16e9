"""Labels of single images and of folders, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sadcl_core.data.images import EXTENSIONS, read_image
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.forward import Forward
from sadcl_core.runs.checkpoint import LoadedModel


@dataclass(frozen=True)
class Prediction:
    """Labels of one image, the most certain first, or why there are none.

    Attributes:
        image: as it was given.
        labels: (name, score in 0..1) of the labels that count.
        scores: score of every class, in the model's order.
        error: why the image could not be read, or empty.
    """

    image: Path
    labels: tuple[tuple[str, float], ...]
    scores: tuple[float, ...]
    error: str = ""


def find_images(sources: Sequence[Path]) -> list[Path]:
    """Files as given, folders searched through and sorted.

    Raises:
        DataError: a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            inside = sorted(path for path in source.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
            if not inside:
                raise DataError(f"{source} holds no image ({', '.join(EXTENSIONS)}). Give a folder with images.")
            found += inside
        elif source.is_file():
            found.append(source)
        else:
            raise DataError(f"There is no image or folder {source}. Check the path.")
    return found


@torch.inference_mode()
def predict(
    model: LoadedModel,
    images: Iterable[Path],
    *,
    device: torch.device,
    precision: str = "fp32",
    batch_size: int = 32,
    thresholds: Sequence[float] | None = None,
    topk: int | None = None,
) -> Iterator[Prediction]:
    """Predict image by image, in order; an image that cannot be read comes back with its error.

    Args:
        model: from `load_model`, on `device`.
        images: any number of paths; only a batch is in memory.
        device: where the model is.
        precision: fp32, bf16 or fp16.
        batch_size: images at a time.
        thresholds: (K,), a label counts when its score is above; None: whatever its score.
        topk: only the k best labels.

    Raises:
        UsageError: topk is below 1.
    """
    if topk is not None and topk < 1:
        raise UsageError(f"--topk {topk}: at least one label must be asked for.")
    limits = [-1.0] * len(model.card.classes) if thresholds is None else np.asarray(thresholds, dtype=np.float32).tolist()
    preprocessing = model.card.preprocessing
    forward = Forward(model.classifier, preprocessing, device=device, precision=precision)
    for paths in _batches(images, batch_size):
        pictures, errors = [], {}
        for path in paths:
            try:
                pictures.append(preprocessing.resize(read_image(path)))
            except DataError as error:
                errors[path] = str(error)
        rows: Iterator[list[float]] = iter(())
        if pictures:
            output = forward(torch.stack(pictures), refuse_nan=True)
            rows = iter(model.card.scores(output.logits).tolist())
        for path in paths:
            if path in errors:
                yield Prediction(path, (), (), errors[path])
            else:
                yield _choose(path, next(rows), model.card.classes, limits, topk)


def _choose(path: Path, scores: list[float], classes: Sequence[str], limits: Sequence[float], topk: int | None) -> Prediction:
    ranked = sorted(range(len(scores)), key=lambda k: -scores[k])[:topk]
    labels = tuple((classes[k], scores[k]) for k in ranked if scores[k] > limits[k])
    return Prediction(path, labels, tuple(scores))


def _batches(images: Iterable[Path], size: int) -> Iterator[list[Path]]:
    batch: list[Path] = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
