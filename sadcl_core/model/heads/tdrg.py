"""TDRG: a transformer over three scales of the image, and a graph of class features that it informs.

Zhao et al., "Transformer-based Dual Relation Graph for Multi-label Image Recognition", ICCV 2021. It reads two maps of the
backbone, at its stride and at half of it. Certain in every detail. Departures: maps of less than 3 locations a side are padded
before the coarsest scale is made of them; a training batch of one image is normalised by the statistics of the others, and
`norm` may be another. The authors' position embeddings are not used by their program, and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST
from sadcl_core.model.graphs import DynamicGraph, Norm
from sadcl_core.model.heads.interface import AttentionOptions, HeadInputs, HeadOutput, LinearHead, in_full_precision
from sadcl_core.model.layers import EncoderLayer

NEAREST = 0.05  # share of the locations that a mask is trained on: the best ones


class TDRGHead(LinearHead):
    """Structural and semantic relations: logits of a transformer over scales, and of a graph.

    Example:
        >>> head = TDRGHead(channels=(8, 16), num_classes=3, options=TDRGHead.Options(width=8, feedforward=16))
        >>> output = head(HeadInputs((torch.randn(2, 8, 28, 28), torch.randn(2, 16, 14, 14))), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 16), (2, 3, 14, 14)]
    """

    class Options(AttentionOptions):
        """Defaults are the paper's."""

        width: int = Field(512, ge=1, le=WIDEST, description="of each scale; label features are twice as wide")
        feedforward: int = Field(2048, ge=1, le=WIDEST, description="width inside the feed-forward layers")
        layers: int = Field(3, ge=1, le=64, description="of the encoder, which all scales share")
        norm: Norm = "batch"

    LEVELS = (2, 1)
    AUXILIARY: ClassVar[Mapping[str, float]] = {"structural": 1.0, "graph": 1.0, "masks": 1.0}
    PER_CLASS = ("structural.weight", "structural.bias", "masks.weight", "dynamic.weight", "dynamic.bias", "weight", "bias")
    CLASSIFIER = ("structural.weight", "structural.bias", "weight", "bias")

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_1, D_2), shallow to deep."""
        super().__init__()
        shallow, deep = channels
        width = options.width
        self.width = 2 * width
        self.fine = nn.Conv2d(shallow, width, 1)
        self.middle = nn.Conv2d(deep, width, 1)
        self.coarse = nn.Conv2d(deep, width, 3, stride=2)
        layer = {"width": width, "attention_heads": options.attention_heads, "feedforward": options.feedforward}
        self.encoder = nn.ModuleList(EncoderLayer(**layer, dropout=0.0, activation="gelu") for _ in range(options.layers))
        for parameter in self.encoder.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        self.structural = nn.Linear(3 * width, num_classes)
        self.masks = nn.Conv2d(deep, num_classes, 1, bias=False)
        self.content = nn.Conv2d(deep, width, 1)
        self.context = nn.Linear(width, width)
        self.dynamic = DynamicGraph(width=2 * width, num_classes=num_classes, norm=options.norm, image_width=3 * width)
        self.add_classifier(num_classes)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D), masks as attention (B, K, h, w) and the logits of the branches."""
        shallow, deep = inputs.maps
        scales = [self._encoded(features) for features in self._crossed(shallow, deep)]  # (B, L_i, width)
        structural = self.structural(torch.cat([features.amax(dim=1) for features in scales], dim=-1))
        scores = self.masks(deep)  # (B, K, h, w)
        masks = scores.sigmoid()
        best = max(1, round(NEAREST * scores.shape[-2] * scores.shape[-1]))
        flat = masks.float().flatten(2)
        with in_full_precision(deep):  # sums over the locations grow with their number
            content = flat @ self.content(deep.float()).flatten(2).transpose(1, 2)  # (B, K, width)
            context = self.context((flat @ scales[1].float()).detach())
        nodes = torch.cat([content, context], dim=-1)
        image = torch.cat([features.detach().mean(dim=1) for features in scales], dim=-1)
        features = nodes + self.dynamic(nodes, image)
        graph = self.logits_of(features)
        branches = {"structural": structural, "graph": graph, "masks": scores.flatten(2).topk(best, dim=-1).values.mean(dim=-1)}
        attention = masks / masks.sum(dim=(2, 3), keepdim=True) if need_attention else None
        return HeadOutput(0.7 * structural + 0.3 * graph, features, attention, branches)

    def _crossed(self, shallow: Tensor, deep: Tensor) -> list[Tensor]:
        """Return three scales (B, width, h_i, w_i), to each of which the product of all is added."""
        padding = [max(0, 3 - side) for side in (deep.shape[-1], deep.shape[-2])]
        own = [self.fine(shallow), self.middle(deep), self.coarse(F.pad(deep, (0, padding[0], 0, padding[1])))]
        size = own[0].shape[-2:]
        product = _resized(own[0], size) * _resized(own[1], size) * _resized(own[2], size)
        return [features + _resized(product, features.shape[-2:]).to(features.dtype) for features in own]

    def _encoded(self, features: Tensor) -> Tensor:
        tokens = features.flatten(2).transpose(1, 2)
        for layer in self.encoder:
            tokens = layer(tokens)
        return tokens


def _resized(features: Tensor, size: torch.Size) -> Tensor:
    """Return a map in float32, since products of three overflow in half precision, at another size."""
    return F.interpolate(features.float(), size=size, mode="bilinear", align_corners=True)
