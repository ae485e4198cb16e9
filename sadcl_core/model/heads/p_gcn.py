"""P-GCN, our reading: class features by masks, then graph convolutions on the co-occurrence of the labels.

Chen et al., "Learning Graph Convolutional Networks for Multi-Label Recognition and Applications", TPAMI 2023. Known in outline:
what its classes see goes through a graph convolutional network on a matrix of correlations, and each node gives a score. Not
known are the split of the features, the matrix and the widths: the masks here are those of ADD-GCN, the matrix and the two
layers those of ML-GCN, and the score of a node is linear with weights of its class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST
from sadcl_core.model.graphs import GraphOptions
from sadcl_core.model.heads.interface import HeadInputs, HeadOutput, LinearHead, in_full_precision
from sadcl_core.model.label_facts import LabelFacts


class PGCNHead(LinearHead):
    """Masks of classes, and graph convolutions of what they show.

    Example:
        >>> head = PGCNHead(channels=(16,), num_classes=3, options=PGCNHead.Options(width=8))
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(GraphOptions):
        """Defaults are those of ADD-GCN and ML-GCN."""

        width: int = Field(1024, ge=1, le=WIDEST, description="D, width of the label features")

    NEEDS = frozenset({"together"})
    PER_CLASS = ("masks.weight", "weight", "bias")
    FROM_DATA = ("graph",)

    graph: Tensor

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,)."""
        super().__init__()
        (in_channels,) = channels
        self.width = width = options.width
        self.options = options
        self.register_buffer("graph", torch.eye(num_classes))
        self.masks = nn.Conv2d(in_channels, num_classes, 1, bias=False)
        self.projection = nn.Conv2d(in_channels, width, 1)
        self.first = nn.Linear(width, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)
        self.add_classifier(num_classes)

    def prepare(self, facts: LabelFacts) -> None:
        """Store the graph."""
        self.graph.copy_(self.options.graph(facts))

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D) and the masks as attention (B, K, h, w) for a map (B, D_b, h, w)."""
        (feature_map,) = inputs.maps
        masks = self.masks(feature_map).sigmoid()
        with in_full_precision(feature_map):  # sums over the locations grow with their number
            nodes = masks.float().flatten(2) @ self.projection(feature_map.float()).flatten(2).transpose(1, 2)
        hidden = F.leaky_relu(self.graph @ self.first(nodes), 0.2)
        features = self.graph @ self.second(hidden)
        attention = masks / masks.sum(dim=(2, 3), keepdim=True) if need_attention else None
        return HeadOutput(self.logits_of(features), features, attention)
