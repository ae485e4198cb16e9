"""The baseline of the ablations: pooling over the locations and one linear layer (ResNet-101* in the tables of SADCL: the mean).

Every label has the same feature, the pooled one. Its attention is the class activation map (Zhou et al., CVPR 2016): the share of
each location in the positive part of the logit. Certain in every detail.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import Section
from sadcl_core.model.heads.interface import Head, HeadInputs, HeadOutput
from sadcl_core.model.layers import Dropout
from sadcl_core.model.logistic_regression import LogisticRegression

LEAST = 1e-6  # of a feature whose power is taken


class PooledHead(Head):
    """Pooling over the locations and a linear layer.

    Example:
        >>> import torch
        >>> head = PooledHead(channels=(16,), num_classes=3, options=PooledHead.Options())
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 16), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Defaults are the baseline's."""

        pooling: Literal["mean", "root-mean", "max", "gem"] = Field(
            "mean",
            description="over the locations; root-mean: signed square root of the mean (Perronnin et al., ECCV 2010); "
            "gem: generalised mean (Radenovic et al., TPAMI 2019)",
        )
        gem_power: float = Field(
            3.0, ge=1, le=100, description="of the generalised mean; 1: the mean of the positive features; large: the maximum"
        )
        dropout: float = Field(0.0, ge=0, lt=1, description="of the pooled feature before the linear layer")
        standardise: bool = Field(False, description="the pooled feature by its mean and deviation on the training images")

    SHARED_FEATURES = True
    PER_CLASS = CLASSIFIER = ("classifier.weight", "classifier.bias")
    extendable = True

    mean: Tensor  # (D_b,) of the pooled feature, where it is standardised
    deviation: Tensor  # (D_b,)

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,), the width of the label features as well."""
        super().__init__()
        (in_channels,) = channels
        self.width = in_channels
        self.pooling, self.gem_power = options.pooling, options.gem_power
        self.dropout = Dropout(options.dropout)
        self.classifier = nn.Linear(in_channels, num_classes)
        self.standardise = options.standardise
        if options.standardise:
            self.register_buffer("mean", torch.zeros(in_channels))
            self.register_buffer("deviation", torch.ones(in_channels))

    @torch.no_grad()
    def assign(self, fit: LogisticRegression, *, restandardise: bool = True) -> None:
        """Take the weights of a fit on features that `pool` gave; without `restandardise` keep the mean and deviation here."""
        if self.standardise and restandardise:
            self.get_buffer("mean").copy_(fit.mean)
            self.get_buffer("deviation").copy_(fit.deviation)
            self.classifier.weight.copy_(fit.weight)
            self.classifier.bias.copy_(fit.bias)
            return
        weight = fit.weight / fit.deviation
        bias = fit.bias - weight @ fit.mean
        self.classifier.weight.copy_(weight * self.deviation if self.standardise else weight)
        self.classifier.bias.copy_(bias + weight @ self.mean if self.standardise else bias)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), the pooled feature for each label (B, K, D_b) and activation maps (B, K, h, w)."""
        (feature_map,) = inputs.maps
        pooled = self.pool(feature_map)  # (B, D_b)
        logits = self.classifier(self.dropout(self._standardised(pooled)))
        label_features = pooled[:, None, :].expand(-1, logits.shape[1], -1)
        attention = None
        if need_attention:
            parts = self._parts(feature_map.flatten(2), pooled)  # (B, D_b, L)
            weight = self.classifier.weight / self.deviation if self.standardise else self.classifier.weight
            activation = (weight @ parts).relu()  # (B, K, L)
            activation = activation + 1e-6  # a map without a positive part is flat, not undefined
            share = activation / activation.sum(dim=-1, keepdim=True)
            attention = share.view(*share.shape[:2], *feature_map.shape[-2:])
        return HeadOutput(logits, label_features, attention)

    def _standardised(self, pooled: Tensor) -> Tensor:
        """Return (B, D_b), less mean and over deviation where the options ask for it."""
        return (pooled - self.mean) / self.deviation if self.standardise else pooled

    def pool(self, feature_map: Tensor) -> Tensor:
        """Return (B, D_b) for a map (B, D_b, h, w), not standardised."""
        if self.pooling == "mean":
            return feature_map.mean(dim=(2, 3))
        if self.pooling == "root-mean":
            mean = feature_map.float().mean(dim=(2, 3))
            return (mean.sign() * (mean.abs() + LEAST).sqrt()).to(feature_map.dtype)  # of finite slope at 0
        if self.pooling == "max":
            return feature_map.amax(dim=(2, 3))
        positive = feature_map.float().clamp(min=LEAST)
        largest = positive.detach().amax(dim=(2, 3), keepdim=True)  # powers of what is at most 1 stay finite
        mean = (positive / largest).pow(self.gem_power).mean(dim=(2, 3)).pow(1 / self.gem_power)
        return (mean * largest[:, :, 0, 0]).to(feature_map.dtype)

    def location_scores(self, feature_map: Tensor) -> Tensor:
        """Return the logits (B, K, h, w) of the classifier at each location of a map (B, D_b, h, w), as of a pooled feature."""
        scores: Tensor = self.classifier(self._standardised(feature_map.movedim(1, -1)))
        return scores.movedim(-1, 1)

    def _parts(self, locations: Tensor, pooled: Tensor) -> Tensor:
        """Return what each of the locations (B, D_b, L) adds to the pooled feature (B, D_b), up to a factor."""
        if self.pooling in ("mean", "root-mean"):
            slope = 1 if self.pooling == "mean" else 1 / pooled.abs().clamp(min=LEAST)[:, :, None]
            return locations * slope
        if self.pooling == "max":
            return torch.zeros_like(locations).scatter_(2, locations.argmax(dim=2, keepdim=True), pooled[:, :, None])
        shares = (locations.float().clamp(min=LEAST) / pooled[:, :, None].float()).pow(self.gem_power)  # their mean is 1
        return (shares * pooled[:, :, None]).to(locations.dtype)
