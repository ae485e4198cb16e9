"""Asymmetric loss, the classification loss of SADCL.

Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021. With both focusing
parameters 0 and no clip it is binary cross-entropy. Unlike the paper's sum over labels, the result is the mean over the
known entries, so it does not depend on the batch size or the number of classes. A target between 0 and 1, from mixup, costs its
share of both:

    L = 1/known * sum over known entries of  t * a_k * (1-p)^gamma_pos * -log p  +  (1-t) * i_k * (1-q)^gamma_neg * -log q

with p = sigmoid(logit), q = min(1 - p + clip, 1), and a_k, i_k the weights of the class, 1 unless given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.losses.entries import mean_of_entries, shares
from sadcl_core.losses.precision import at_least_float32

MIN_PROBABILITY = 1e-5  # floor under the logarithm, as published with SADCL


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    clip: float = 0.0,
    *,
    active_weights: Tensor | None = None,
    inactive_weights: Tensor | None = None,
    known: int | Tensor | None = None,
) -> Tensor:
    """Mean asymmetric loss over the known entries.

    Args:
        logits: (B, K), before the sigmoid.
        targets: (B, K) in [0, 1], or -1 for unknown; of any type.
        gamma_neg: focusing parameter of inactive labels, >= 0.
        gamma_pos: focusing parameter of active labels, >= 0.
        clip: probability margin in [0, 1): inactive labels scored below it cost nothing.
        active_weights: (K,), >= 0, factor of what a class costs as an active label; None: 1.
        inactive_weights: (K,), >= 0, factor of what it costs as an inactive label; None: 1.
        known: what the sum is divided by instead of the number of known entries here; a number or a scalar. With the number in
            a whole batch, the losses of its parts sum to the loss of the batch.

    Returns:
        A scalar, 0 when every entry is unknown. The focusing weight carries no gradient. Class weights change the sum and not
        what it is divided by.

    Raises:
        ValueError: the shapes differ or a parameter is out of range.

    Example:
        >>> logits = torch.tensor([[2.0, -1.0, 0.0]])
        >>> targets = torch.tensor([[1, 0, -1]])  # the last label is unknown
        >>> round(asymmetric_loss(logits, targets, gamma_neg=0).item(), 4)  # binary cross-entropy of the first two
        0.2201
        >>> round(asymmetric_loss(logits, targets, gamma_neg=4).item(), 4)  # an easy inactive label costs next to nothing
        0.0643
    """
    if gamma_neg < 0 or gamma_pos < 0 or not 0 <= clip < 1:
        raise ValueError(f"need gamma_neg >= 0, gamma_pos >= 0, 0 <= clip < 1; got {gamma_neg}, {gamma_pos}, {clip}")
    with torch.autocast(logits.device.type, enabled=False):
        logits = at_least_float32(logits)
        share = shares(targets, logits, active_weights, inactive_weights)
        score_active = torch.sigmoid(logits)
        score_inactive = 1 - score_active
        if clip > 0:
            score_inactive = (score_inactive + clip).clamp(max=1)
        return mean_of_entries(focused(score_active, gamma_pos), focused(score_inactive, gamma_neg), share, known)


def focused(right: Tensor, gamma: float) -> Tensor:
    """Return (B, K) the negative logarithm of the probability given to the true answer, focused without a gradient.

    Example:
        >>> focused(torch.tensor([0.5]), gamma=1)  # log 2 / 2
        tensor([0.3466])
    """
    cost = -torch.log(right.clamp(min=MIN_PROBABILITY))
    if gamma > 0:
        with torch.no_grad():
            focus = (1 - right).pow(torch.full_like(right, gamma, dtype=torch.float32))
        cost = cost * focus
    return cost
