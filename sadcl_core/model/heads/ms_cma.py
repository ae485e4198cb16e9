"""MS-CMA, our reading: locations are compared with embeddings of the labels by their cosine, on two scales.

You et al., "Cross-Modality Attention with Semantic Graph Embedding for Multi-Label Classification", AAAI 2020. Known in
outline: embeddings are made from word vectors so that their cosines follow the co-occurrence of the labels, the positive part
of a location's cosine with a label is its attention, and the scores of two stages of the backbone are averaged. Not known are
the widths, the threshold and the schedule: the embeddings are learned together with the rest here (loss `penalty`), by two
linear layers, with ML-GCN's threshold, and follow the mean of P(j | i) and P(i | j).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST, Section
from sadcl_core.model.graphs import conditional_probabilities
from sadcl_core.model.heads.interface import Head, HeadInputs, HeadOutput
from sadcl_core.model.label_facts import LabelFacts
from sadcl_core.model.layers import draw_uniform
from sadcl_core.model.word_vectors import WIDTH


class MSCMAHead(Head):
    """Cosine attention of label embeddings to two maps.

    Example:
        >>> head = MSCMAHead(channels=(8, 16), num_classes=3, options=MSCMAHead.Options(width=8))
        >>> output = head(HeadInputs((torch.randn(2, 8, 28, 28), torch.randn(2, 16, 14, 14))), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 16), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Our choice: nothing of it is published."""

        width: int = Field(
            512, ge=1, le=WIDEST, description="of the embeddings; label features, of two scales, are twice as wide"
        )
        threshold: float = Field(
            0.4, ge=0, le=1, description="P(j | i) below which a cosine that is below it, too, is left alone"
        )

    NEEDS = frozenset({"together", "vectors"})
    LEVELS = (2, 1)
    PER_CLASS = ("weight", "bias")
    CLASSIFIER = ("weight", "bias")
    FROM_DATA = ("words", "graph")

    words: Tensor
    graph: Tensor

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_1, D_2), shallow to deep."""
        super().__init__()
        width = options.width
        self.width = 2 * width
        self.threshold = options.threshold
        self.register_buffer("words", torch.zeros(num_classes, WIDTH))
        self.register_buffer("graph", torch.zeros(num_classes, num_classes))
        self.embedding = nn.Sequential(nn.Linear(WIDTH, width), nn.ReLU(), nn.Linear(width, width))
        self.projections = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.weight = nn.Parameter(torch.empty(num_classes, self.width))
        self.bias = nn.Parameter(torch.empty(num_classes))
        draw_uniform(self.weight, self.bias, inputs=width)

    @classmethod
    def measured(cls, options: Section) -> frozenset[str]:
        """Return what the loss `penalty` reads."""
        return frozenset({"penalty"})

    def prepare(self, facts: LabelFacts) -> None:
        """Store the word vectors and P(j | i), mean of both directions."""
        super().prepare(facts)
        conditional = conditional_probabilities(facts)
        self.graph.copy_((conditional + conditional.T) / 2)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D) and the attention to the deeper of two maps (B, K, h, w)."""
        embeddings = F.normalize(self.embedding(self.words), dim=-1)  # (K, width)
        features, attention = [], None
        for feature_map, projection in zip(inputs.maps, self.projections, strict=True):
            locations = projection(feature_map).flatten(2)  # (B, width, L)
            cosines = embeddings.to(locations.dtype) @ F.normalize(locations, dim=1)
            shares = cosines.float().relu() + 1e-6  # a label that is like nothing looks everywhere
            shares = shares / shares.sum(dim=-1, keepdim=True)  # (B, K, L)
            features.append(shares.to(locations.dtype) @ locations.transpose(1, 2))
            attention = shares.unflatten(2, feature_map.shape[-2:])
        label_features = torch.cat(features, dim=-1)
        logits = (label_features * self.weight).sum(dim=-1) / 2 + self.bias  # mean of the scores of two scales
        penalty = self._penalty(embeddings).expand(logits.shape[0])
        return HeadOutput(logits, label_features, attention if need_attention else None, measures={"penalty": penalty})

    def _penalty(self, embeddings: Tensor) -> Tensor:
        """Return how far cosines are from the co-occurrence, squared, mean over the pairs that count."""
        cosines = embeddings @ embeddings.T
        counted = ((self.graph >= self.threshold) | (cosines >= self.threshold)).float().fill_diagonal_(0)
        return (counted * (cosines - self.graph).square()).sum() / counted.sum().clamp(min=1)
