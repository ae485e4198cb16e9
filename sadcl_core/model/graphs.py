"""Parts of heads that reason over classes: statistics of labels as a graph, attention by word, and networks on a graph."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sadcl_core.config.schema import Section
from sadcl_core.model.label_facts import LabelFacts

PART = 1 << 22  # numbers of one image that `WordAttention` computes at a time
Norm = Annotated[
    Literal["batch", "layer", "none"],
    Field(description="of the image's feature in the graph; batch: as published, for batches of 2 and more"),
]


def conditional_probabilities(facts: LabelFacts) -> Tensor:
    """Return P(j | i), (K, K) float32, among images in which j is known; zero on the diagonal.

    Example:
        >>> counts = torch.tensor([[4, 1], [1, 2]])
        >>> conditional_probabilities(LabelFacts(("a", "b"), counts.diagonal(), counts, counts.diagonal()[:, None].expand(2, 2)))
        tensor([[0.0000, 0.2500],
                [0.5000, 0.0000]])
    """
    return (facts.together / facts.known.clamp(min=1)).float().fill_diagonal_(0)


def reweighted_adjacency(conditional: Tensor, *, threshold: float = 0.4, share: float = 0.2) -> Tensor:
    """Return the graph of ML-GCN (Chen et al., CVPR 2019), normalised and transposed: class j hears the classes that imply it.

    B is 1 where P(j | i), (K, K), is at least the threshold, tau; off the diagonal A = share * B over the sum of its column,
    which is what the authors' page corrects Eq. 8 to, on it 1 - share, p; the result is D A^T D with D the rows of A summed, to
    the power -1/2.

    Example:
        >>> reweighted_adjacency(torch.tensor([[0.0, 0.5], [0.3, 0.0]]))  # class 1 hears class 0
        tensor([[0.8000, 0.0000],
                [0.2236, 1.0000]])
    """
    edges = (conditional >= threshold).float().fill_diagonal_(0)
    adjacency = share * edges / (edges.sum(dim=0, keepdim=True) + 1e-6)
    adjacency.diagonal().fill_(1 - share)
    degree = adjacency.sum(dim=1).rsqrt()
    return degree[:, None] * adjacency.T * degree


class GraphOptions(Section):
    """Options of `reweighted_adjacency`; defaults are ML-GCN's."""

    threshold: float = Field(0.4, ge=0, le=1, description="of ML-GCN's graph: P(j | i) from which on class j hears class i")
    share: float = Field(0.2, ge=0, lt=1, description="of ML-GCN's graph: of a class that comes from those it hears")

    def graph(self, facts: LabelFacts) -> Tensor:
        """Return the graph (K, K) of the training labels."""
        return reweighted_adjacency(conditional_probabilities(facts), threshold=self.threshold, share=self.share)


class WordAttention(nn.Module):
    """Word-guided attention of SSGRL (Chen et al., ICCV 2019): where in an image each word is to be seen, and what is there.

    The score of a location is v . tanh((W1 x) * (W2 e)); the published u . (W3 tanh(.) + b3) + c is the same function, since u W3
    is one vector, and constants drop out of the softmax.

    Example:
        >>> attention = WordAttention(width=8, inner=4)
        >>> features, shares = attention(torch.randn(2, 6, 8), torch.randn(3, 300))
        >>> tuple(features.shape), tuple(shares.shape)
        ((2, 3, 8), (2, 3, 6))
    """

    def __init__(self, *, width: int, inner: int, word_width: int = 300) -> None:
        """Build for features of `width`, compared in `inner` dimensions."""
        super().__init__()
        self.location = nn.Linear(width, inner, bias=False)
        self.word = nn.Linear(word_width, inner, bias=False)
        self.score = nn.Linear(inner, 1, bias=False)

    def forward(self, locations: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, K, D) and shares of the locations (B, K, L) for locations (B, L, D) and words (K, W)."""
        x, queries = self.location(locations), self.word(words)  # (B, L, inner), (K, inner)
        size = max(1, PART // (x.shape[1] * x.shape[2]))  # classes at a time: the product is K times as large as x
        if size >= len(queries) or torch.compiler.is_exporting():
            scores = self._scores(x, queries)
        else:
            scores = torch.cat([self._part(x, some) for some in queries.split(size)], dim=1)
        shares = scores.softmax(dim=-1)
        return shares.to(locations.dtype) @ locations, shares

    def _part(self, x: Tensor, queries: Tensor) -> Tensor:
        """Return the scores of some classes, computed twice in training, so that no product is kept."""
        if not torch.is_grad_enabled():
            return self._scores(x, queries)
        scores: Tensor = checkpoint(self._scores, x, queries, use_reentrant=False)
        return scores

    def _scores(self, x: Tensor, queries: Tensor) -> Tensor:
        scores: Tensor = self.score((x[:, None] * queries[:, None]).tanh())
        return scores.squeeze(-1)  # (B, K, L)


class GatedGraph(nn.Module):
    """Gated graph network of SSGRL (Li et al., ICLR 2016): nodes hear each other along the graph, in rounds.

    The reset gate has weights of its own, as in the equations; the authors' program gives it those of the update gate.

    Example:
        >>> GatedGraph(width=4, rounds=2)(torch.randn(2, 3, 4), torch.rand(3, 3)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, *, width: int, rounds: int) -> None:
        """Build for nodes of `width`."""
        super().__init__()
        self.rounds = rounds
        self.heard = nn.Linear(2 * width, 3 * width)  # of update, reset and candidate
        self.gates = nn.Linear(width, 2 * width)
        self.candidate = nn.Linear(width, width)

    def forward(self, nodes: Tensor, graph: Tensor) -> Tensor:
        """Return nodes (B, K, D) for nodes (B, K, D) and a graph (K, K) from row to column."""
        for _ in range(self.rounds):
            heard = torch.cat([graph @ nodes, graph.T @ nodes], dim=-1)
            update, reset, candidate = self.heard(heard).chunk(3, dim=-1)
            own_update, own_reset = self.gates(nodes).chunk(2, dim=-1)
            update, reset = (update + own_update).sigmoid(), (reset + own_reset).sigmoid()
            nodes = (1 - update) * nodes + update * (candidate + self.candidate(reset * nodes)).tanh()
        return nodes


class DynamicGraph(nn.Module):
    """Graph of each image, made of its class features (ADD-GCN, Ye et al., ECCV 2020), and a layer on it.

    Example:
        >>> graph = DynamicGraph(width=4, num_classes=3, norm="batch")
        >>> graph(torch.randn(2, 3, 4), torch.randn(2, 4)).shape
        torch.Size([2, 3, 4])
    """

    PER_CLASS = ("weight", "bias")

    def __init__(self, *, width: int, num_classes: int, norm: Norm, image_width: int = 0) -> None:
        """Build for nodes of `width` and an image feature of `image_width`, by default the same."""
        super().__init__()
        image_width = image_width or width
        self.image = nn.Linear(image_width, image_width)
        self.norm = {"batch": SingleBatchNorm, "layer": nn.LayerNorm, "none": nn.Identity}[norm](image_width)
        unit = nn.Linear(image_width + width, num_classes)
        self.weight, self.bias = unit.weight, unit.bias
        self.layer = nn.Linear(width, width)

    def forward(self, nodes: Tensor, image: Tensor) -> Tensor:
        """Return features (B, K, D) for nodes (B, K, D) and a feature of the image (B, D')."""
        image = nn.functional.leaky_relu(self.norm(self.image(image)), 0.2)
        seen = torch.cat([image[:, None].expand(-1, nodes.shape[1], -1), nodes], dim=-1)
        graph = nn.functional.linear(seen, self.weight, self.bias).sigmoid()  # (B, node j, class i)
        heard = nn.functional.leaky_relu(graph @ nodes, 0.2)
        return nn.functional.leaky_relu(self.layer(heard), 0.2)


class SingleBatchNorm(nn.BatchNorm1d):
    """BatchNorm of (B, D) that takes a training batch of one image, by what it remembers of the others."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D)."""
        if self.training and len(x) == 1:
            return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)
