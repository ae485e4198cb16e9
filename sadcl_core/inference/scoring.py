"""A model over a split: the scores and targets of every image, in the order of the split."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from sadcl_core.data.dataset import Batch
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.device import autocast
from sadcl_core.model.classifier import Classifier
from sadcl_core.progress import Progress


@dataclass(frozen=True)
class Scores:
    """Result for N images.

    Attributes:
        scores: (N, K) float32 in 0..1.
        targets: (N, K) int8, 1, 0 or -1 for unknown.
        seconds: reading images included.
    """

    scores: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int8]
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Images scored per second."""
        return len(self.scores) / max(self.seconds, 1e-9)


@torch.inference_mode()
def score(
    classifier: Classifier,
    loader: DataLoader[Batch],
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Scores:
    """Score every image of a loader; the model is left in evaluation mode."""
    classifier.eval()
    count = len(loader.dataset)  # type: ignore[arg-type]
    scores: npt.NDArray[np.float32] | None = None
    targets: npt.NDArray[np.int8] | None = None
    done = 0
    start = time.perf_counter()
    for images, batch_targets, indices in loader:
        with autocast(device, precision):
            output = classifier(preprocessing.normalise(images.to(device)))
        if scores is None or targets is None:
            scores = np.empty((count, output.logits.shape[1]), dtype=np.float32)
            targets = np.empty(scores.shape, dtype=np.int8)
        scores[indices.numpy()] = output.logits.float().sigmoid().cpu().numpy()
        targets[indices.numpy()] = batch_targets.numpy()
        done += len(images)
        if progress is not None:
            progress(done, count)
    if scores is None or targets is None:
        raise ValueError("the loader is empty")
    return Scores(scores, targets, time.perf_counter() - start)
