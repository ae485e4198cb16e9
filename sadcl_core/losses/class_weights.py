"""Class weights for imbalanced data: factors of the cost of a class as an active and as an inactive label."""

from __future__ import annotations

import math

import torch
from torch import Tensor

KINDS = ("none", "neg-pos", "effective-number")
MAX_RATIO = 100.0  # neg-pos: a class without an active image would weigh as much as all images
BETA = 0.999  # effective-number: however many images a class has, they count as fewer than 1 / (1 - BETA) = 1,000


def class_weights(kind: str, active: Tensor, inactive: Tensor) -> tuple[Tensor, Tensor] | None:
    """Weights of the active and of the inactive part of a classification loss.

    - `neg-pos`: an active label weighs n_inactive / n_active, clipped to [1 / MAX_RATIO, MAX_RATIO], an inactive one 1, as
      `pos_weight` of `torch.nn.BCEWithLogitsLoss`: both parts of a class weigh the same over the data.
    - `effective-number`: both weigh (1 - BETA) / (1 - BETA^n) with n = n_active, scaled to mean 1 over the classes (Cui et
      al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, proposition 1 and section 4). The N of the
      paper's BETA = (N - 1) / N, distinct images that there could be, is unknown in practice; 0.999 is one of the constants it
      compares. A class without an active image weighs 1 and does not take part in the mean.

    Args:
        kind: one of KINDS; `none` gives no weights.
        active: (K,) images in which each class is active.
        inactive: (K,) images in which it is inactive; unknown ones count in neither.

    Returns:
        (active weights, inactive weights), each (K,) float32, finite and above 0, or None.

    Raises:
        ValueError: there is no such kind, or the counts do not fit.

    Example:
        >>> active, inactive = class_weights("neg-pos", torch.tensor([10, 50]), torch.tensor([90, 50]))
        >>> active.tolist(), inactive.tolist()
        ([9.0, 1.0], [1.0, 1.0])
    """
    if kind not in KINDS:
        raise ValueError(f"there are no class weights {kind!r}, only {', '.join(KINDS)}")
    if active.ndim != 1 or active.shape != inactive.shape:
        raise ValueError(f"active {tuple(active.shape)} and inactive {tuple(inactive.shape)} must both be (K,)")
    if bool((active < 0).any()) or bool((inactive < 0).any()):
        raise ValueError("a class cannot be active or inactive in fewer than 0 images")
    if kind == "none":
        return None
    if kind == "neg-pos":
        ratio = inactive.double() / active.double().clamp(min=1)
        weights = ratio.clamp(min=1 / MAX_RATIO, max=MAX_RATIO).float()
        return weights, torch.ones_like(weights)
    weights = _effective_number_weights(active.double()).float()
    return weights, weights.clone()


def _effective_number_weights(active: Tensor) -> Tensor:
    """(K,) counts -> (K,) weights with mean 1."""
    seen = active > 0
    if not bool(seen.any()):
        return torch.ones_like(active)
    raw = (1 - BETA) / -torch.expm1(active.clamp(min=1) * math.log(BETA))
    return torch.where(seen, raw / raw[seen].mean(), 1.0)
