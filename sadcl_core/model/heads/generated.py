"""Generated classifiers: the weights of a linear classifier on the pooled feature are computed from word vectors.

`gcn`: Chen et al., "Multi-Label Image Recognition with Graph Convolutional Networks" (ML-GCN), CVPR 2019: two graph
convolutions on the re-weighted co-occurrence of the training labels. `dictionary`: Zhou et al., "Deep Semantic Dictionary
Learning for Multi-label Image Classification" (DSDL), AAAI 2021: an auto-encoder of the words gives a dictionary, and scores
are the ridge coefficients of the pooled feature in it; its loss term is `dictionary`, which adds the reconstruction of feature
and words.

Certain in every detail but the word vectors (GloVe there, see `model.word_vectors`). Departures: pooling is over all locations;
the norms of DSDL's loss are of each image and their mean, where theirs are of a whole batch; the cosine that this loss is
divided by is taken for 0.1 at least, since it may begin near zero.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST, Section
from sadcl_core.model.graphs import GraphOptions
from sadcl_core.model.heads.interface import Head, HeadInputs, HeadOutput, activation_maps, in_full_precision
from sadcl_core.model.label_facts import LabelFacts
from sadcl_core.model.layers import draw_uniform
from sadcl_core.model.word_vectors import WIDTH

SLOPE = 0.2  # of LeakyReLU


class GeneratedHead(Head):
    """A linear classifier whose weights are a function of word vectors.

    Example:
        >>> head = GeneratedHead(channels=(16,), num_classes=3, options=GeneratedHead.Options(width=8))
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 16), (2, 3, 14, 14)]
    """

    class Options(GraphOptions):
        """Defaults are ML-GCN's; DSDL has the same widths."""

        generator: Literal["gcn", "dictionary"] = Field("gcn", description="gcn: ML-GCN; dictionary: DSDL")
        pooling: Literal["max", "mean"] = Field("max", description="over the locations; ML-GCN owes most of its gain to max")
        width: int = Field(1024, ge=1, le=WIDEST, description="inner width of the generator")
        ridge: float = Field(0.1, gt=0, description="dictionary: lambda; 0.1 for COCO, 10 for VOC")
        reconstruction: float = Field(1e-6, ge=0, description="dictionary: beta; 1e-6 for COCO, 1e-4 for VOC")

    NEEDS = frozenset({"together", "vectors"})
    SHARED_FEATURES = True
    CLASSIFIER = ("second",)
    STARTS_AT_ZERO = False  # a weight of a classifier is a sum over the generator's width, and a step changes each term of it
    FROM_DATA = ("words", "graph")

    words: Tensor
    graph: Tensor
    rows: Tensor | None = None  # of an exported network

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,), the width of the label features as well."""
        super().__init__()
        (self.width,) = channels
        self.options = options
        self.register_buffer("words", torch.zeros(num_classes, WIDTH))
        self.register_buffer("graph", torch.eye(num_classes))
        self.first = nn.Parameter(torch.empty(WIDTH, options.width))
        self.second = nn.Parameter(torch.empty(options.width, self.width))
        for parameter in (self.first, self.second):
            draw_uniform(parameter, inputs=parameter.shape[1])

    @classmethod
    def measured(cls, options: Section) -> frozenset[str]:
        """Return what the loss `dictionary` reads, for a dictionary."""
        dictionary = isinstance(options, GeneratedHead.Options) and options.generator == "dictionary"
        return frozenset({"residual", "coefficients", "words"} if dictionary else ())

    def prepare(self, facts: LabelFacts) -> None:
        """Store the word vectors and, for a GCN, the graph."""
        super().prepare(facts)
        if self.options.generator == "gcn":
            self.graph.copy_(self.options.graph(facts))

    @torch.no_grad()
    def precompute(self) -> None:
        """Compute the weights once, which an exported network keeps."""
        self.rows = self._generated()[0]

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), the pooled feature for each label (B, K, D_b) and activation maps (B, K, h, w)."""
        (feature_map,) = inputs.maps
        pooled = feature_map.amax(dim=(2, 3)) if self.options.pooling == "max" else feature_map.mean(dim=(2, 3))
        with in_full_precision(feature_map):
            exported = torch.compiler.is_exporting() and self.rows is not None
            rows, atoms = (self.rows, None) if exported else self._generated()
            assert rows is not None
            logits = pooled.float() @ rows.T
            measures = {} if atoms is None else self._measures(pooled.float(), logits, atoms)
        label_features = pooled[:, None].expand(-1, len(rows), -1)
        attention = activation_maps(feature_map, rows, pooling=self.options.pooling) if need_attention else None
        return HeadOutput(logits, label_features, attention, measures=measures)

    def _generated(self) -> tuple[Tensor, Tensor | None]:
        """Return the weights of the classifier (K, D_b), and the dictionary (K, D_b) where there is one."""
        hidden = F.leaky_relu(self.graph @ self.words @ self.first, SLOPE)
        rows = (self.graph @ hidden) @ self.second  # the graph of a dictionary is the identity
        if self.options.generator == "gcn":
            return rows, None
        gram = rows @ rows.T + self.options.ridge * torch.eye(len(rows), device=rows.device)
        return torch.linalg.solve(gram, rows), rows

    def _measures(self, pooled: Tensor, coefficients: Tensor, atoms: Tensor) -> dict[str, Tensor]:
        """Return what the loss of a dictionary reads, a number for each of B images."""
        decoded = F.leaky_relu(atoms @ self.second.T, SLOPE) @ self.first.T  # (K, W)
        words = F.cosine_similarity(self.words, decoded, dim=-1).mean()
        return {
            "residual": (pooled - coefficients @ atoms).norm(dim=-1),
            "coefficients": coefficients.norm(dim=-1),
            "words": words.expand(pooled.shape[0]),
        }
