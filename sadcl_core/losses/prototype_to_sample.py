"""Prototype-to-sample contrastive loss (PSCL, "P2S").

A prototype attracts the label features of images that show its class and repels those of images that do not.

Ma et al., "Semantic-Aware Dual Contrastive Learning for Multi-label Image Classification", ECAI 2023.

    L = -1/N+ * sum over classes k with an active label of  log( sum_{i: y_ik=1} exp(c_k.z_ik/t) / sum_i
    exp(c_k.z_ik/t) )

with c_k.z_ik a cosine and N+ the number of active labels in the batch. This is where inactive labels are used. A class
without an active label has no term: leaving its column out before the projection changes nothing and saves its cost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sadcl_core.losses.precision import at_least_float32


def prototype_to_sample_loss(embeddings: Tensor, targets: Tensor, prototypes: Tensor, temperature: float = 0.07) -> Tensor:
    """Prototype-to-sample loss of one batch.

    Args:
        embeddings: (B, K, P), one projected feature per image and label; need not be normalised.
        targets: (B, K) with 1, 0 or -1 for unknown; unknown entries are neither attracted nor repelled.
        prototypes: (K, P), projected prototypes; need not be normalised.
        temperature: > 0.

    Returns:
        A scalar, 0 when the batch has no active label.

    Raises:
        ValueError: a shape does not fit or the temperature is not positive.

    Example:
        >>> embeddings = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # 2 images, 1 class, width 2
        >>> prototypes = torch.tensor([[1.0, 0.0]])
        >>> round(prototype_to_sample_loss(embeddings, torch.tensor([[1], [0]]), prototypes, temperature=0.5).item(), 4)
        0.1269
        >>> round(prototype_to_sample_loss(embeddings, torch.tensor([[0], [1]]), prototypes, temperature=0.5).item(), 4)
        2.1269
    """
    if embeddings.shape[:2] != targets.shape or embeddings.ndim != 3:
        raise ValueError(f"embeddings {tuple(embeddings.shape)} must be (B, K, P) with targets {tuple(targets.shape)} (B, K)")
    if prototypes.shape != embeddings.shape[1:]:
        raise ValueError(f"prototypes {tuple(prototypes.shape)} must be (K, P) as in embeddings {tuple(embeddings.shape)}")
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    with torch.autocast(embeddings.device.type, enabled=False):
        active = targets == 1
        present = active.any(dim=0)  # (K,), only these classes have a term
        samples = F.normalize(at_least_float32(embeddings), dim=-1)  # (B, K, P)
        centres = F.normalize(at_least_float32(prototypes), dim=-1)  # (K, P)
        similarity = (samples * centres).sum(dim=-1) / temperature  # (B, K)
        log_known = similarity.masked_fill((targets < 0) & present, float("-inf")).logsumexp(dim=0)
        log_active = similarity.masked_fill(~active & present, float("-inf")).logsumexp(dim=0)
        return (log_known - log_active).where(present, 0.0).sum() / active.sum().clamp(min=1)
