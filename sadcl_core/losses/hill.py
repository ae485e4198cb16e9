"""Hill loss, for labels that were missed and stand as inactive.

Zhang et al., "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels", arXiv 2112.07368. An active label
costs -(1 - q)^2 log q with q = sigmoid(logit - margin), an inactive one (lambda - p) p^2 with p = sigmoid(logit): its gradient
goes back to 0 towards p = 1 for lambda 1.5, so that labels that were probably missed are left alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.losses.entries import focal_term, mean_of_entries, shares
from sadcl_core.losses.precision import at_least_float32


def hill_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    margin: float = 1.0,
    height: float = 1.5,
    active_weights: Tensor | None = None,
    inactive_weights: Tensor | None = None,
) -> Tensor:
    """Mean Hill loss over the known entries; the authors take the sum.

    Args:
        logits: (B, K), before the sigmoid.
        targets: (B, K) in [0, 1], or -1 for unknown.
        margin: taken off the logits of active labels.
        height: lambda.
        active_weights: (K,), >= 0, factor of each class as an active label; None: 1.
        inactive_weights: (K,), >= 0, factor of each class as an inactive label; None: 1.

    Returns:
        A scalar, 0 when every entry is unknown.

    Example:
        >>> hill_loss(torch.tensor([[0.0]]), torch.tensor([[0]])).item()  # (1.5 - 0.5) * 0.5^2
        0.25
    """
    with torch.autocast(logits.device.type, enabled=False):
        x = at_least_float32(logits)
        p = x.sigmoid()
        share = shares(targets, x, active_weights, inactive_weights)
        return mean_of_entries(focal_term(x - margin, 2), (height - p) * p**2, share)
