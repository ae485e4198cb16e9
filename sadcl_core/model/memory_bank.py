"""Memory banks of SADCL (Ma et al., ECAI 2023): for each class, label features that were scored with confidence.

Features are stored detached and before the projection, so that they are compared through the current projection. The ring keeps
the last ones of each class, and the number of its slots does not depend on the batch size; the bank of the published recipe has
a slot for each place in the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sadcl_core.runtime.distributed import all_gather, get_rank, get_world_size


class MemoryBank(nn.Module):
    """Ring of M slots per class. All of its state is in buffers, so `state_dict` holds it.

    Attributes:
        features: (M, K, D).
        filled: (M, K), True where a slot holds a feature.
        cursor: (K,), the slot that is written next.

    Example:
        >>> bank = MemoryBank(slots=2, num_classes=3, width=4)
        >>> bank.start_from(torch.zeros(3, 4))
        >>> bank.write(torch.arange(12.0).view(3, 4), torch.tensor([[0, 0], [1, 0], [1, 2]]))  # of classes 0, 0 and 2
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

    def contrasted(self, active: Tensor, first: int = 0) -> Tensor:
        """Return which entries (M, K) anchors are contrasted with, for the active labels (B, K) of images `first` and on."""
        return self.filled

    @torch.no_grad()
    def write(self, rows: Tensor, places: Tensor) -> None:
        """Write label features (n, D) of `places` (n, 2), those of all processes, over the oldest; see `confident`."""
        slots = len(self.features)
        rows, labels = all_gather(rows.to(self.features.dtype)), all_gather(places[:, 1])
        rank = (labels[:, None] == labels[None, :]).tril(-1).sum(dim=1)  # rows of the same class before this one
        counts = torch.zeros_like(self.cursor).index_add_(0, labels, torch.ones_like(labels))  # (K,)
        (last,) = (rank >= counts[labels] - slots).nonzero(as_tuple=True)  # of more rows than slots only the last are written
        rows, labels, rank = rows[last], labels[last], rank[last]
        slot = (self.cursor[labels] + rank) % slots
        self.features[slot, labels] = rows
        self.filled[slot, labels] = True
        self.cursor.copy_((self.cursor + counts) % slots)


class BatchBank(MemoryBank):
    """Bank of the published recipe: a slot for each image of a batch, in which its confident features stay until others come.

    All slots start as the prototypes. Anchors are contrasted with the slot of an image where the image that is in its place in
    the batch now has the label. Several processes share the slots: place i of process r is slot i * processes + r.

    Example:
        >>> bank = BatchBank(slots=2, num_classes=3, width=4)
        >>> bank.start_from(torch.zeros(3, 4))
        >>> bank.write(torch.ones(1, 4), torch.tensor([[1, 2]]))  # of the second image, class 2
        >>> bank.features[:, :, 0].tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        >>> bank.contrasted(torch.tensor([[True, False, False], [False, False, True]])).nonzero().tolist()
        [[0, 0], [1, 2]]
    """

    @torch.no_grad()
    def start_from(self, prototypes: Tensor) -> None:
        """Write the prototype of each class (K, D) into all of its slots."""
        self.features[:] = prototypes
        self.filled.fill_(True)

    def contrasted(self, active: Tensor, first: int = 0) -> Tensor:
        """Return the labels (M, K) of the images that are in the places of the slots."""
        result = torch.zeros_like(self.filled)
        places = torch.arange(first, first + len(active), device=active.device)
        result[all_gather(self._slots(places))] = all_gather(active)
        return result

    @torch.no_grad()
    def write(self, rows: Tensor, places: Tensor) -> None:
        """Write label features (n, D) of `places` (n, 2), those of all processes; see `confident`."""
        slots, labels = all_gather(self._slots(places[:, 0])), all_gather(places[:, 1])
        self.features[slots, labels] = all_gather(rows.to(self.features.dtype))

    def _slots(self, images: Tensor) -> Tensor:
        return (images * get_world_size() + get_rank()) % len(self.features)


@torch.no_grad()
def confident(label_features: Tensor, targets: Tensor, scores: Tensor, *, min_score: float) -> tuple[Tensor, Tensor]:
    """Return the features of active labels that are scored above `min_score`: (n, D), and the image and class of each (n, 2).

    They are taken, detached, of features (B, K, D) by targets (B, K) and scores (B, K) in 0..1.

    Example:
        >>> targets, scores = torch.tensor([[1, 0], [1, -1]]), torch.tensor([[0.9, 0.9], [0.6, 0.9]])
        >>> features, places = confident(torch.ones(2, 2, 3), targets, scores, min_score=0.8)
        >>> features.tolist(), places.tolist()
        ([[1.0, 1.0, 1.0]], [[0, 0]])
    """
    selected = (targets == 1) & (scores > min_score)  # (B, K)
    places = selected.nonzero()
    return label_features[places[:, 0], places[:, 1]].detach(), places
