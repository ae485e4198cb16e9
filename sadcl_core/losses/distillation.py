"""Distillation: the network learns the logits of teachers.

The squared distance of logits is that of Ba and Caruana ("Do Deep Nets Really Need to be Deep?", NeurIPS 2014) and, with teachers
of groups of classes, that of CPSD (IJCAI 2022), which sums it over images and classes as it sums the classification loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.losses.precision import at_least_float32


def distillation_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared distance to the teachers' logits over all entries, also those whose label is unknown.

    Args:
        logits: (B, K), before the sigmoid.
        teacher_logits: (B, K), without a gradient.

    Returns:
        A scalar.

    Example:
        >>> distillation_loss(torch.tensor([[0.5, -3.0]]), torch.tensor([[1.5, -1.0]]))
        tensor(2.5000)
    """
    with torch.autocast(logits.device.type, enabled=False):
        return (at_least_float32(logits) - at_least_float32(teacher_logits)).square().mean()
