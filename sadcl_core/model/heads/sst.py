"""SST, our reading: a transformer over the locations, then one over the classes.

Chen et al., "SST: Spatial and Semantic Transformers for Multi-Label Image Recognition", TIP 2022. Known from its abstract and a
re-implementation: logits of the pooled locations after an encoder, plus logits of class tokens after another, where a class
token is the map of its scores. Departures: positions are sines and not learned, and maps are resized to a grid before they
become tokens, so that no resolution is fixed; the layers of an encoder have weights of their own; the scores are not normalised
over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import nn

from sadcl_core.config.schema import WIDEST
from sadcl_core.model.heads.interface import AttentionOptions, HeadInputs, HeadOutput, LinearHead, shares_of_activation
from sadcl_core.model.layers import EncoderLayer, sine_position_encoding


class SSTHead(LinearHead):
    """An encoder over space and one over classes, whose logits are added.

    Example:
        >>> import torch
        >>> head = SSTHead(channels=(16,), num_classes=3, options=SSTHead.Options(width=8, feedforward=16))
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(AttentionOptions):
        """Defaults are those of the re-implementation, but for the grid."""

        MULTIPLE = 4

        width: int = Field(256, ge=4, le=WIDEST, description="D, width of locations and label features")
        feedforward: int = Field(512, ge=1, le=WIDEST, description="width inside the feed-forward layers")
        layers: int = Field(3, ge=1, le=64, description="of each encoder")
        grid: int = Field(14, ge=1, le=256, description="locations a side of the map that a class token is made of")
        dropout: float = Field(0.1, ge=0, lt=1, description="inside the transformers")

    AUXILIARY: ClassVar[Mapping[str, float]] = {"space": 0.0, "classes": 0.0}
    PER_CLASS = ("spatial.weight", "spatial.bias", "maps.weight", "maps.bias", "weight", "bias")
    CLASSIFIER = ("spatial.weight", "spatial.bias", "weight", "bias")

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,)."""
        super().__init__()
        (in_channels,) = channels
        self.width = width = options.width
        self.grid = options.grid
        self.projection = nn.Conv2d(in_channels, width, 1)
        layer = options.model_dump(include={"width", "attention_heads", "feedforward", "dropout"})
        self.space = nn.ModuleList(EncoderLayer(**layer) for _ in range(options.layers))
        self.spatial = nn.Linear(width, num_classes)
        self.maps = nn.Conv2d(width, num_classes, 1)
        self.token = nn.Linear(options.grid**2, width)
        self.classes = nn.ModuleList(EncoderLayer(**layer) for _ in range(options.layers))
        self.add_classifier(num_classes)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), class tokens (B, K, D), shares of the class maps (B, K, h, w) and both kinds of logits."""
        (feature_map,) = inputs.maps
        size = feature_map.shape[-2:]
        locations = self.projection(feature_map).flatten(2).transpose(1, 2)
        position = sine_position_encoding(size[0], size[1], self.width, device=locations.device).to(locations.dtype)
        for layer in self.space:
            locations = layer(locations, position=position)
        maps = self.maps(locations.transpose(1, 2).unflatten(2, size)).relu()  # (B, K, h, w)
        grid = F.interpolate(maps.float(), size=(self.grid, self.grid), mode="bilinear", align_corners=False)
        tokens = self.token(grid.flatten(2).to(locations.dtype))
        for layer in self.classes:
            tokens = layer(tokens)
        branches = {"space": self.spatial(locations.amax(dim=1)), "classes": self.logits_of(tokens)}
        attention = shares_of_activation(maps.float()) if need_attention else None
        return HeadOutput(branches["space"] + branches["classes"], tokens, attention, branches)
