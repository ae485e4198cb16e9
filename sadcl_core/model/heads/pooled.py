"""The baseline of the ablations: global average pooling and one linear layer (ResNet-101* in the tables of SADCL).

Every label has the same feature, the pooled one. Its attention is the class activation map (Zhou et al., CVPR 2016): the share of
each location in the positive part of the logit.
"""

from __future__ import annotations

from pydantic import Field
from torch import nn

from sadcl_core.config.schema import Section
from sadcl_core.model.heads.interface import Head, HeadInputs, HeadOutput


class PooledHead(Head):
    """Global average pooling and a linear layer.

    Example:
        >>> import torch
        >>> head = PooledHead(channels=(16,), num_classes=3, options=PooledHead.Options())
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 16), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Defaults are the baseline's."""

        dropout: float = Field(0.0, ge=0, lt=1, description="of the pooled feature before the linear layer")

    PER_CLASS = CLASSIFIER = ("classifier.weight", "classifier.bias")

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,), the width of the label features as well."""
        super().__init__()
        (in_channels,) = channels
        self.width = in_channels
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(in_channels, num_classes)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), the pooled feature for each label (B, K, D_b) and activation maps (B, K, h, w)."""
        (feature_map,) = inputs.maps
        pooled = feature_map.mean(dim=(2, 3))  # (B, D_b)
        logits = self.classifier(self.dropout(pooled))
        label_features = pooled[:, None, :].expand(-1, logits.shape[1], -1)
        attention = None
        if need_attention:
            activation = (self.classifier.weight @ feature_map.flatten(2)).relu()  # (B, K, L)
            activation = activation + 1e-6  # a map without a positive part is flat, not undefined
            share = activation / activation.sum(dim=-1, keepdim=True)
            attention = share.view(*share.shape[:2], *feature_map.shape[-2:])
        return HeadOutput(logits, label_features, attention)
