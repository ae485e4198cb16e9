"""SARL, semantic-aware representation learning: a transformer reads one feature per label out of the feature map.

Ma et al., "Semantic-Aware Dual Contrastive Learning for Multi-label Image Classification", ECAI 2023. A 1x1 projection to the
hidden width (identity when the widths are equal), an encoder over the locations, a decoder whose queries are K learned class
embeddings and whose classes do not look at each other, and one linear classifier per class. Without the encoder it is SARL* of
the ablation; with `self_attention` it is Query2Label (Liu et al., "Query2Label", 2021) with its switches on, without it as it
is by default.

Certain in every detail. Departure: the matrices start as torch's layers do, and as published with `initialisation=xavier`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from sadcl_core.config.schema import WIDEST
from sadcl_core.model.heads.interface import AttentionOptions, HeadInputs, HeadOutput, LinearHead
from sadcl_core.model.layers import DecoderLayer, EncoderLayer, sine_position_encoding


class SARLHead(LinearHead):
    """Label features by cross-attention of class embeddings to the feature map.

    Example:
        >>> options = SARLHead.Options(width=8, feedforward=16)  # 2048 and 8192 in the paper
        >>> head = SARLHead(channels=(16,), num_classes=3, options=options).eval()
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(AttentionOptions):
        """Defaults are the paper's for ResNet-101."""

        MULTIPLE = 4

        width: int = Field(2048, ge=4, le=WIDEST, description="D, width of the label features")
        feedforward: int = Field(8192, ge=1, le=WIDEST, description="width inside the feed-forward layers")
        encoder_layers: int = Field(1, ge=0, le=64, description="layers among the locations; 0: SARL*")
        decoder_layers: int = Field(2, ge=1, le=64, description="layers in which classes look at locations")
        dropout: float = Field(0.1, ge=0, lt=1, description="inside the transformer")
        self_attention: bool = Field(False, description="between classes in the decoder; true: Query2Label")
        initialisation: Literal["torch", "xavier"] = Field(
            "torch",
            description="of the transformer's matrices; torch: as its layers do; xavier: uniform, all of them, as published",
        )

    PER_CLASS = ("class_embedding", "weight", "bias")

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,)."""
        super().__init__()
        (in_channels,) = channels
        width = options.width
        self.width = width
        self.extendable = not options.self_attention
        self.input_projection: nn.Module = nn.Identity() if in_channels == width else nn.Conv2d(in_channels, width, 1)
        layer: dict[str, Any] = options.model_dump(include={"width", "attention_heads", "feedforward", "dropout"})
        self.encoder = nn.ModuleList(EncoderLayer(**layer) for _ in range(options.encoder_layers))
        self.decoder = nn.ModuleList(
            DecoderLayer(**layer, self_attention=options.self_attention) for _ in range(options.decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.class_embedding = nn.Parameter(torch.empty(num_classes, width))
        if options.initialisation == "xavier":
            for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.class_embedding)
        self.add_classifier(num_classes)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D) and attention, last layer (B, K, h, w), for a map (B, D_b, h, w)."""
        (feature_map,) = inputs.maps
        x = self.input_projection(feature_map)  # (B, D, h, w)
        height, width = x.shape[-2:]
        position = sine_position_encoding(height, width, self.width, device=x.device).to(x.dtype)  # (L, D)
        memory = x.flatten(2).transpose(1, 2)  # (B, L, D)
        for layer in self.encoder:
            memory = layer(memory, position=position)
        target = memory.new_zeros(1, len(self.class_embedding), self.width)  # the same for every image
        attention = None
        for number, layer in enumerate(self.decoder, start=1):
            last = number == len(self.decoder)
            target, attention = layer(
                target, query=self.class_embedding, memory=memory, position=position, need_attention=need_attention and last
            )
        label_features = self.decoder_norm(target)
        if attention is not None:
            attention = attention.view(*attention.shape[:2], height, width)
        return HeadOutput(self.logits_of(label_features), label_features, attention)
