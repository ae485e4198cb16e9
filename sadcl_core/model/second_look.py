"""A second look, MCAR: the regions of the best classes are cut out of the image and go through the same network again.

Gao and Zhou, "Learning to Discover Multi-Class Attentional Regions for Multi-Label Image Recognition", TIP 2021. The region of a
class is where the largest values of the rows, and of the columns, of its map are above half way from the least to the greatest:
the run around the greatest, of a map that is flat the middle three quarters, and an eighth of the side at least. The larger of
the scores of the image and of its regions counts; in training each of both has a loss, and their maximum has none.

The map of a class is the sigmoid of its score at each location, as published, where the head is `pooled`. Departure: of another
head, or beside a global branch, it is the attention.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 1 / 8  # side of a region, as a share of the image's
BRANCH = "second_look"  # of `HeadOutput.auxiliary`


def regions(attention: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where maps (N, h, w), enlarged to (H, W), are large, as (N, 4): top, bottom, left and right, from -1 to 1.

    Example:
        >>> attention = torch.zeros(1, 4, 4)
        >>> attention[0, 0, 1:3] = 1
        >>> regions(attention, (4, 4)).tolist()
        [[-1.0, -0.5, -0.5, 0.5]]
    """
    maps = F.interpolate(attention[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]
    return torch.cat([_run(maps.amax(dim=axis)) for axis in (2, 1)], dim=1)


def _run(profile: Tensor) -> Tensor:
    """Return first and last place, from -1 to 1, of the run around the greatest value of profiles (N, S): (N, 2)."""
    count = profile.shape[1]
    low, high = profile.amin(dim=1, keepdim=True), profile.amax(dim=1, keepdim=True)
    below = (profile - low) < 0.5 * (high - low)
    places, peak = torch.arange(count, device=profile.device), profile.argmax(dim=1, keepdim=True)
    first = ((places + 1) * (below & (places < peak))).amax(dim=1)
    last = count - ((count - places) * (below & (places > peak))).amax(dim=1)
    flat = (high == low)[:, 0]
    first, last = torch.where(flat, count / 8, first), torch.where(flat, count * 7 / 8, last)
    middle, half = (first + last) / 2, ((last - first) / 2).clamp(min=count * LEAST / 2)
    middle = middle.clamp(min=half, max=count - half)
    return torch.stack([middle - half, middle + half], dim=1) * 2 / count - 1


def cut(images: Tensor, windows: Tensor) -> Tensor:
    """Return windows (B, n, 4), see `regions`, of images (B, C, H, W), bilinearly enlarged to their size: (B * n, C, H, W).

    Example:
        >>> image = torch.arange(16.0).view(1, 1, 4, 4)
        >>> torch.equal(cut(image, torch.tensor([[[-1.0, 1.0, -1.0, 1.0]]])), image)
        True
    """
    count = windows.shape[1]
    top, bottom, left, right = windows.flatten(0, 1).to(images.dtype).unbind(dim=1)
    nothing = torch.zeros_like(top)
    rows = [
        torch.stack([(right - left) / 2, nothing, (right + left) / 2], dim=1),
        torch.stack([nothing, (bottom - top) / 2, (bottom + top) / 2], dim=1),
    ]
    repeated = images.repeat_interleave(count, dim=0)
    places = F.affine_grid(torch.stack(rows, dim=1), list(repeated.shape), align_corners=False)
    return F.grid_sample(repeated, places, mode="bilinear", padding_mode="border", align_corners=False)


def best_regions(attention: Tensor, logits: Tensor, *, count: int, size: tuple[int, int]) -> Tensor:
    """Return the regions (B, n, 4) of the `count` classes with the highest logits (B, K), for attention (B, K, h, w)."""
    best = logits.topk(min(count, logits.shape[1]), dim=1).indices
    maps = attention.gather(1, best[..., None, None].expand(-1, -1, *attention.shape[2:]))
    windows: Tensor = regions(maps.flatten(0, 1), size).unflatten(0, best.shape)
    return windows
