"""Two-dimensional sine position encoding, as in DETR (Carion et al., ECCV 2020) and SADCL."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def sine_position_encoding(height: int, width: int, channels: int, *, device: torch.device | None = None) -> Tensor:
    """Encode the h x w locations of a feature map.

    The row fills the first half of the channels, the column the second. Positions count from 1 and are scaled to end
    at 2 pi, whatever the size of the map, so that a model can be tested at another size than it was trained at. Sine
    and cosine alternate.

    Returns:
        (h * w, channels), rows first.

    Raises:
        ValueError: `channels` is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"the position encoding needs a width that is a multiple of 4, got {channels}")
    rows = _encode(height, channels // 2, device)[:, None, :].expand(height, width, -1)
    columns = _encode(width, channels // 2, device)[None, :, :].expand(height, width, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def _encode(length: int, channels: int, device: torch.device | None) -> Tensor:
    position = torch.arange(1, length + 1, dtype=torch.float32, device=device) / (length + 1e-6) * 2 * math.pi
    pair = torch.arange(channels // 2, dtype=torch.float32, device=device)
    angle = position[:, None] / TEMPERATURE ** (2 * pair / channels)  # (length, channels / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
