from __future__ import annotations

import pytest
import torch

from sadcl_core.data.transforms import Preprocessing
from sadcl_core.exporting.resize import filter_weights, resize

SIZES = [
    (1, 1),
    (1, 90),
    (7, 5),
    (48, 48),
    (48, 96),
    (72, 48),
    (96, 144),
    (33, 50),
    (375, 500),
    (500, 375),
    (700, 10),
    (640, 480),
]


@pytest.mark.parametrize("size", [16, 48, 100])
def test_the_same_pixels_as_the_reader(size: int) -> None:
    """Also where one lies between two values; enlarged, reduced and squeezed. Reduced to a quarter a few may be off by one."""
    preprocessing = Preprocessing(img_size=size, mean=(0, 0, 0), std=(1, 1, 1))
    generator = torch.Generator().manual_seed(0)
    for height, width in SIZES:
        images = torch.randint(0, 256, (2, height, width, 3), generator=generator, dtype=torch.uint8)
        resized = resize(images, size)
        for number in range(2):
            expected = preprocessing.resize(images[number].permute(2, 0, 1))
            off = (resized[number].int() - expected.int()).abs()
            few = 0 if max(height, width) < 4 * size else 1e-4
            assert int(off.max()) <= 1, (height, width)
            assert float((off > 0).float().mean()) <= few, (height, width)


@pytest.mark.parametrize(("length", "size"), [(1, 5), (5, 1), (6, 4), (4, 6), (1000, 3)])
def test_weights_of_every_pixel_add_up(length: int, size: int) -> None:
    places, weights, scale = filter_weights(length, size)
    assert places.shape == weights.shape
    assert int(places.min()) >= 0
    assert int(places.max()) == length - 1
    torch.testing.assert_close(weights.sum(dim=1) / scale, torch.ones(size), atol=1e-3, rtol=0)
