"""Selective loss, for data of whose labels few are annotated: unknown labels count as inactive, but for those probably active.

Ben-Baruch et al., "Multi-label Classification with Partial Annotations using Class-aware Selective Loss", CVPR 2022: asymmetric
loss with one focusing parameter for active, one for inactive and a stronger one for unknown labels. Left out are, of the unknown
labels of a batch, those of classes that are often active (prior above a threshold) and those with the highest scores, a number
of them for each image. The only loss in which unknown labels take part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.losses.asymmetric import focused
from sadcl_core.losses.entries import shares
from sadcl_core.losses.precision import at_least_float32


def selective_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_active: float = 0.0,
    gamma_inactive: float = 1.0,
    gamma_unknown: float = 4.0,
    clip: float = 0.05,
    left_out: int = 5,
    prior: Tensor | None = None,
    max_prior: float = 0.5,
    active_weights: Tensor | None = None,
    inactive_weights: Tensor | None = None,
) -> Tensor:
    """Mean selective loss over all entries, those left out too; the authors take the sum.

    Args:
        logits: (B, K), before the sigmoid.
        targets: (B, K) in [0, 1], or -1 for unknown.
        gamma_active: focusing parameter of active labels, >= 0.
        gamma_inactive: of inactive ones.
        gamma_unknown: of unknown ones, which count as inactive.
        clip: probability margin of all labels that count as inactive, in [0, 1).
        left_out: unknown labels with the highest scores that take no part, for each image of the batch, wherever they are.
        prior: (K,) share of the images in which each class is active; None: not known.
        max_prior: unknown labels of classes with a higher prior take no part.
        active_weights: (K,), >= 0, factor of each class as an active label; None: 1.
        inactive_weights: (K,), >= 0, factor of each class as an inactive label, and as an unknown one; None: 1.

    Returns:
        A scalar.

    Example:
        >>> logits, targets = torch.tensor([[3.0, -1.0, 0.0]]), torch.tensor([[-1, -1, 1]])
        >>> loss = selective_loss(logits, targets, gamma_unknown=0, clip=0, left_out=1)  # the first one is left out
        >>> round(loss.item(), 4), round((0.6931 + 0.3133) / 3, 4)
        (0.3355, 0.3355)
    """
    with torch.autocast(logits.device.type, enabled=False):
        x = at_least_float32(logits)
        unknown = targets < 0
        share = shares(targets.masked_fill(unknown, 0), x, active_weights, inactive_weights)
        right = x.sigmoid()
        wrong = (1 - right + clip).clamp(max=1)
        as_inactive = torch.where(unknown, focused(wrong, gamma_unknown), focused(wrong, gamma_inactive))
        cost = share.active * focused(right, gamma_active) + share.inactive * as_inactive
        outside = _probably_active(x.detach(), unknown, left_out, prior, max_prior)
        return cost.masked_fill(outside, 0.0).sum() / max(cost.numel(), 1)


def _probably_active(x: Tensor, unknown: Tensor, left_out: int, prior: Tensor | None, max_prior: float) -> Tensor:
    """Return (B, K), true for the unknown labels that take no part."""
    result = torch.zeros_like(unknown) if prior is None else unknown & (prior.to(x.device) > max_prior)
    ranked = x.masked_fill(~unknown, -torch.inf).flatten()
    highest = ranked.topk(min(left_out * len(x), ranked.numel())).indices
    return (result.flatten().index_fill(0, highest, True)).view_as(unknown) & unknown
