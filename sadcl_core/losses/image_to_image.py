"""Supervised contrastive loss of whole-image features: images that share a label attract, the others repel.

The direct application of supervised contrastive learning (Khosla et al., NeurIPS 2020, L_out) to images with many labels,
which MulCon (Dao et al., Neurocomputing 2023) argues against: one feature must serve every label of its image at once.

    L = mean over images i of  -1/|P(i)| * sum_{p in P(i)} log( exp(z_i.z_p/t) / sum_{a != i} exp(z_i.z_a/t) )

P(i) are the other images, or other views of the same, with at least one active label in common. An image without one
contributes 0 and is counted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sadcl_core.losses.precision import at_least_float32


def image_to_image_loss(embeddings: Tensor, targets: Tensor, temperature: float = 0.2) -> Tensor:
    """Whole-image contrastive loss of one batch.

    Args:
        embeddings: (B, P), one projected feature per image or view; need not be normalised.
        targets: (B, K) with 1, 0 or -1 for unknown; only entries equal to 1 make two images alike.
        temperature: > 0.

    Returns:
        A scalar, 0 when no two images share a label.

    Raises:
        ValueError: a shape does not fit or the temperature is not positive.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> targets = torch.tensor([[1, 0], [1, 1], [0, 0]])  # the first two images share a label
        >>> round(image_to_image_loss(embeddings, targets).item(), 4)
        0.0045
    """
    if embeddings.ndim != 2 or targets.ndim != 2 or len(embeddings) != len(targets):
        raise ValueError(f"embeddings {tuple(embeddings.shape)} must be (B, P) with targets {tuple(targets.shape)} (B, K)")
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    with torch.autocast(embeddings.device.type, enabled=False):
        samples = F.normalize(at_least_float32(embeddings), dim=-1)  # (B, P)
        if len(samples) < 2:
            return samples.sum() * 0.0  # nothing to compare; still a node of the graph
        active = (targets == 1).to(samples.dtype)
        itself = torch.eye(len(samples), dtype=torch.bool, device=samples.device)
        alike = (active @ active.T > 0) & ~itself  # (B, B)
        similarity = (samples @ samples.T / temperature).masked_fill(itself, float("-inf"))
        positives = alike.sum(dim=1)
        attraction = similarity.masked_fill(~alike, 0.0).sum(dim=1) / positives.clamp(min=1)
        per_image = torch.where(positives > 0, similarity.logsumexp(dim=1) - attraction, 0.0)
        return per_image.mean()
