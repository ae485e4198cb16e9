"""Memory bank of SADCL (Ma et al., ECAI 2023): for each class, the last label features that were scored with confidence.

Features are stored detached and before the projection, so that they are compared through the current projection. The number of
slots per class does not depend on the batch size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sadcl_core.runtime.distributed import all_gather


class MemoryBank(nn.Module):
    """Ring of M slots per class. All of its state is in buffers, so `state_dict` holds it.

    Attributes:
        features: (M, K, D).
        filled: (M, K), True where a slot holds a feature.
        cursor: (K,), the slot that is written next.

    Example:
        >>> bank = MemoryBank(slots=2, num_classes=3, width=4)
        >>> bank.start_from(torch.zeros(3, 4))
        >>> bank.write(torch.arange(12.0).view(3, 4), torch.tensor([0, 0, 2]))  # features of classes 0, 0 and 2
        >>> bank.filled.sum(dim=0).tolist(), bank.features[:, 0, 0].tolist()
        ([2, 1, 2], [4.0, 0.0])
    """

    features: Tensor
    filled: Tensor
    cursor: Tensor

    def __init__(self, *, slots: int, num_classes: int, width: int) -> None:
        """Make an empty bank.

        Raises:
            ValueError: a size is not positive.
        """
        super().__init__()
        if min(slots, num_classes, width) < 1:
            raise ValueError(f"slots, num_classes and width must be positive, got {slots}, {num_classes}, {width}")
        self.register_buffer("features", torch.zeros(slots, num_classes, width))
        self.register_buffer("filled", torch.zeros(slots, num_classes, dtype=torch.bool))
        self.register_buffer("cursor", torch.zeros(num_classes, dtype=torch.long))

    @torch.no_grad()
    def start_from(self, prototypes: Tensor) -> None:
        """Empty the bank and write the prototype of each class (K, D) into its first slot."""
        self.features.zero_()
        self.filled.zero_()
        self.features[0] = prototypes
        self.filled[0] = True
        self.cursor.fill_(1 % len(self.features))

    @torch.no_grad()
    def write(self, rows: Tensor, labels: Tensor) -> None:
        """Write label features (n, D) of classes `labels` (n,), those of all processes, over the oldest; see `confident`."""
        slots = len(self.features)
        rows, labels = all_gather(rows.to(self.features.dtype)), all_gather(labels)
        rank = (labels[:, None] == labels[None, :]).tril(-1).sum(dim=1)  # rows of the same class before this one
        counts = torch.bincount(labels, minlength=len(self.cursor))  # (K,)
        last = rank >= counts[labels] - slots  # of more rows than the ring has slots, only the last are written
        rows, labels, rank = rows[last], labels[last], rank[last]
        slot = (self.cursor[labels] + rank) % slots
        self.features[slot, labels] = rows
        self.filled[slot, labels] = True
        self.cursor.copy_((self.cursor + counts) % slots)


@torch.no_grad()
def confident(label_features: Tensor, targets: Tensor, scores: Tensor, *, min_score: float) -> tuple[Tensor, Tensor]:
    """Return the features of active labels that are scored above `min_score`.

    Args:
        label_features: (B, K, D).
        targets: (B, K) with 1, 0 or -1 for unknown.
        scores: (B, K) in 0..1.
        min_score: in 0..1.

    Returns:
        Features (n, D), detached, and the class of each (n,).

    Example:
        >>> targets, scores = torch.tensor([[1, 0], [1, -1]]), torch.tensor([[0.9, 0.9], [0.6, 0.9]])
        >>> features, labels = confident(torch.ones(2, 2, 3), targets, scores, min_score=0.8)
        >>> features.tolist(), labels.tolist()
        ([[1.0, 1.0, 1.0]], [0])
    """
    selected = (targets == 1) & (scores > min_score)  # (B, K)
    return label_features[selected].detach(), selected.nonzero()[:, 1]
