"""ZLPR: active labels are to be above 0 and inactive ones below, compared as sets.

Su et al., "ZLPR: A Novel Loss for Multi-label Classification", arXiv 2208.02955, equation 5:

    L = mean over images of  log(1 + sum over inactive e^x)  +  log(1 + sum over active e^-x)

A target t between 0 and 1 counts t in the second sum and 1 - t in the first. The gradient of an image is bounded whatever K is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.losses.entries import shares
from sadcl_core.losses.precision import at_least_float32


def zlpr_loss(
    logits: Tensor, targets: Tensor, *, active_weights: Tensor | None = None, inactive_weights: Tensor | None = None
) -> Tensor:
    """Mean ZLPR loss over images.

    Args:
        logits: (B, K).
        targets: (B, K) in [0, 1], or -1 for unknown.
        active_weights: (K,), >= 0, factor of each class as an active label; None: 1.
        inactive_weights: (K,), >= 0, factor of each class as an inactive label; None: 1.

    Returns:
        A scalar; an image without a known label costs 0.

    Example:
        >>> round(zlpr_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]])).item(), 4)  # twice log 2
        1.3863
    """
    with torch.autocast(logits.device.type, enabled=False):
        x = at_least_float32(logits)
        share = shares(targets, x, active_weights, inactive_weights)
        zero = x.new_zeros(len(x), 1)
        above = torch.cat([zero, weighted(x, share.inactive)], dim=1).logsumexp(dim=1)
        below = torch.cat([zero, weighted(-x, share.active)], dim=1).logsumexp(dim=1)
        return (above + below).mean()


def weighted(exponents: Tensor, weights: Tensor) -> Tensor:
    """Return exponents whose exponentials are those of `exponents` times `weights`: -inf for a weight of 0.

    Example:
        >>> weighted(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]))
        tensor([1., -inf])
    """
    counts = weights > 0
    return torch.where(counts, exponents + weights.where(counts, 1.0).log(), -torch.inf)
