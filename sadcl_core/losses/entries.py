"""Parts of losses that cost each entry for itself: their mean over the known entries, and the focal term.

A target between 0 and 1 costs its share of both answers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mean_of_entries(as_active: Tensor, as_inactive: Tensor, share: Tensor) -> Tensor:
    """Return the mean cost of the known entries.

    Args:
        as_active: (B, K), cost of an entry that is active.
        as_inactive: (B, K), cost of one that is inactive.
        share: (B, K) in [0, 1], of the active label in an entry; -1 for unknown.

    Returns:
        A scalar, 0 when every entry is unknown.

    Example:
        >>> import torch
        >>> mean_of_entries(torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[3.0, 3.0, 3.0]]), torch.tensor([[1.0, 0.5, -1.0]]))
        tensor(1.5000)
    """
    known = share >= 0
    cost = share * as_active + (1 - share) * as_inactive
    return cost.where(known, 0.0).sum() / known.sum().clamp(min=1)


def focal_term(x: Tensor, gamma: float) -> Tensor:
    """Return -(1 - p)^gamma log p with p = sigmoid(x), for logits x; of inactive labels for -x.

    Example:
        >>> import torch
        >>> focal_term(torch.tensor([0.0]), gamma=1)  # log 2 / 2
        tensor([0.3466])
    """
    return -((-x).sigmoid() ** gamma) * F.logsigmoid(x)
