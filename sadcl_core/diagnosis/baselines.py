"""What the classification loss comes to without looking at an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sadcl_core.config.schema import AsymmetricOptions
from sadcl_core.losses import asymmetric_loss, class_weights

LOGITS = torch.linspace(-12, 12, 241, dtype=torch.float64)  # constant answers that are tried
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
    """From counts (K,) of the images in which each class is active, and in which it is not; unknown ones are in neither.

    Raises:
        ValueError: no label is known.
    """
    here, away = torch.from_numpy(active).double(), torch.from_numpy(inactive).double()
    known = here + away
    if not bool(known.sum() > 0):
        raise ValueError("no label is known")
    weights = class_weights(options.class_weights, here, away) or (torch.ones_like(here), torch.ones_like(here))
    in_active, in_inactive = here * weights[0], away * weights[1]
    costs = [(_cost(options, logit, 1), _cost(options, logit, 0)) for logit in LOGITS]
    table = torch.tensor(costs, dtype=torch.float64)  # (G, 2)
    by_class = table @ torch.stack([in_active, in_inactive])  # (G, K)

    def mean(logits: Tensor) -> float:
        both = torch.stack([logits, logits])
        targets = torch.stack([torch.ones_like(logits), torch.zeros_like(logits)])
        value = asymmetric_loss(
            both,
            targets,
            gamma_neg=options.gamma_neg,
            gamma_pos=options.gamma_pos,
            clip=options.clip,
            active_weights=in_active,
            inactive_weights=in_inactive,
            known=known.sum(),
        )
        return float(value)

    frequency = mean(torch.logit(here / known.clamp(min=1)))
    return Baselines(
        frequency=frequency,
        inactive=mean(torch.full_like(here, -torch.inf)),
        constant=min(frequency, float(by_class.min(dim=0).values.sum() / known.sum())),
        half=mean(torch.zeros_like(here)),
    )


def _cost(options: AsymmetricOptions, logit: Tensor, target: int) -> float:
    """Of one label."""
    loss = asymmetric_loss(
        logit.reshape(1, 1),
        torch.tensor([[target]]),
        gamma_neg=options.gamma_neg,
        gamma_pos=options.gamma_pos,
        clip=options.clip,
    )
    return float(loss)
