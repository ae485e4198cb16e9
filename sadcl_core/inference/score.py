"""A model over a split: the scores and targets of every image, in the order of the split.

Several processes share the images batch by batch, so that every batch holds what it would hold in one process and the
scores are the same to the last digit; each process ends with all of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sadcl_core.data.dataset import Batch
from sadcl_core.errors import NotFiniteError
from sadcl_core.inference.forward import Forward
from sadcl_core.inference.predictor import NAN
from sadcl_core.model.classifier import Classifier, ClassifierOutput
from sadcl_core.model.known_labels import reveal_of_images
from sadcl_core.runs.checkpoint import ModelCard
from sadcl_core.runtime.distributed import all_gather, any_rank, get_world_size, is_distributed
from sadcl_core.runtime.progress import Progress


@dataclass(frozen=True)
class Scores:
    """Result for N images.

    Attributes:
        scores: (N, K) in 0..1, float32 when a model made them.
        targets: (N, K) int8, 1, 0 or -1 for unknown.
        seconds: reading images included; 0 when they came from a file.
    """

    scores: npt.NDArray[np.floating]
    targets: npt.NDArray[np.int8]
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Return how many images were scored per second."""
        return len(self.scores) / max(self.seconds, 1e-9)


class Observer(Protocol):
    """See the output of every batch while a split is scored, so that one pass is enough."""

    needs_attention: bool

    def __call__(self, classifier: Classifier, output: ClassifierOutput, targets: Tensor, indices: Tensor) -> None:
        """Take in a batch: the output of the model, targets (B, K), and indices (B,) of the images in the split."""

    def gather(self) -> None:
        """Gather what all processes saw; called once, at the end."""


@torch.inference_mode()
def score(
    classifier: Classifier,
    loader: DataLoader[Batch],
    *,
    card: ModelCard,
    device: torch.device,
    precision: str = "fp32",
    tta: str = "none",
    known_share: float = 0.0,
    observers: Sequence[Observer] = (),
    progress: Progress | None = None,
) -> Scores:
    """Score every image of a loader that does not shuffle; the model is left in evaluation mode.

    Args:
        classifier: on `device`.
        loader: of several processes, each has its share of the images.
        card: says what is done to images, and how logits become scores.
        device: see `Forward`.
        precision: see `Forward`.
        tta: see `Forward`.
        known_share: of the labels of each image that are given with it; their targets become -1, see `reveal_of_images`.
        observers: shown every batch.
        progress: called with how many images are done, of how many.

    Raises:
        NotFiniteError: the model gives NaN.
        ValueError: the loader is empty.
    """
    count = len(loader.dataset)  # type: ignore[arg-type]
    if count == 0:
        raise ValueError("the loader is empty")
    attention = any(observer.needs_attention for observer in observers)
    classes, processes = len(card.classes), get_world_size()
    forward = Forward(classifier, card.preprocessing, device=device, precision=precision, tta=tta)
    buffer = Buffer(count, classes)
    start, broken = time.perf_counter(), False
    for images, targets, indices in loader:
        known = None
        if known_share:
            known, targets = reveal_of_images(targets, indices, share=known_share)
        output = forward(images, need_attention=attention, refuse_nan=processes == 1, known=known)
        if broken := broken or bool(output.logits.isnan().any()):
            continue  # to the end, where the other processes wait
        buffer.add(card.scores(output.logits).cpu(), targets, indices)
        for observer in observers:
            observer(classifier, output, targets, indices)
        if progress is not None:
            progress(min(buffer.done * processes, count), count)
    if any_rank(broken):
        raise NotFiniteError(NAN)
    scores, all_targets = buffer.gather()
    for observer in observers:
        observer.gather()
    return Scores(scores, all_targets, time.perf_counter() - start)


class Buffer:
    """Scores and targets of all images; in one process each batch is written to its rows at once, and nothing is held twice."""

    def __init__(self, count: int, classes: int) -> None:
        """Make room for `count` images of K classes."""
        self.scores = np.empty((count, classes), dtype=np.float32)
        self.targets = np.empty((count, classes), dtype=np.int8)
        self.seen = np.empty(count, dtype=np.int64)
        self.done = 0

    def add(self, scores: Tensor, targets: Tensor, indices: Tensor) -> None:
        """Write a batch: scores and targets (B, K), and indices (B,)."""
        rows = indices.numpy()
        self.scores[rows], self.targets[rows] = scores.numpy(), targets.numpy()
        self.seen[self.done : self.done + len(rows)] = rows
        self.done += len(rows)

    def gather(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
        """Return scores and targets of all images, on every process."""
        if is_distributed():
            own = torch.from_numpy(self.seen[: self.done])
            rows = all_gather(own).numpy()
            self.scores[rows] = all_gather(torch.from_numpy(self.scores)[own]).numpy()
            self.targets[rows] = all_gather(torch.from_numpy(self.targets)[own]).numpy()
        return self.scores, self.targets
