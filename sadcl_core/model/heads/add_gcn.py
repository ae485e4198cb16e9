"""ADD-GCN: class features by masks, then a static graph and one of each image.

Ye et al., "Attention-Driven Dynamic Graph Convolutional Network for Multi-Label Image Recognition", ECCV 2020. Certain in every
detail. Departures: a training batch of one image is normalised by the statistics of the others, and `norm` may be another. The
two branches are there to be looked at; their mean alone is trained, as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from sadcl_core.config.schema import WIDEST, Section
from sadcl_core.model.graphs import DynamicGraph, Norm
from sadcl_core.model.heads.interface import HeadInputs, HeadOutput, LinearHead, in_full_precision
from sadcl_core.model.layers import draw_uniform


class ADDGCNHead(LinearHead):
    """Masks of classes, and a graph of their features that depends on the image.

    Example:
        >>> head = ADDGCNHead(channels=(16,), num_classes=3, options=ADDGCNHead.Options(width=8))
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Defaults are the paper's."""

        width: int = Field(1024, ge=1, le=WIDEST, description="D, width of the label features")
        norm: Norm = "batch"

    AUXILIARY: ClassVar[Mapping[str, float]] = {"masks": 0.0, "graph": 0.0}
    PER_CLASS = ("masks.weight", "dynamic.weight", "dynamic.bias", "weight", "bias")
    PER_PAIR = ("static",)

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,)."""
        super().__init__()
        (in_channels,) = channels
        self.width = width = options.width
        self.masks = nn.Conv2d(in_channels, num_classes, 1, bias=False)
        self.projection = nn.Conv2d(in_channels, width, 1)
        self.static = nn.Parameter(torch.empty(num_classes, num_classes))
        self.static_layer = nn.Linear(width, width)
        self.dynamic = DynamicGraph(width=width, num_classes=num_classes, norm=options.norm)
        draw_uniform(self.static, inputs=num_classes)
        self.add_classifier(num_classes)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D), the masks as attention (B, K, h, w) and the logits of both branches."""
        (feature_map,) = inputs.maps
        scores = self.masks(feature_map)  # (B, K, h, w)
        masks = scores.sigmoid()
        with in_full_precision(feature_map):  # sums over the locations grow with their number
            nodes = masks.float().flatten(2) @ self.projection(feature_map.float()).flatten(2).transpose(1, 2)  # (B, K, D)
        static = F.leaky_relu(self.static @ nodes, 0.2)
        hidden = nodes + F.leaky_relu(self.static_layer(static), 0.2)
        features = nodes + self.dynamic(hidden, hidden.mean(dim=1))
        branches = {"masks": scores.amax(dim=(2, 3)), "graph": self.logits_of(features)}
        attention = masks / masks.sum(dim=(2, 3), keepdim=True) if need_attention else None
        return HeadOutput((branches["masks"] + branches["graph"]) / 2, features, attention, branches)
