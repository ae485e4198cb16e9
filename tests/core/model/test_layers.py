from __future__ import annotations

import math

import pytest
import torch

from sadcl_core.model.layers import sine_position_encoding


def test_by_hand() -> None:
    encoding = sine_position_encoding(2, 3, 8)
    assert encoding.shape == (6, 8)
    row, column = 2, 1  # counted from 1: the second row, first column, which is location 3
    y, x = row / 2 * 2 * math.pi, column / 3 * 2 * math.pi
    expected = [
        math.sin(y),
        math.cos(y),
        math.sin(y / 100),
        math.cos(y / 100),
        math.sin(x),
        math.cos(x),
        math.sin(x / 100),
        math.cos(x / 100),
    ]
    torch.testing.assert_close(encoding[3], torch.tensor(expected), atol=1e-4, rtol=0)


def test_ends_at_two_pi_at_every_size() -> None:
    for size in (7, 14, 18):
        last = sine_position_encoding(size, size, 16)[-1]
        torch.testing.assert_close(last[:2], torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)


def test_refuses_odd_widths() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_position_encoding(2, 2, 6)
