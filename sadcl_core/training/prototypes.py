"""The first prototypes: one per class, from the label features of confident training images (SADCL, ECAI 2023).

Prototype of class k = mean of H_bk over training images with y_bk = 1 and a score above `min_score`. A class without
such an image takes all its positives; a class without a positive takes the mean of its decoder output over all
images, less those of which it is unknown whether they show it (over those too, when there are no others).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sadcl_core.data.dataset import Batch
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.inference.forward import Forward
from sadcl_core.model.classifier import Classifier
from sadcl_core.runtime.distributed import all_reduce
from sadcl_core.runtime.progress import Progress

CONFIDENT = "confident images"
POSITIVES = "all positives"
DECODER = "decoder output"


@dataclass(frozen=True)
class ClassCoverage:
    """Record of how the prototype of a class was made: its active images, the confident ones, and which were used."""

    name: str
    positives: int
    confident: int
    made_from: str


@torch.inference_mode()
def build_prototypes(
    classifier: Classifier,
    loader: DataLoader[Batch],
    *,
    classes: tuple[str, ...],
    min_score: float,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> tuple[Tensor, tuple[ClassCoverage, ...]]:
    """Build the first prototypes in one pass over the training images, of all processes.

    Returns:
        Prototypes (K, D) in float32, and how each was made.
    """
    forward = Forward(classifier, preprocessing, device=device, precision=precision)
    width = classifier.prototypes.shape[1]
    sums = torch.zeros(4, len(classes), width, dtype=torch.float64)  # over confident, positive, known and all images
    counts = torch.zeros(4, len(classes), dtype=torch.long)
    done = 0
    for images, targets, _ in loader:
        output = forward(images)
        features = output.label_features.cpu().double()  # (B, K, D)
        scores = output.logits.float().sigmoid().cpu()
        positive = targets == 1
        for row, used in enumerate((positive & (scores > min_score), positive, targets != -1, torch.ones_like(positive))):
            sums[row] += torch.einsum("bk,bkd->kd", used.double(), features)
            counts[row] += used.sum(dim=0)
        done += len(images)
        if progress is not None:
            progress(done, len(loader.dataset))  # type: ignore[arg-type]
    sums, counts = all_reduce(sums), all_reduce(counts)
    means = sums / counts.clamp(min=1)[..., None]
    source = (counts > 0).int().argmax(dim=0)  # (K,), the first with an image
    prototypes = means[source, torch.arange(len(classes))]
    coverage = tuple(
        ClassCoverage(name, int(counts[1, k]), int(counts[0, k]), (CONFIDENT, POSITIVES, DECODER, DECODER)[int(source[k])])
        for k, name in enumerate(classes)
    )
    return prototypes.float(), coverage
