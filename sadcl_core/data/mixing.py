"""Mixup and CutMix of a batch with many labels an image, some of them unknown.

mixup (Zhang et al., ICLR 2018) averages two images, CutMix (Yun et al., ICCV 2019) pastes a rectangle of one into the other; the
targets are averaged by the share lambda ~ Beta(alpha, alpha) of the first image. As in timm and torchvision, one lambda serves
the batch. The versions of `torchvision.transforms.v2` would average the -1 of an unknown label like a number, draw from the
global generator and pair an image with its neighbour. Here a label is unknown where it is unknown in either image, the pairs are
a random permutation, and everything is drawn from the given generator.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def mix(images: Tensor, targets: Tensor, *, mixup: float, cutmix: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix every image of a batch with another one of it.

    With both alphas above 0, a batch is mixed by one or the other, with equal chance.

    Args:
        images: (B, 3, S, S) of a floating type, on any device.
        targets: (B, K) with 1, 0 or -1 for unknown.
        mixup: alpha of mixup, >= 0; 0: off.
        cutmix: alpha of CutMix, >= 0; 0: off.
        generator: source of all random numbers, on the CPU.

    Returns:
        Mixed images (B, 3, S, S), and targets (B, K) float32 in [0, 1] or -1; exactly 1 or 0 where both images agree. If both
        alphas are 0, the arguments themselves, and nothing is drawn.

    Raises:
        ValueError: an alpha is negative, the images are not of a floating type, or the lengths differ.

    Example:
        >>> images, targets = torch.rand(4, 3, 8, 8), torch.tensor([[1, 0], [1, 1], [1, -1], [1, 0]])
        >>> mixed, soft = mix(images, targets, mixup=0.2, cutmix=0, generator=torch.Generator().manual_seed(0))
        >>> soft[:, 0]
        tensor([1., 1., 1., 1.])
    """
    if mixup < 0 or cutmix < 0:
        raise ValueError(f"need mixup >= 0 and cutmix >= 0, got {mixup} and {cutmix}")
    if images.ndim != 4 or len(images) != len(targets) or not images.is_floating_point():
        raise ValueError(f"images {tuple(images.shape)} {images.dtype} must be (B, 3, S, S) floats, one for each row of targets")
    if mixup == 0 and cutmix == 0:
        return images, targets
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    rng = np.random.default_rng(seed)  # torch has no Beta distribution that takes a generator
    use_cutmix = rng.random() < 0.5 if mixup > 0 and cutmix > 0 else cutmix > 0
    share = rng.beta(cutmix, cutmix) if use_cutmix else rng.beta(mixup, mixup)  # lambda
    order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    if use_cutmix:
        mixed, share = _paste(images, order, share, rng)
    else:
        mixed = images.lerp(images[order], 1 - share)
    first, second = targets.float(), targets[order.to(targets.device)].float()
    soft = first.lerp(second, 1 - share)  # unlike two products, exact where both are the same
    return mixed, soft.masked_fill((first < 0) | (second < 0), -1.0)


def _paste(images: Tensor, order: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Return images with a rectangle from others, and the share of the pixels that are their own.

    It has the form of the image and 1 - share of its area, and lies around any of its pixels, clipped to the image.
    """
    height, width = images.shape[2:]
    tall, wide = (int(side * math.sqrt(1 - share)) for side in (height, width))
    top, left = int(rng.integers(height)) - tall // 2, int(rng.integers(width)) - wide // 2
    rows, columns = slice(max(top, 0), min(top + tall, height)), slice(max(left, 0), min(left + wide, width))
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[:, :, rows, columns][order]
    return mixed, 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
