"""The classification loss of answers that are the same for every image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sadcl_core.config.schema import AsymmetricOptions
from sadcl_core.losses import asymmetric_loss, class_weights

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Baselines:
    """The loss of answers that are the same for every image.

    Attributes:
        frequency: each class's share of active labels, as its score.
        inactive: all labels inactive, with a score of 0.
        constant: one score per class, chosen for the lowest loss; for binary cross-entropy that is `frequency`.
        half: a score of 0.5 for all, which is about where an untrained classifier starts.
    """

    frequency: float
    inactive: float
    constant: float
    half: float


def baselines(options: AsymmetricOptions, active: Counts, inactive: Counts) -> Baselines:
    """Return the losses from the numbers (K,) of images in which each class is active and inactive; unknown ones are in neither.

    Raises:
        ValueError: no label is known.

    Example:
        >>> plain = AsymmetricOptions(gamma_neg=0, gamma_pos=0, clip=0)
        >>> round(baselines(plain, np.array([5]), np.array([5])).constant, 4)  # log 2
        0.6931
    """
    here, away = torch.from_numpy(active).double(), torch.from_numpy(inactive).double()
    known = here + away
    if not bool(known.sum() > 0):
        raise ValueError("no label is known")
    weights = class_weights(options.class_weights, here, away) or (torch.ones_like(here), torch.ones_like(here))
    in_active, in_inactive = here * weights[0], away * weights[1]
    cost = partial(asymmetric_loss, gamma_neg=options.gamma_neg, gamma_pos=options.gamma_pos, clip=options.clip)

    def mean(logits: Tensor) -> float:
        loss = cost(
            torch.stack([logits, logits]),
            torch.stack([torch.ones_like(logits), torch.zeros_like(logits)]),
            active_weights=in_active,
            inactive_weights=in_inactive,
            known=known.sum(),
        )
        return float(loss)

    logits = torch.linspace(-12, 12, 241, dtype=torch.float64)  # constant answers that are tried
    costs = [[float(cost(logit.reshape(1, 1), torch.tensor([[target]]))) for target in (1, 0)] for logit in logits]
    by_class = torch.tensor(costs, dtype=torch.float64) @ torch.stack([in_active, in_inactive])  # (241, K)
    frequency = mean(torch.logit(here / known.clamp(min=1)))
    return Baselines(
        frequency=frequency,
        inactive=mean(torch.full_like(here, -torch.inf)),
        constant=min(frequency, float(by_class.min(dim=0).values.sum() / known.sum())),
        half=mean(torch.zeros_like(here)),
    )
