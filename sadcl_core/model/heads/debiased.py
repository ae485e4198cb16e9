"""CCD: the part of an image's feature that only says in which context it was taken is removed before classes are scored.

Liu et al., "Contextual Debiasing for Visual Recognition with Causal Mechanisms", CVPR 2022. The first stage trains a classifier
of cosines on the mean over the locations. Its mean feature of each class is then a memory: the second stage removes the memory
of the classes that the first classifier sees from the largest features, and a second classifier scores what is left.

Certain in every detail. Departures: the memory is made of training images as they are and not as they are augmented, and, as
all stages here, the second starts from the best weights of the first. The memory are the prototypes of the model file; without
any, as in the first stage, the scores are those of the first classifier.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import Section
from sadcl_core.model.heads.interface import Head, HeadInputs, HeadOutput, activation_maps
from sadcl_core.model.layers import draw_uniform


class DebiasedHead(Head):
    """Two classifiers of cosines, the second without the context that the first sees.

    Example:
        >>> head = DebiasedHead(channels=(16,), num_classes=3, options=DebiasedHead.Options())
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),), prototypes=torch.randn(3, 16)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 16), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Defaults are the paper's."""

        parts: int = Field(4, ge=1, le=1024, description="of the feature, each with a cosine of its own")
        scale: float = Field(32.0, gt=0, description="tau, of the mean cosine")
        margin: float = Field(1 / 32, ge=0, description="gamma, added to the length of a class's weights")

    SHARED_FEATURES = True
    READS_PROTOTYPES = True
    PER_CLASS = CLASSIFIER = ("first", "second")
    STARTS_AT_ZERO = False  # cosines are near their full size after the first step

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,), the width of the label features as well."""
        super().__init__()
        (self.width,) = channels
        self.parts = math.gcd(options.parts, self.width)  # as many as the width allows
        self.scale, self.margin = options.scale, options.margin
        self.first = nn.Parameter(torch.empty(num_classes, self.width))
        self.second = nn.Parameter(torch.empty(num_classes, self.width))
        self.context = nn.Linear(self.width, self.width)
        draw_uniform(self.first, self.second, inputs=self.width)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), the feature that is scored for each label (B, K, D_b) and activation maps (B, K, h, w)."""
        (feature_map,) = inputs.maps
        mean, largest = feature_map.mean(dim=(2, 3)), feature_map.amax(dim=(2, 3))
        first = self._cosines(mean, self.first)
        features = mean
        rows: Tensor = self.first
        logits = first
        if inputs.prototypes is not None:
            memory = inputs.prototypes.to(mean.dtype)
            left = largest - self.context(largest).tanh() * (first.softmax(dim=1).to(mean.dtype) @ memory)
            debiased = (inputs.prototypes != 0).any()
            logits = torch.where(debiased, self._cosines(left, self.second), first)
            features = torch.where(debiased, left.to(mean.dtype), mean)
            rows = torch.where(debiased, self.second, self.first)
        label_features = features[:, None].expand(-1, len(rows), -1)
        attention = activation_maps(feature_map, rows, pooling="mean") if need_attention else None
        return HeadOutput(logits, label_features, attention)

    def _cosines(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return logits (B, K) for features (B, D) and weights (K, D): the scaled mean of the cosines of their parts."""
        x = F.normalize(features.float().unflatten(1, (self.parts, -1)), dim=-1)
        w = weight.float().unflatten(1, (self.parts, -1))
        w = w / (w.norm(dim=-1, keepdim=True) + self.margin)
        cosines: Tensor = x.flatten(1) @ w.flatten(1).T
        return self.scale / self.parts * cosines
