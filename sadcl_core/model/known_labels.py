"""Labels that are given with an image, to heads that can use them."""

from __future__ import annotations

import torch
from torch import Tensor

from sadcl_core.runtime.seeds import seed_of


def reveal(targets: Tensor, *, share: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw labels that are revealed, as C-Tran trains (Lanchantin et al., CVPR 2021): of each image 0 to `share` of its K labels.

    Args:
        targets: (B, K) of 1 active, 0 inactive, -1 unknown, or between 0 and 1 where images were mixed.
        share: of K, at most; how many is drawn for each image. What is unknown or mixed is not revealed.
        generator: of the draw, on the CPU.

    Returns:
        (B, K) known: targets, -1 where not revealed; and (B, K) targets, -1 where revealed, since they are not to be learned.

    Example:
        >>> known, targets = reveal(torch.tensor([[1, 0, -1], [0, 0, 1]]), share=1.0, generator=torch.Generator().manual_seed(0))
        >>> known.tolist(), targets.tolist()
        ([[-1, -1, -1], [0, 0, 1]], [[1, 0, -1], [-1, -1, -1]])
    """
    count, classes = targets.shape
    most = torch.randint(int(share * classes) + 1, (count, 1), generator=generator)
    ranks = torch.rand(count, classes, generator=generator).argsort(dim=1).argsort(dim=1)
    chosen = (ranks < most).to(targets.device) & ((targets == 0) | (targets == 1))
    return targets.masked_fill(~chosen, -1), targets.masked_fill(chosen, -1)


def reveal_of_images(targets: Tensor, indices: Tensor, *, share: float) -> tuple[Tensor, Tensor]:
    """Reveal the same share of the labels of every image, as C-Tran is tested; which, depends on the image's number alone.

    The numbers (B,) are those in the split; the share is that of the labels that are not unknown, rounded down. Returns what
    `reveal` does.

    Example:
        >>> known, targets = reveal_of_images(torch.tensor([[1, 0, -1, 0, 0]]), torch.tensor([7]), share=0.5)
        >>> int((known >= 0).sum()), int((targets >= 0).sum())
        (2, 2)
    """
    classes = targets.shape[1]
    draws = [torch.rand(classes, generator=torch.Generator().manual_seed(seed_of("known", i))) for i in indices.tolist()]
    ranks = torch.stack(draws).masked_fill(targets < 0, 1.0).argsort(dim=1).argsort(dim=1)
    chosen = ranks < (share * (targets >= 0).sum(dim=1, keepdim=True)).floor()
    return targets.masked_fill(~chosen, -1), targets.masked_fill(chosen, -1)
