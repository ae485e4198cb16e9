"""Sample-to-sample contrastive loss (SSCL, "S2S"): label features of one class attract, of different classes repel.

Ma et al., "Semantic-Aware Dual Contrastive Learning for Multi-label Image Classification", ECAI 2023; the same form
as the label-level contrastive loss of MulCon (Dao et al., Neurocomputing 2023) and as supervised contrastive learning
(Khosla et al., NeurIPS 2020, L_out), with one sample per active label of an image.

    L = mean over anchors i of  -1/|P(i)| * sum_{p in P(i)} log( exp(z_i.z_p/t) / sum_{a in A(i)} exp(z_i.z_a/t) )

Anchors are the active labels of the batch. A(i) is every other anchor and the entries of the memory bank, P(i) its members
of the same class. Bank entries are contrasted with and are no anchors themselves. An anchor without a positive contributes
0 and is counted. Inactive labels never enter, so the caller passes the active rows alone: the similarity matrix has the shape
n_active x (n_active + n_bank) and grows with the number of classes only as far as the bank does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sadcl_core.losses.precision import at_least_float32


def sample_to_sample_loss(
    embeddings: Tensor, labels: Tensor, temperature: float = 0.2, bank: Tensor | None = None, bank_labels: Tensor | None = None
) -> Tensor:
    """Sample-to-sample loss of one batch.

    Args:
        embeddings: (N, P), one projected feature per ACTIVE label of an image, that is where a target equals 1; need not be
            normalised.
        labels: (N,), the class of each.
        temperature: > 0.
        bank: (M, P), projected entries of the memory bank, or None.
        bank_labels: (M,), the class of each.

    Returns:
        A scalar, 0 when no anchor has a positive.

    Raises:
        ValueError: a shape does not fit or the temperature is not positive.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # three active labels of a batch
        >>> round(sample_to_sample_loss(embeddings, torch.tensor([5, 5, 7])).item(), 4)
        0.0045
        >>> round(sample_to_sample_loss(embeddings, torch.tensor([5, 7, 5])).item(), 4)
        1.9
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings {tuple(embeddings.shape)} must be (N, P) with labels {tuple(labels.shape)} (N,)")
    if temperature <= 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    with torch.autocast(embeddings.device.type, enabled=False):
        anchors = F.normalize(at_least_float32(embeddings), dim=-1)  # (N, P)
        others, other_labels = anchors, labels
        if bank is not None:
            if (
                bank_labels is None
                or bank.ndim != 2
                or bank.shape[1:] != anchors.shape[1:]
                or bank_labels.shape != bank.shape[:1]
            ):
                raise ValueError(f"bank {tuple(bank.shape)} must be (M, P) as in embeddings, with bank_labels (M,)")
            others = torch.cat([anchors, F.normalize(at_least_float32(bank), dim=-1)])  # (N + M, P)
            other_labels = torch.cat([labels, bank_labels])
        count = len(anchors)
        if count == 0 or len(others) < 2:
            return anchors.sum() * 0.0  # nothing to compare; still a node of the graph
        similarity = anchors @ others.T / temperature  # (N, N + M)
        itself = torch.zeros_like(similarity, dtype=torch.bool)
        itself.fill_diagonal_(True)
        similarity = similarity.masked_fill(itself, float("-inf"))
        positive = (labels[:, None] == other_labels[None, :]) & ~itself
        log_total = similarity.logsumexp(dim=1)  # (N,)
        positives = positive.sum(dim=1)
        attraction = similarity.masked_fill(~positive, 0.0).sum(dim=1) / positives.clamp(min=1)
        per_anchor = torch.where(positives > 0, log_total - attraction, 0.0)
        return per_anchor.sum() / count
