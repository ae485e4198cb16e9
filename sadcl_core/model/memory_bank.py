"""Memory bank of SADCL: for each class, the last few label features that were recognised with confidence.

Features are kept detached and before the projection, so that they are compared through today's projection. The size
is fixed per class and has nothing to do with the batch size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sadcl_core.runtime.distributed import all_gather


class MemoryBank(nn.Module):
    """A ring of M slots per class. All of its state is in buffers, so `state_dict` holds it.

    Attributes:
        features: (M, K, D).
        filled: (M, K), true where a slot holds a feature.
        cursor: (K,), the slot written next.
    """

    features: Tensor
    filled: Tensor
    cursor: Tensor

    def __init__(self, *, slots: int, num_classes: int, width: int) -> None:
        """An empty bank.

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
        """Empty the bank, then put the prototype of each class (K, D) into its first slot."""
        self.features.zero_()
        self.filled.zero_()
        self.features[0] = prototypes
        self.filled[0] = True
        self.cursor.fill_(1 % len(self.features))

    @torch.no_grad()
    def write(self, rows: Tensor, labels: Tensor) -> None:
        """Write label features (n, D) of the classes `labels` (n,), of all processes, over the oldest; see `confident`."""
        slots = len(self.features)
        rows, labels = all_gather(rows.to(self.features.dtype)), all_gather(labels)
        place = (labels[:, None] == labels[None, :]).tril(-1).sum(dim=1)  # how many of the class came before, in this batch
        counts = torch.bincount(labels, minlength=len(self.cursor))  # (K,)
        kept = place >= counts[labels] - slots  # of more than the ring holds, the last ones stay
        rows, labels, place = rows[kept], labels[kept], place[kept]
        slot = (self.cursor[labels] + place) % slots
        self.features[slot, labels] = rows
        self.filled[slot, labels] = True
        self.cursor.copy_((self.cursor + counts) % slots)


@torch.no_grad()
def confident(label_features: Tensor, targets: Tensor, scores: Tensor, *, min_score: float) -> tuple[Tensor, Tensor]:
    """What of a batch is worth remembering: the features of active labels scored above `min_score`.

    Args:
        label_features: (B, K, D).
        targets: (B, K) with 1, 0 or -1 for unknown.
        scores: (B, K) in 0..1.
        min_score: confidence a feature needs.

    Returns:
        Features (n, D), detached, and the class of each (n,).
    """
    chosen = (targets == 1) & (scores > min_score)  # (B, K)
    return label_features[chosen].detach(), chosen.nonzero()[:, 1]
