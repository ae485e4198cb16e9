"""Class-specific residual attention: each class is scored at every location, and its strongest locations count a second time.

Zhu and Wu, "Residual Attention: A Simple but Effective Method for Multi-Label Recognition", ICCV 2021. A linear classifier of
unit vectors scores the locations; the score of a class is the mean over them, plus lambda times their mean weighted by a softmax
of the scores. Several heads with their own vectors differ in the temperature of the softmax, and are summed.

Certain in every detail. Left out: the paper also adds the largest score, times a small lambda, to the scores of a linear layer
that was trained without it. Label features, of which the paper does not speak, are what the scores are read from.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import Section
from sadcl_core.model.heads.interface import Head, HeadInputs, HeadOutput
from sadcl_core.model.layers import draw_uniform

# factor of the scores in the softmax of each head, by the number of heads; an infinite one takes the largest score
TEMPERATURES = {
    1: (1.0,),
    2: (1.0, math.inf),
    4: (1.0, 2.0, 4.0, math.inf),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, math.inf),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.inf),
}


class CSRAHead(Head):
    """Scores of locations, their mean and their attention-weighted mean.

    Example:
        >>> head = CSRAHead(channels=(16,), num_classes=3, options=CSRAHead.Options(attention_heads=2))
        >>> output = head(HeadInputs((torch.randn(2, 16, 14, 14),)), need_attention=True)
        >>> [tuple(tensor.shape) for tensor in (output.logits, output.label_features, output.attention)]
        [(2, 3), (2, 3, 16), (2, 3, 14, 14)]
    """

    class Options(Section):
        """Defaults are the paper's for VOC 2007; for COCO it has 4 or 6 heads and 0.5."""

        attention_heads: Literal[1, 2, 4, 6, 8] = Field(1, description="classifiers with temperatures of their own, summed")
        attention_weight: float = Field(0.1, ge=0, description="lambda, of the attention beside the mean")

    PER_CLASS = CLASSIFIER = ("weight",)
    STARTS_AT_ZERO = False  # the weights of a class have length 1 after the first step
    extendable = True

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; `channels` is (D_b,), the width of the label features as well."""
        super().__init__()
        (self.width,) = channels
        self.temperatures = TEMPERATURES[options.attention_heads]
        self.attention_weight = options.attention_weight
        self.weight = nn.Parameter(torch.empty(num_classes, options.attention_heads, self.width))
        draw_uniform(self.weight, inputs=self.width)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Return logits (B, K), label features (B, K, D_b) and attention, mean over heads (B, K, h, w), for a map (B, D_b, h, w).

        With one head a logit is the product of the label feature and the unit vector of the class.
        """
        (feature_map,) = inputs.maps
        locations = feature_map.flatten(2)  # (B, D_b, L)
        length = torch.linalg.vector_norm(self.weight, dim=-1, keepdim=True).clamp(min=1e-12)  # (K, heads, 1)
        scores = (self.weight.flatten(0, 1) @ locations).unflatten(1, length.shape[:2]) * (1 / length)  # (B, K, heads, L)
        shares = [_shares(part, t) for part, t in zip(scores.unbind(2), self.temperatures, strict=True)]
        attended = sum((share * part).sum(dim=-1) for share, part in zip(shares, scores.unbind(2), strict=True))
        logits = scores.mean(dim=-1).sum(dim=-1) + self.attention_weight * attended  # (B, K)

        def attention() -> Tensor:
            return torch.stack(shares).mean(dim=0)  # (B, K, L)

        def label_features() -> Tensor:
            read = attention().to(locations.dtype) @ locations.transpose(1, 2)  # (B, K, D_b)
            return locations.mean(dim=-1)[:, None] + self.attention_weight * read

        return HeadOutput(logits, label_features, attention().unflatten(2, feature_map.shape[-2:]) if need_attention else None)


def _shares(scores: Tensor, temperature: float) -> Tensor:
    """Return the share (B, K, L) of each location in the attention; all of it for the largest score where T is infinite."""
    if math.isinf(temperature):
        return F.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(scores.dtype)
    return torch.softmax(temperature * scores, dim=-1)
