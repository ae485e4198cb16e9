"""Parts that losses share: class weights, the mean over the known entries, the focal term.

A target between 0 and 1 costs its share of both answers. Every loss takes the weights of its classes the same way: as factors of
what a class costs as an active and as an inactive label; in a loss of sets, of its part in the sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Shares:
    """Parts of the entries that count in a loss.

    Attributes:
        active: (B, K), >= 0, as an active label.
        inactive: (B, K), >= 0, as an inactive one; both are 0 where the label is unknown.
        known: (B, K), true where it is known.
    """

    active: Tensor
    inactive: Tensor
    known: Tensor


def shares(
    targets: Tensor, logits: Tensor, active_weights: Tensor | None = None, inactive_weights: Tensor | None = None
) -> Shares:
    """Return what the entries of targets (B, K), in [0, 1] or -1 for unknown, count, in the type of `logits` (B, K).

    The weights (K,), >= 0, are the factor of a class as an active and as an inactive label; None: 1.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> found = shares(torch.tensor([[1, 0, -1]]), torch.zeros(1, 3), active_weights=torch.tensor([5.0, 1.0, 1.0]))
        >>> found.active.tolist(), found.inactive.tolist()
        ([[5.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    """
    if logits.shape != targets.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} must have one shape")
    share = targets.to(logits.dtype)
    known = share >= 0
    for weights in (active_weights, inactive_weights):
        if weights is not None and weights.shape != logits.shape[-1:]:
            raise ValueError(f"class weights {tuple(weights.shape)} must be (K,) as in logits {tuple(logits.shape)}")
    active = share if active_weights is None else share * active_weights.to(share.dtype)
    inactive = 1 - share if inactive_weights is None else (1 - share) * inactive_weights.to(share.dtype)
    return Shares(active.where(known, 0.0), inactive.where(known, 0.0), known)


def mean_of_entries(as_active: Tensor, as_inactive: Tensor, share: Shares, known: int | Tensor | None = None) -> Tensor:
    """Return the mean cost of the known entries, a scalar, from the costs (B, K) of each as an active and as an inactive one.

    `known` is what the sum is divided by instead of the number of known entries here. 0 when every entry is unknown.

    Example:
        >>> targets = torch.tensor([[1.0, 0.5, -1.0]])
        >>> mean_of_entries(torch.full((1, 3), 1.0), torch.full((1, 3), 3.0), shares(targets, targets))
        tensor(1.5000)
    """
    cost = share.active * as_active + share.inactive * as_inactive
    count = share.known.sum() if known is None else torch.as_tensor(known, device=cost.device)
    return cost.where(share.known, 0.0).sum() / (count + (count == 0))  # nothing known: the sum is 0 already


def focal_term(x: Tensor, gamma: float) -> Tensor:
    """Return -(1 - p)^gamma log p with p = sigmoid(x), for logits x; of inactive labels for -x.

    Example:
        >>> focal_term(torch.tensor([0.0]), gamma=1)  # log 2 / 2
        tensor([0.3466])
    """
    return -((-x).sigmoid() ** gamma) * F.logsigmoid(x)
