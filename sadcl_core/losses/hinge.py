"""Hinge loss: logits of active labels are to be above a margin, those of inactive ones below its negative.

With logits that are a difference of distances, it is the loss of distances of CPCL (Zhou et al., TCSVT 2022), whose margin is 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.losses.entries import mean_of_entries, shares
from sadcl_core.losses.precision import at_least_float32


def hinge_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    margin: float = 2.0,
    active_weights: Tensor | None = None,
    inactive_weights: Tensor | None = None,
) -> Tensor:
    """Mean hinge loss over the known entries.

    Args:
        logits: (B, K), before the sigmoid.
        targets: (B, K) in [0, 1], or -1 for unknown.
        margin: >= 0.
        active_weights: (K,), >= 0, factor of each class as an active label; None: 1.
        inactive_weights: (K,), >= 0, factor of each class as an inactive label; None: 1.

    Returns:
        A scalar, 0 when every entry is unknown.

    Example:
        >>> hinge_loss(torch.tensor([[0.5, -3.0]]), torch.tensor([[1, 0]]))
        tensor(0.7500)
    """
    with torch.autocast(logits.device.type, enabled=False):
        x = at_least_float32(logits)
        share = shares(targets, x, active_weights, inactive_weights)
        return mean_of_entries((margin - x).clamp(min=0), (margin + x).clamp(min=0), share)
