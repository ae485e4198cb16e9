"""Resizing in plain arithmetic, of the same pixels as the reader's, so that a network can do it in any runtime.

Runtimes have antialiased resizing of their own, which rounds differently: a twentieth of the pixels of a photo is off by one, and
probabilities by up to 0.007. Here the weights of the triangle filter are whole numbers of at most 15 bits, as in torch's kernel
for uint8. Rows of pixels are resized first, then columns, each rounded to 8 bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_BITS = 22  # of the fraction of a weight
WEIGHT_LIMIT = 2**15


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images (B, H, W, 3) uint8 to squares (B, 3, S, S) uint8 with antialiasing; the aspect ratio is not kept.

    Example:
        >>> from sadcl_core.data.transforms import Preprocessing
        >>> image = torch.randint(0, 256, (50, 37, 3), dtype=torch.uint8)
        >>> expected = Preprocessing(img_size=24, mean=(0, 0, 0), std=(1, 1, 1)).resize(image.permute(2, 0, 1))
        >>> torch.equal(resize(image[None], 24)[0], expected)
        True
    """
    narrow = _resize_length(images.permute(0, 3, 2, 1), size)  # (B, 3, S, H)
    return _resize_length(narrow.transpose(2, 3), size)


def _resize_length(images: Tensor, size: int) -> Tensor:
    """Return (B, 3, S, M) uint8 for (B, 3, L, M) uint8."""
    places, weights, scale = filter_weights(images.shape[2], size)
    near = images.index_select(2, places.flatten()).unflatten(2, (size, places.shape[1]))  # (B, 3, S, taps, M)
    sums = (near.float() * weights[:, :, None]).sum(dim=3)  # whole numbers, exact below 2^24: to a quarter of the size
    resized: Tensor = ((sums + scale / 2) / scale).floor().to(torch.uint8)
    return resized


def filter_weights(length: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return which of L pixels make each of S new ones, and by which weights.

    Returns:
        Indices (S, taps) int64 below L, weights (S, taps) float32, whole numbers, and their sum, a power of two (1,): exact but
        for the rounding of each weight.

    Example:
        >>> places, weights, scale = filter_weights(4, 2)
        >>> (weights / scale).tolist()
        [[0.428..., 0.428..., 0.142..., 0.0, 0.0], [0.142..., 0.428..., 0.428..., 0.0, 0.0]]
    """
    taps = 2 * ((length + size - 1) // size) + 1
    total = torch.full((1,), length, dtype=torch.float64)
    support = (total / size).clamp(min=1)
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) * (total / size)
    first = (centre - support + 0.5).floor().clamp(min=0)
    last = torch.minimum((centre + support + 0.5).floor(), total)
    position = first[:, None] + torch.arange(taps, dtype=torch.float64)
    triangle = (1 - ((position - centre[:, None] + 0.5) / support).abs()).clamp(min=0)
    shares = torch.where(position < last[:, None], triangle, 0.0)
    shares = shares / shares.sum(dim=1, keepdim=True)
    powers = torch.pow(2.0, torch.arange(1, MOST_BITS + 1, dtype=torch.float64))
    fitting = (shares.max() * powers + 0.5).floor() < WEIGHT_LIMIT
    scale = torch.where(fitting, powers, 0.0).max()
    places = torch.minimum(position, total - 1).long()
    return places, (shares * scale + 0.5).floor().float(), scale.float()
