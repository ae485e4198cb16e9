"""What a head hands over."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class HeadOutput:
    """Result of a head for B images.

    Attributes:
        logits: (B, K), before the sigmoid.
        label_features: (B, K, D), one feature per image and label.
        attention: (B, K, h, w), where each label was read from; sums to 1 per label. None when it was not asked for.
    """

    logits: Tensor
    label_features: Tensor
    attention: Tensor | None
