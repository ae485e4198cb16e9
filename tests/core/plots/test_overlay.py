from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sadcl_core.plots.overlay import attention_over


def test_colour_lies_where_the_weight_is_high_and_nowhere_else() -> None:
    attention = np.zeros((4, 4), np.float32)
    attention[0, 3] = 1e-3
    for grey in (0, 128, 255):
        pixels = np.asarray(attention_over(Image.new("RGB", (80, 40), (grey,) * 3), attention)).astype(int)
        assert pixels.shape == (40, 80, 3)
        ys, xs = np.nonzero(pixels[..., 0] - pixels[..., 2] > 30)
        assert ys.mean() < 10
        assert xs.mean() > 60
        assert tuple(pixels[35, 5]) == (grey, grey, grey)


def test_what_is_seen_of_the_photo_falls_with_the_weight() -> None:
    stripes = np.zeros((40, 80, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = np.asarray(attention_over(Image.fromarray(stripes), np.linspace(0, 1, 8, dtype=np.float32)[None])).astype(int)
    contrast = np.abs(pixels[20, 0::2, 0] - pixels[20, 1::2, 0])
    assert contrast[0] == 255
    assert 30 < contrast[-1] < 60  # 0.2 of it is left
    assert (np.diff(contrast) <= 2).all()


@pytest.mark.parametrize("value", [0.0, 0.25, np.nan])
def test_a_map_that_is_the_same_everywhere_shows_nothing(value: float) -> None:
    photo = Image.new("RGB", (8, 8), (90, 90, 90))
    assert attention_over(photo, np.full((3, 3), value, np.float32)).tobytes() == photo.tobytes()
