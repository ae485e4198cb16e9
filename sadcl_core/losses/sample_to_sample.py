"""Sample-to-sample contrastive loss (SSCL, "S2S"): label features of one class attract, of different classes repel.

Ma et al., "Semantic-Aware Dual Contrastive Learning for Multi-label Image Classification", ECAI 2023; the same form
as the label-level contrastive loss of MulCon (Dao et al., Neurocomputing 2023) and as supervised contrastive learning
(Khosla et al., NeurIPS 2020, L_out), with one sample per active label of an image.

    L = mean over anchors i of  -1/|P(i)| * sum_{p in P(i)} log( exp(z_i.z_p/t) / sum_{a in A(i)} exp(z_i.z_a/t) )

Anchors are the active labels of the batch. A(i) is every other anchor and the filled entries of the memory bank, P(i)
its members of the same class. Bank entries are contrasted with and are no anchors themselves. An anchor without a
positive contributes 0 and is counted. Only active rows are ever compared: the similarity matrix is n_active x
(n_active + n_bank).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sadcl_core.losses.precision import at_least_float32


def sample_to_sample_loss(
    embeddings: Tensor,
    targets: Tensor,
    temperature: float = 0.2,
    bank: Tensor | None = None,
    bank_mask: Tensor | None = None,
) -> Tensor:
    """Sample-to-sample loss of one batch.

    Args:
        embeddings: (B, K, P), one projected feature per image and label; need not be normalised.
        targets: (B, K) with 1, 0 or -1 for unknown; only entries equal to 1 take part.
        temperature: > 0.
        bank: (M, K, P), projected entries of the memory bank, or None.
        bank_mask: (M, K), true where a bank entry is filled; None means all are.

    Returns:
        A scalar, 0 when no anchor has a positive.

    Raises:
        ValueError: a shape does not fit or the temperature is not positive.
    """
    if embeddings.shape[:2] != targets.shape or embeddings.ndim != 3:
        raise ValueError(f"embeddings {tuple(embeddings.shape)} must be (B, K, P) with targets {tuple(targets.shape)} (B, K)")
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    with torch.autocast(embeddings.device.type, enabled=False):
        active = targets == 1
        anchors = F.normalize(at_least_float32(embeddings[active]), dim=-1)  # (n, P)
        classes = active.nonzero()[:, 1]  # (n,)
        others, other_classes = anchors, classes
        if bank is not None:
            filled = _filled(bank, bank_mask, embeddings)
            others = torch.cat([anchors, F.normalize(at_least_float32(bank[filled]), dim=-1)])  # (n + m, P)
            other_classes = torch.cat([classes, filled.nonzero()[:, 1]])
        count = len(anchors)
        if count == 0 or len(others) < 2:
            return anchors.sum() * 0.0  # nothing to compare; still a node of the graph
        similarity = anchors @ others.T / temperature  # (n, n + m)
        itself = torch.zeros_like(similarity, dtype=torch.bool)
        itself.fill_diagonal_(True)
        similarity = similarity.masked_fill(itself, float("-inf"))
        positive = (classes[:, None] == other_classes[None, :]) & ~itself
        log_total = similarity.logsumexp(dim=1)  # (n,)
        positives = positive.sum(dim=1)
        attraction = similarity.masked_fill(~positive, 0.0).sum(dim=1) / positives.clamp(min=1)
        per_anchor = torch.where(positives > 0, log_total - attraction, 0.0)
        return per_anchor.sum() / count


def _filled(bank: Tensor, bank_mask: Tensor | None, embeddings: Tensor) -> Tensor:
    if bank.ndim != 3 or bank.shape[1:] != embeddings.shape[1:]:
        raise ValueError(f"bank {tuple(bank.shape)} must be (M, K, P) with the K and P of embeddings {tuple(embeddings.shape)}")
    if bank_mask is None:
        return torch.ones(bank.shape[:2], dtype=torch.bool, device=bank.device)
    if bank_mask.shape != bank.shape[:2]:
        raise ValueError(f"bank_mask {tuple(bank_mask.shape)} must be (M, K) as in bank {tuple(bank.shape)}")
    return bank_mask.bool()
