"""Polynomial loss: binary cross-entropy with another weight of the first term of its expansion.

Leng et al., "PolyLoss", ICLR 2022, equation 5: -log p_t + epsilon (1 - p_t) for each label, p_t that of the true answer.
The function is timm's; a target between 0 and 1 costs its share of both.
"""

from __future__ import annotations

import torch
from timm.loss.poly_loss import PolyBinaryCrossEntropy
from torch import Tensor

from sadcl_core.losses.entries import mean_of_entries, shares
from sadcl_core.losses.precision import at_least_float32


def polynomial_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    epsilon: float = 1.0,
    active_weights: Tensor | None = None,
    inactive_weights: Tensor | None = None,
) -> Tensor:
    """Mean polynomial loss over the known entries.

    Args:
        logits: (B, K), before the sigmoid.
        targets: (B, K) in [0, 1], or -1 for unknown.
        epsilon: of the first term; 0: binary cross-entropy.
        active_weights: (K,), >= 0, factor of each class as an active label; None: 1.
        inactive_weights: (K,), >= 0, factor of each class as an inactive label; None: 1.

    Returns:
        A scalar, 0 when every entry is unknown.

    Example:
        >>> round(polynomial_loss(torch.tensor([[0.0]]), torch.tensor([[1]])).item(), 4)  # log 2 + 1/2
        1.1931
    """
    with torch.autocast(logits.device.type, enabled=False):
        x = at_least_float32(logits)
        loss = PolyBinaryCrossEntropy(epsilon=epsilon, reduction="none")
        share = shares(targets, x, active_weights, inactive_weights)
        return mean_of_entries(loss(x, torch.ones_like(x)), loss(x, torch.zeros_like(x)), share)
