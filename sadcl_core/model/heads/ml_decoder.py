"""ML-Decoder: a few fixed queries read from the feature map, and each answers for a group of classes.

Ridnik et al., "ML-Decoder: Scalable and Versatile Classification Head", WACV 2023. One decoder layer without self-attention and
without positions; its queries are random vectors that are not trained. With at least as many queries as classes every class has
its own; with fewer, a query is shared by a group of classes, and the cost of the attention does not grow with the classes.

Certain in every detail. Departure: which query answers for a class is stored, so that the class keeps it in another order. Left
out: queries made of words, for classes that were never seen.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST
from sadcl_core.model.heads.interface import AttentionOptions, Head, HeadInputs, HeadOutput
from sadcl_core.model.layers import Attention, Dropout, FeedForward


class MLDecoderHead(Head):
    """Features by cross-attention of fixed queries, one for each group of classes.

    Example:
        >>> options = MLDecoderHead.Options(width=16, feedforward=32, groups=2)  # 768, 2048 and 100 in the paper
        >>> head = MLDecoderHead(channels=(16,), num_classes=3, options=options).eval()
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 16), (2, 3, 14, 14)]
    """

    class Options(AttentionOptions):
        """Defaults are the paper's."""

        width: int = Field(768, ge=1, le=WIDEST, description="D, width of the queries and label features")
        attention_heads: int = Field(8, ge=1, le=WIDEST, description="parallel attentions, each over a part of the width")
        feedforward: int = Field(2048, ge=1, le=WIDEST, description="width inside the feed-forward layer")
        groups: int = Field(
            100, ge=1, le=WIDEST, description="queries; where there are more classes each query answers for several"
        )
        dropout: float = Field(0.1, ge=0, lt=1, description="inside the decoder layer")

    CLASSIFIER = ("weight", "bias")

    queries: Tensor
    group: Tensor

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,)."""
        super().__init__()
        (in_channels,) = channels
        self.width = width = options.width
        count = min(num_classes, options.groups)
        self.grouped = count < num_classes
        self.extendable = not self.grouped
        self.PER_CLASS = ("group" if self.grouped else "queries", *self.CLASSIFIER)
        self.input_projection = nn.Linear(in_channels, width)
        self.register_buffer("queries", torch.randn(count, width))
        self.dropout = Dropout(options.dropout)
        self.query_norm = nn.LayerNorm(width)
        self.attention = Attention(width, options.attention_heads, dropout=options.dropout)
        self.norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width=width, hidden=options.feedforward, dropout=options.dropout)
        self.weight = nn.Parameter(torch.empty(num_classes, width))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        size = math.ceil(num_classes / count)
        nn.init.normal_(self.weight, std=math.sqrt(2 / ((width + count) * size)))  # Xavier's of a tensor (count, width, size)
        if self.grouped:  # a buffer, so that a class keeps its query when it is carried over to other classes
            self.register_buffer("group", torch.arange(num_classes) // size)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D) and attention of the queries (B, K, h, w) for a map (B, D_b, h, w).

        Classes that share a query share its attention. Their label feature is its feature times the weights of the class, so that
        they differ, as they have to where features are compared; the sum over D plus the bias is the logit.
        """
        (feature_map,) = inputs.maps
        tokens = self.input_projection(feature_map.flatten(2).transpose(1, 2)).relu()  # (B, L, D)
        queries = self.query_norm(self.queries + self.dropout(self.queries.expand(tokens.shape[0], -1, -1)))  # (B, N, D)
        attended, attention = self.attention(queries, tokens, tokens, need_attention=need_attention)
        features: Tensor = self.feedforward(self.norm(self.dropout.add(queries, attended)))  # (B, N, D)
        if attention is not None:
            attention = attention.unflatten(2, feature_map.shape[-2:])
        if not self.grouped:
            return HeadOutput((features * self.weight).sum(dim=-1) + self.bias, features, attention)
        group, weight = self.group % len(self.queries), self.weight if torch.is_grad_enabled() else self.weight.detach()
        shared = None if attention is None else attention[:, group]
        if torch.compiler.is_exporting():  # how many classes have a query would be a number of the program
            own_features = features[:, group] * weight
            return HeadOutput(own_features.sum(dim=-1) + self.bias, own_features, shared)
        order = group.argsort(stable=True)
        # without memory there are no values to count: then the classes are spread evenly, as when the head is built
        spread = torch.arange(len(group), device="cpu") % len(self.queries) if group.is_meta else group
        rows = weight[order].split(spread.bincount(minlength=len(self.queries)).tolist())
        logits = torch.cat([feature @ own.T for feature, own in zip(features.unbind(1), rows, strict=True)], dim=1)
        return HeadOutput(logits[:, order.argsort()] + self.bias, lambda: features[:, group] * weight, shared)
