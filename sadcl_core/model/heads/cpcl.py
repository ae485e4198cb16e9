"""CPCL: a class feature is near to what is composed of the class's prototype, or to what is left without it.

Zhou et al., "Multi-label Image Classification via Category Prototype Compositional Learning", TCSVT 2022. Certain in every
detail but the word vectors (GloVe there, see `model.word_vectors`). Its loss beside cross-entropy is `hinge` with margin 2. The
map is pooled before classes appear, so the attention is flat.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST
from sadcl_core.model.graphs import GraphOptions
from sadcl_core.model.heads.interface import Head, HeadInputs, HeadOutput
from sadcl_core.model.label_facts import LabelFacts
from sadcl_core.model.word_vectors import WIDTH


class CPCLHead(Head):
    """Distances of class features to compositions with prototypes.

    Example:
        >>> head = CPCLHead(channels=(16,), num_classes=3, options=CPCLHead.Options(width=8))
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(GraphOptions):
        """Defaults are the paper's."""

        width: int = Field(1024, ge=2, le=WIDEST, description="D, width of the label features and prototypes")

    NEEDS = frozenset({"together", "vectors"})
    CLASSIFIER = ("composed.weight", "composed.bias", "decomposed.weight", "decomposed.bias")
    FROM_DATA = ("words", "graph")

    words: Tensor
    graph: Tensor

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,)."""
        super().__init__()
        (in_channels,) = channels
        self.width = width = options.width
        self.options = options
        self.register_buffer("words", torch.zeros(num_classes, WIDTH))
        self.register_buffer("graph", torch.eye(num_classes))
        self.image = nn.Linear(in_channels, width, bias=False)
        self.word = nn.Linear(WIDTH, width, bias=False)
        self.fusion = nn.Linear(width, width)
        self.first = nn.Linear(WIDTH, width // 2, bias=False)
        self.second = nn.Linear(width // 2, width, bias=False)
        self.composed = nn.Linear(2 * width, width)
        self.decomposed = nn.Linear(2 * width, width)

    def prepare(self, facts: LabelFacts) -> None:
        """Store the word vectors and the graph."""
        super().prepare(facts)
        self.graph.copy_(self.options.graph(facts))

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D) and flat attention (B, K, h, w) for a map (B, D_b, h, w)."""
        (feature_map,) = inputs.maps
        pooled = self.image(feature_map.amax(dim=(2, 3)))  # (B, D)
        features = self.fusion((pooled[:, None] * self.word(self.words)).tanh())  # (B, K, D)
        hidden = F.leaky_relu(self.graph @ self.first(self.words), 0.2)
        prototypes = (self.graph @ self.second(hidden)).expand(pooled.shape[0], -1, -1)
        both = torch.cat([features * prototypes, prototypes], dim=-1)
        near, far = ((features - layer(both)).float().norm(dim=-1) for layer in (self.composed, self.decomposed))
        attention = None
        if need_attention:
            height, width = feature_map.shape[-2:]
            attention = torch.full_like(feature_map[:, :1], 1 / (height * width)).expand(-1, len(self.words), -1, -1)
        return HeadOutput(far - near, features, attention)
