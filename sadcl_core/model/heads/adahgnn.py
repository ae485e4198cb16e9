"""AdaHGNN: what words see on two scales goes through a hypergraph of the classes that is learned.

Wu et al., "AdaHGNN: Adaptive Hypergraph Neural Networks for Multi-Label Image Classification", ACM MM 2020. Probably right in
every detail: it is specified from a public copy that looks like the authors'. The shares of a class in the hyperedges start as
its word vector, as there; with another number of hyperedges than a vector has numbers, at random on the same scale.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST, Section
from sadcl_core.model.graphs import WordAttention
from sadcl_core.model.heads.interface import HeadInputs, HeadOutput, LinearHead
from sadcl_core.model.label_facts import LabelFacts
from sadcl_core.model.word_vectors import NORM, WIDTH


class AdaHGNNHead(LinearHead):
    """Word-guided attention on two maps, then a learned hypergraph.

    Example:
        >>> options = AdaHGNNHead.Options(width=8, inner=4, edges=5)
        >>> head = AdaHGNNHead(channels=(8, 16), num_classes=3, options=options)
        >>> output = head(HeadInputs((torch.randn(2, 8, 28, 28), torch.randn(2, 16, 14, 14))), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Defaults are those of the copy, for ResNet-101."""

        width: int = Field(2048, ge=1, le=WIDEST, description="D, width of the label features")
        inner: int = Field(
            1024, ge=2, le=WIDEST, description="width in which words and locations are compared; half on the finer map"
        )
        edges: int = Field(300, ge=1, le=WIDEST, description="hyperedges among the classes")

    NEEDS = frozenset({"vectors"})
    LEVELS = (2, 1)
    PER_CLASS = ("incidence", "weight", "bias")
    FROM_DATA = ("words",)

    words: Tensor

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_1, D_2), shallow to deep."""
        super().__init__()
        shallow, deep = channels
        self.width = width = options.width
        self.register_buffer("words", torch.zeros(num_classes, WIDTH))
        inner = (options.inner // 2, options.inner)
        self.attention = nn.ModuleList(
            WordAttention(width=count, inner=size, word_width=WIDTH) for count, size in zip(channels, inner, strict=True)
        )
        self.incidence = nn.Parameter(torch.empty(num_classes, options.edges))
        self.layers = nn.ModuleList(nn.ModuleList(nn.Linear(count, count) for _ in range(2)) for count in channels)
        self.output = nn.Linear(shallow + 2 * deep, width)
        if options.edges == WIDTH:
            nn.init.zeros_(self.incidence)  # until `prepare`
        else:
            nn.init.normal_(self.incidence, std=NORM / math.sqrt(WIDTH))
        self.add_classifier(num_classes)

    @torch.no_grad()
    def prepare(self, facts: LabelFacts) -> None:
        """Store the word vectors; those of classes that no model before has put into hyperedges are their first shares, too."""
        super().prepare(facts)
        if self.incidence.shape == self.words.shape:
            new = ~self.incidence.any(dim=1)
            self.incidence[new] = self.words[new]

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D) and the attention to the deeper of two maps (B, K, h, w)."""
        shares = self.incidence.sigmoid()  # (K, E)
        scaled = shares * shares.sum(dim=1, keepdim=True).rsqrt()
        graph = (scaled / shares.sum(dim=0)) @ scaled.T  # (K, K)
        heard, seen, attention = [], shares, shares
        for feature_map, attend, layers in zip(inputs.maps, self.attention, self.layers, strict=True):
            seen, attention = attend(feature_map.flatten(2).transpose(1, 2), self.words)
            assert isinstance(layers, nn.ModuleList)
            first, second = layers
            heard.append(graph @ second((graph @ first(seen)).relu()))
        features = self.output(torch.cat([*heard, seen], dim=-1)).tanh()
        shown = attention.unflatten(2, inputs.maps[-1].shape[-2:]) if need_attention else None
        return HeadOutput(self.logits_of(features), features, shown)
