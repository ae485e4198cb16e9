"""Focal loss: labels that are easy already count less.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5. For an active label with p = sigmoid(logit)
-alpha (1 - p)^gamma log p, for an inactive one -(1 - alpha) p^gamma log(1 - p). Unlike in the asymmetric loss the focusing factor
has a gradient. With gamma 0 and alpha 0.5 it is half of binary cross-entropy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.losses.entries import focal_term, mean_of_entries, shares
from sadcl_core.losses.precision import at_least_float32


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    active_weights: Tensor | None = None,
    inactive_weights: Tensor | None = None,
) -> Tensor:
    """Mean focal loss over the known entries.

    Args:
        logits: (B, K), before the sigmoid.
        targets: (B, K) in [0, 1], or -1 for unknown.
        gamma: focusing parameter, >= 0.
        alpha: share of the active labels in the loss, 0..1.
        active_weights: (K,), >= 0, factor of each class as an active label; None: 1.
        inactive_weights: (K,), >= 0, factor of each class as an inactive label; None: 1.

    Returns:
        A scalar, 0 when every entry is unknown.

    Example:
        >>> round(focal_loss(torch.tensor([[0.0, 5.0]]), torch.tensor([[1, -1]]), gamma=0, alpha=1).item(), 4)  # log 2
        0.6931
    """
    with torch.autocast(logits.device.type, enabled=False):
        x = at_least_float32(logits)
        share = shares(targets, x, active_weights, inactive_weights)
        return mean_of_entries(alpha * focal_term(x, gamma), (1 - alpha) * focal_term(-x, gamma), share)
