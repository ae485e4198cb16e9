"""SPLC: labels that stand as inactive and are scored high are taken for active ones that were missed.

Zhang et al., "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels", arXiv 2112.07368, self-paced loss
correction. Active labels lose a margin from their logit; then the focal loss, -(1 - p)^2 log p and -p^2 log(1 - p). Once it
corrects, an inactive label with a score above the threshold costs as an active one, without margin.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.losses.entries import focal_term, mean_of_entries, shares
from sadcl_core.losses.precision import at_least_float32


def splc_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    margin: float = 1.0,
    threshold: float = 0.6,
    gamma: float = 2.0,
    correct: bool = True,
    active_weights: Tensor | None = None,
    inactive_weights: Tensor | None = None,
) -> Tensor:
    """Mean SPLC loss over the known entries; the authors take the sum.

    Args:
        logits: (B, K), before the sigmoid.
        targets: (B, K) in [0, 1], or -1 for unknown, which stays unknown.
        margin: taken off the logits of active labels.
        threshold: score from which an inactive label is taken for an active one, 0..1.
        gamma: focusing parameter.
        correct: False in the first epoch, as published.
        active_weights: (K,), >= 0, factor of each class as an active label; None: 1.
        inactive_weights: (K,), >= 0, factor of each class as an inactive label; None: 1.

    Returns:
        A scalar, 0 when every entry is unknown.

    Example:
        >>> logits, targets = torch.tensor([[5.0]]), torch.tensor([[0]])
        >>> [round(splc_loss(logits, targets, correct=correct).item(), 3) for correct in (False, True)]
        [4.94, 0.0]
    """
    with torch.autocast(logits.device.type, enabled=False):
        x = at_least_float32(logits)
        inactive = focal_term(-x, gamma)
        if correct:
            inactive = torch.where(x.detach().sigmoid() > threshold, focal_term(x, gamma), inactive)
        share = shares(targets, x, active_weights, inactive_weights)
        return mean_of_entries(focal_term(x - margin, gamma), inactive, share)
