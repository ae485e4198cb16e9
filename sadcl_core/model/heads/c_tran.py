"""C-Tran: labels and locations in one transformer encoder, where labels that are known take part.

Lanchantin et al., "General Multi-label Image Classification with Transformers", CVPR 2021. A label is a token: its embedding
plus that of its state, which is unknown, inactive or active. Training reveals a random share of the labels (`known_share` of a
stage) and learns the others; a label that is known when an image is scored changes the scores of all others.

Certain in every detail. Departures: the embedding of `unknown` is zero, as the paper means it (the authors' program fixes a
random vector, which the label's embedding absorbs); the loss is our mean over known labels, and not their sum; a map of another
width than `width` is projected to it.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import WIDEST
from sadcl_core.model.heads.interface import AttentionOptions, HeadInputs, HeadOutput, LinearHead
from sadcl_core.model.layers import EncoderLayer, draw_uniform


class CTranHead(LinearHead):
    """An encoder over locations and labels.

    Example:
        >>> options = CTranHead.Options(width=8, feedforward=16)  # 2048 in the paper
        >>> head = CTranHead(channels=(16,), num_classes=3, options=options).eval()
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 8), (2, 3, 14, 14)]
    """

    class Options(AttentionOptions):
        """Defaults are the paper's for ResNet-101."""

        width: int = Field(2048, ge=1, le=WIDEST, description="D, width of the label features")
        feedforward: int = Field(2048, ge=1, le=WIDEST, description="width inside the feed-forward layers")
        layers: int = Field(3, ge=1, le=64, description="of the encoder")
        dropout: float = Field(0.1, ge=0, lt=1, description="inside the transformer")

    TAKES_KNOWN = True
    PER_CLASS = ("class_embedding", "weight", "bias")

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,)."""
        super().__init__()
        (in_channels,) = channels
        self.width = width = options.width
        self.input_projection: nn.Module = nn.Identity() if in_channels == width else nn.Conv2d(in_channels, width, 1)
        self.class_embedding = nn.Parameter(torch.empty(num_classes, width))
        self.states = nn.Parameter(torch.empty(2, width))  # inactive, active
        self.norm = nn.LayerNorm(width)
        layer = options.model_dump(include={"width", "attention_heads", "feedforward", "dropout"})
        self.encoder = nn.ModuleList(EncoderLayer(**layer) for _ in range(options.layers))
        draw_uniform(self.class_embedding, self.states, inputs=width)
        self.add_classifier(num_classes)
        draw_uniform(*(module.weight for module in self.encoder.modules() if type(module) is nn.Linear), inputs=width)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label tokens (B, K, D) and their attention to locations (B, K, h, w) for a map (B, D_b, h, w).

        The attention is that of the last layer, mean over heads; what goes to other labels is left out.
        """
        (feature_map,) = inputs.maps
        locations = self.input_projection(feature_map).flatten(2).transpose(1, 2)  # (B, L, D)
        labels = self.class_embedding.expand(locations.shape[0], -1, -1)  # (B, K, D)
        if inputs.known is not None:
            labels = labels + self._state(inputs.known.to(labels.dtype))
        elif self.training:
            labels = labels + 0 * self.states.sum()  # several processes wait for a gradient of every parameter
        tokens = self.norm(torch.cat([locations, labels.to(locations.dtype)], dim=1))
        before = tokens
        for layer in self.encoder:
            before, tokens = tokens, layer(tokens)
        features = tokens[:, locations.shape[1] :]
        attention = None
        if need_attention:
            last = self.encoder[-1]
            assert isinstance(last, EncoderLayer)
            asking = before[:, locations.shape[1] :]
            _, weights = last.attention(asking, before, before, need_attention=True)  # (B, K, L + K)
            attention = weights[:, :, : locations.shape[1]].float() + 1e-9
            attention = (attention / attention.sum(dim=-1, keepdim=True)).unflatten(2, feature_map.shape[-2:])
        return HeadOutput(self.logits_of(features), features, attention)

    def _state(self, known: Tensor) -> Tensor:
        """Return the embedding (B, K, D) of the state of labels (B, K): zero where unknown."""
        return (known == 0)[..., None] * self.states[0] + (known == 1)[..., None] * self.states[1]
