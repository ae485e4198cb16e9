"""The head of MulCon: set attention reads one feature per label out of the feature map.

Dao et al., "Contrastive Learning for Multi-Label Image Classification", Neurocomputing 2023 (arXiv 2107.11626). The locations
look at each other (2 set-attention blocks), K learned label tokens read from them, the label features look at each other (1
block), and one linear unit per class scores them. Unlike SARL it has no positions, and the labels of an image exchange
information.

Certain in every detail. Departure: `dropout` before the linear units, off unless asked for.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from sadcl_core.config.schema import WIDEST, Section
from sadcl_core.model.heads.interface import HeadInputs, HeadOutput, LinearHead
from sadcl_core.model.layers import Dropout, SetAttention


class MulConHead(LinearHead):
    """Label features by attention of label tokens to the locations.

    Example:
        >>> options = MulConHead.Options(token_width=16, width=8)  # 2048 and 1024 in the paper
        >>> head = MulConHead(channels=(16,), num_classes=3, options=options).eval()
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Defaults are the paper's for ResNet-101."""

        token_width: int = Field(2048, ge=4, le=WIDEST, description="width of the locations while they look at each other")
        width: int = Field(1024, ge=4, le=WIDEST, description="D, width of the label tokens and label features")
        attention_heads: int = Field(4, ge=1, le=WIDEST, description="parallel attentions, each over a part of the width")
        token_blocks: int = Field(2, ge=0, le=64, description="set-attention blocks among the locations")
        label_blocks: int = Field(1, ge=0, le=64, description="set-attention blocks among the label features")
        dropout: float = Field(0.0, ge=0, lt=1, description="of the label features before the linear units")
        attention_scale: Literal["whole-width", "head-width"] = Field(
            "whole-width",
            description="width by whose root attention is divided: of all heads, as in the Set Transformer, or of each, as in "
            "model files that do not say",
        )

        @model_validator(mode="after")
        def _divisible(self) -> MulConHead.Options:
            for name, value in (("width", self.width), ("token_width", self.token_width)):
                if value % self.attention_heads:
                    raise ValueError(f"{name} {value} must be a multiple of attention_heads ({self.attention_heads})")
            return self

    PER_CLASS = ("label_tokens", "weight", "bias")

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,)."""
        super().__init__()
        (in_channels,) = channels
        self.width = width = options.width
        self.extendable = not options.label_blocks
        token_widths = [in_channels, *[options.token_width] * options.token_blocks]
        scale_heads = options.attention_scale == "head-width"
        attention = partial(SetAttention, attention_heads=options.attention_heads, scale_heads=scale_heads)
        self.token_blocks = nn.ModuleList(
            attention(query_width=before, key_width=before, width=after) for before, after in pairwise(token_widths)
        )
        self.label_tokens = nn.Parameter(torch.empty(num_classes, width))
        self.label_attention = attention(query_width=width, key_width=token_widths[-1], width=width)
        self.label_blocks = nn.ModuleList(
            attention(query_width=width, key_width=width, width=width) for _ in range(options.label_blocks)
        )
        self.dropout = Dropout(options.dropout)
        nn.init.xavier_uniform_(self.label_tokens)
        self.add_classifier(num_classes)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D) and attention of the tokens (B, K, h, w) for a map (B, D_b, h, w)."""
        (feature_map,) = inputs.maps
        tokens = feature_map.flatten(2).transpose(1, 2)  # (B, L, D_b)
        for block in self.token_blocks:
            tokens, _ = block(tokens, tokens)  # (B, L, token width)
        label_features, attention = self.label_attention(self.label_tokens[None], tokens, need_attention=need_attention)
        for block in self.label_blocks:
            label_features, _ = block(label_features, label_features)
        logits = self.logits_of(self.dropout(label_features))
        if attention is not None:
            attention = attention.view(*attention.shape[:2], *feature_map.shape[-2:])
        return HeadOutput(logits, label_features, attention)
