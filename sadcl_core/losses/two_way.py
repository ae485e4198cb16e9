"""Two-way loss: active labels above inactive ones, over the classes of each image and over the images of each class.

Kobayashi, "Two-way Multi-Label Loss", CVPR 2023, equations 6 and 9. For a set of logits x with active ones P and inactive ones N

    l(P, N) = softplus( Tn * logsumexp over N of x / Tn  +  Tp * logsumexp over P of -x / Tp )

and the loss is the mean of l over the images with an active label plus its mean over the classes with one in the batch. Only
differences of logits matter: the scores are no probabilities, and 0.5 is no threshold.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sadcl_core.losses.entries import shares
from sadcl_core.losses.precision import at_least_float32
from sadcl_core.losses.zlpr import weighted


def two_way_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    active_temperature: float = 4.0,
    inactive_temperature: float = 1.0,
    active_weights: Tensor | None = None,
    inactive_weights: Tensor | None = None,
) -> Tensor:
    """Return the two-way loss of a batch.

    Args:
        logits: (B, K).
        targets: (B, K) in [0, 1], or -1 for unknown; t between 0 and 1 counts t among the active and 1 - t among the inactive.
        active_temperature: Tp, > 0.
        inactive_temperature: Tn, > 0.
        active_weights: (K,), >= 0, factor of each class as an active label; None: 1.
        inactive_weights: (K,), >= 0, factor of each class as an inactive label; None: 1.

    Returns:
        A scalar, 0 without an active label.

    Example:
        >>> one = two_way_loss(torch.tensor([[2.0, 1.0]]), torch.tensor([[1, 0]]), active_temperature=1)
        >>> round(one.item(), 4)  # over classes softplus(1 - 2); the class has no inactive image
        0.3133
    """
    with torch.autocast(logits.device.type, enabled=False):
        x = at_least_float32(logits)
        share = shares(targets, x, active_weights, inactive_weights)
        active = weighted(-x / active_temperature, share.active)
        inactive = weighted(x / inactive_temperature, share.inactive)
        total = x.sum() * 0
        for axis in (1, 0):
            present = (share.active > 0).any(dim=axis)
            n, p = (part if axis else part.T for part in (inactive, active))
            sums = inactive_temperature * n[present].logsumexp(dim=1) + active_temperature * p[present].logsumexp(dim=1)
            total = total + F.softplus(sums).sum() / present.sum().clamp(min=1)
        return total
