from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2 as T

from sadcl_core.data.transforms import CROP_SIDES, OPERATIONS, ClippedCutout, FixedPositionCrop, Preprocessing, augmentation
from sadcl_core.errors import UsageError
from sadcl_core.registry import AUGMENTATIONS

IMAGE = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_gives_a_square_of_bytes(name: str) -> None:
    torch.manual_seed(0)
    for _ in range(10):
        result = augmentation(name, 32)(IMAGE)
        assert result.shape == (3, 32, 32)
        assert result.dtype == torch.uint8


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_augmentations_differ_from_call_to_call_and_repeat_with_the_seed(name: str) -> None:
    transform = augmentation(name, 32)
    torch.manual_seed(1)
    first = [transform(IMAGE) for _ in range(4)]
    torch.manual_seed(1)
    again = [transform(IMAGE) for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(first[0], other) for other in first[1:])


def test_the_centre_of_a_larger_image_is_cut_out_where_asked() -> None:
    whole, centre = (Preprocessing(size, (0.5,) * 3, (0.5,) * 3, resized) for size, resized in ((40, 0), (36, 40)))  # as 640, 576
    assert torch.equal(centre.resize(IMAGE), whole.resize(IMAGE)[:, 2:-2, 2:-2])


def test_unknown_augmentation() -> None:
    with pytest.raises(UsageError, match="Did you mean 'fixed-crops'"):
        augmentation("fixed-crop", 32)


def test_cutout_hides_a_square_of_half_the_side() -> None:
    erase = next(step for step in augmentation("cutout-randaugment", 32).transforms if isinstance(step, T.RandomErasing))  # type: ignore[attr-defined]
    erased = erase(torch.full((3, 32, 32), 200, dtype=torch.uint8))
    assert int((erased[0] == 0).sum()) == 16 * 16


def test_the_published_cutout_covers_19_percent_on_average_and_25_at_most() -> None:
    torch.manual_seed(0)
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    shares, colours = [], set()
    for _ in range(1000):
        hole = ClippedCutout()(image)
        hidden = hole.sum(dim=0) > 0
        shares.append(hidden.float().mean().item())
        colours.add(tuple(hole.amax(dim=(1, 2)).tolist()))
        assert all(len(hole[channel][hidden].unique()) == 1 for channel in range(3))
    assert max(shares) == 0.25
    assert sum(shares) / len(shares) == pytest.approx(0.19, abs=0.006)
    assert len(colours) > 900
    assert not image.any()


@pytest.mark.parametrize("number", range(15))
@pytest.mark.parametrize("strength", [0.0, 0.5, 0.999])
def test_an_operation_of_the_published_randaugment_takes_any_strength(number: int, strength: float) -> None:
    assert len(OPERATIONS) == 15
    result = OPERATIONS[number](IMAGE, strength)
    assert (result.shape, result.dtype) == (IMAGE.shape, torch.uint8)
    if strength == 0.5 and number in (*range(5), *range(10, 14)):
        assert torch.equal(result, IMAGE)  # in the middle of its range


def test_fixed_crops_take_thirteen_places_and_sides_two_steps_apart() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(512 * 512).view(1, 512, 512).expand(3, -1, -1)
    sizes, places = set(), set()
    for _ in range(3000):
        window = FixedPositionCrop()(ramp)
        height, width = window.shape[-2:]
        sizes.add((height, width))
        if (height, width) == (256, 256):
            places.add((int(window[0, 0, 0]) // 512, int(window[0, 0, 0]) % 512))
    sides = [round(512 * side) for side in CROP_SIDES]
    assert sizes == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 2}
    assert places == {
        *((y, x) for y in (0, 256) for x in (0, 256)),
        *((0, 128), (128, 0), (128, 128), (128, 256), (256, 128)),
        *((y, x) for y in (64, 192) for x in (64, 192)),
    }


def test_preprocessing_resizes_without_keeping_the_aspect_and_normalises() -> None:
    preprocessing = Preprocessing(img_size=20, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    assert preprocessing.resize(IMAGE).shape == (3, 20, 20)
    grey = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)  # 0.2
    torch.testing.assert_close(preprocessing.normalise(grey)[0, :, 0, 0], torch.tensor([-1.5, -0.8, -0.2]))
