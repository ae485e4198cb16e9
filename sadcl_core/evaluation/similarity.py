"""The cosines of label features and prototypes, which help to find label errors; see `sadcl_core.metrics.label_errors`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sadcl_core.model.classifier import Classifier, ClassifierOutput
from sadcl_core.runtime.distributed import all_gather, is_distributed


class SimilarityObserver:
    """Watch the scoring of a split and keep the cosine of every label feature and its prototype."""

    needs_attention = False

    def __init__(self, classifier: Classifier, count: int) -> None:
        """Prepare for `count` images.

        Raises:
            ValueError: the classifier has no prototypes.
        """
        if not bool(classifier.prototypes.any()):
            raise ValueError("the classifier has no prototypes")
        with torch.no_grad():
            self.centres = classifier.project(classifier.prototypes).float()  # (K, P), of length 1
        self.values = torch.zeros(count, len(self.centres), dtype=torch.float16)  # half of float32 where N x K is large
        self.indices: list[Tensor] = []

    @torch.no_grad()
    def __call__(self, classifier: Classifier, output: ClassifierOutput, targets: Tensor, indices: Tensor) -> None:
        """Add a batch."""
        embeddings = classifier.project(output.label_features.float())  # (B, K, P)
        self.values[indices] = (embeddings * self.centres).sum(dim=-1).cpu().half()
        self.indices.append(indices)

    def gather(self) -> None:
        """Combine the values of all processes."""
        if is_distributed():
            own = torch.cat([torch.zeros(0, dtype=torch.long), *self.indices])
            self.values[all_gather(own)] = all_gather(self.values[own])

    def result(self) -> npt.NDArray[np.float16]:
        """Return the cosines, (N, K) in -1..1."""
        return self.values.numpy()
