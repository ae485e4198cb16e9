"""SSGRL: words say where to look, and a gated graph network over the classes lets what is seen there speak to each other.

Chen et al., "Learning Semantic-Specific Graph Representation for Multi-Label Image Recognition", ICCV 2019. Certain in every
detail but the word vectors (GloVe there, see `model.word_vectors`). Departures: the reset gate of the graph has its own
weights, as in the equations, where the authors' program shares those of the update gate; the graph is P(j | i) with a zero
diagonal; a map of another width than `width` is projected to it.

With `classifier_rounds` the weights of the classifier are nodes of a second graph network, as in KGGR (Chen et al.,
"Knowledge-Guided Multi-Label Few-Shot Learning for General Image Recognition", TPAMI 2022). That is our reading of it: the
widths and rounds of the second network are not known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST, Section
from sadcl_core.model.graphs import GatedGraph, WordAttention, conditional_probabilities
from sadcl_core.model.heads.interface import HeadInputs, HeadOutput, LinearHead
from sadcl_core.model.label_facts import LabelFacts
from sadcl_core.model.word_vectors import WIDTH


class SSGRLHead(LinearHead):
    """Word-guided attention, then a gated graph network.

    Example:
        >>> head = SSGRLHead(channels=(16,), num_classes=3, options=SSGRLHead.Options(width=8, inner=4))
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Defaults are the paper's for ResNet-101."""

        width: int = Field(2048, ge=1, le=WIDEST, description="D, width of the label features")
        inner: int = Field(1024, ge=1, le=WIDEST, description="width in which words and locations are compared")
        rounds: int = Field(3, ge=0, le=64, description="of the graph network")
        pool: int = Field(2, ge=1, le=64, description="locations a side that are averaged first; 1: none")
        classifier_rounds: int = Field(0, ge=0, le=64, description="of a second graph network over the classifier; 3: KGGR")

    NEEDS = frozenset({"together", "vectors"})
    PER_CLASS = ("weight", "bias")
    FROM_DATA = ("words", "graph")

    words: Tensor
    graph: Tensor

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,)."""
        super().__init__()
        (in_channels,) = channels
        self.width = width = options.width
        self.pool = options.pool
        self.register_buffer("words", torch.zeros(num_classes, WIDTH))
        self.register_buffer("graph", torch.zeros(num_classes, num_classes))
        self.input_projection: nn.Module = nn.Identity() if in_channels == width else nn.Conv2d(in_channels, width, 1)
        self.attention = WordAttention(width=width, inner=options.inner, word_width=WIDTH)
        self.network = GatedGraph(width=width, rounds=options.rounds)
        self.output = nn.Linear(2 * width, width)
        self.add_classifier(num_classes)
        self.classifier_network = self.classifier_output = None
        if options.classifier_rounds:
            self.classifier_network = GatedGraph(width=width, rounds=options.classifier_rounds)
            self.classifier_output = nn.Linear(2 * width, width)

    def prepare(self, facts: LabelFacts) -> None:
        """Store the word vectors and P(j | i)."""
        super().prepare(facts)
        self.graph.copy_(conditional_probabilities(facts))

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D) and the attention of the words (B, K, h, w) for a map (B, D_b, h, w)."""
        (feature_map,) = inputs.maps
        pooled = F.avg_pool2d(feature_map, self.pool, ceil_mode=True) if self.pool > 1 else feature_map
        locations = self.input_projection(pooled).flatten(2).transpose(1, 2)  # (B, L, D)
        seen, shares = self.attention(locations, self.words)
        nodes = self.network(seen, self.graph)
        features = self.output(torch.cat([nodes, seen], dim=-1)).tanh()
        weight: Tensor = self.weight
        if self.classifier_network is not None and self.classifier_output is not None:
            nodes = self.classifier_network(weight, self.graph)
            weight = self.classifier_output(torch.cat([nodes, weight], dim=-1))
        attention = None
        if need_attention:
            coarse = shares.unflatten(2, pooled.shape[-2:])
            # the nearest: a share of the pooled map is of its cells
            fine = F.interpolate(coarse.float(), size=feature_map.shape[-2:])
            attention = fine / fine.sum(dim=(2, 3), keepdim=True)
        return HeadOutput((features * weight).sum(dim=-1) + self.bias, features, attention)
