"""Asymmetric loss, the classification loss of SADCL.

Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021. With both focusing
parameters 0 and no clip it is binary cross-entropy. Unlike the paper's sum over labels, the result is the mean over the
known entries, so that it does not depend on the batch size or the number of classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.losses.precision import at_least_float32

MIN_PROBABILITY = 1e-5  # floor under the logarithm, as published with SADCL


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    clip: float = 0.0,
) -> Tensor:
    """Mean asymmetric loss over the known entries.

    Args:
        logits: (B, K), before the sigmoid.
        targets: (B, K) with 1, 0 or -1 for unknown.
        gamma_neg: focusing parameter of inactive labels, >= 0.
        gamma_pos: focusing parameter of active labels, >= 0.
        clip: probability margin in [0, 1): inactive labels scored below it cost nothing.

    Returns:
        A scalar, 0 when every entry is unknown. The focusing weight carries no gradient.

    Raises:
        ValueError: the shapes differ or a parameter is out of range.
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} must have one shape")
    if gamma_neg < 0 or gamma_pos < 0 or not 0 <= clip < 1:
        raise ValueError(f"need gamma_neg >= 0, gamma_pos >= 0, 0 <= clip < 1; got {gamma_neg}, {gamma_pos}, {clip}")
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        active = targets == 1
        known = targets >= 0
        score_active = torch.sigmoid(logits)
        score_inactive = 1 - score_active
        if clip > 0:
            score_inactive = (score_inactive + clip).clamp(max=1)
        right = torch.where(active, score_active, score_inactive)  # probability given to the true answer
        loss = -torch.log(right.clamp(min=MIN_PROBABILITY))
        if gamma_neg > 0 or gamma_pos > 0:
            with torch.no_grad():
                gamma = torch.where(active, gamma_pos, gamma_neg)
                weight = (1 - right).pow(gamma)
            loss = loss * weight
        loss = torch.where(known, loss, 0.0)
        return loss.sum() / known.sum().clamp(min=1)
