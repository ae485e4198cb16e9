from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision.transforms.v2 as T
from torch import Tensor

from sadcl_core.data.mixing import mix

BATCH, SIDE = 8, 12
BOTH = [{"mixup": 0.8, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(batch: int = BATCH, height: int = SIDE, width: int = SIDE) -> tuple[Tensor, Tensor]:
    """Images whose every pixel is their number, each with a label of its own: both say what was mixed."""
    images = torch.arange(batch, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 3, height, width).clone()
    return images, torch.eye(batch, dtype=torch.int8)


def random_batch(seed: int, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=generator(seed)).to(dtype)
    return images, torch.randint(-1, 2, (BATCH, 5), generator=generator(seed + 1)).to(torch.int8)


def pairs(targets: Tensor) -> list[tuple[int, float]]:
    """From mixed targets of `numbered`: the other image of each, itself where it has none, and the share of the first."""
    partners = []
    for row in range(len(targets)):
        others = [k for k in range(len(targets)) if k != row and targets[row, k] > 0]
        partners.append((others[0] if others else row, float(targets[row, row])))
    return partners


@pytest.mark.parametrize("options", BOTH)
@pytest.mark.parametrize("seed", range(6))
def test_equals_naive_loops(options: dict[str, float], seed: int) -> None:
    """The pairs and lambda are read off numbered images; the same draw mixes random ones."""
    numbers, labels = numbered()
    own, shares = mix(numbers, labels, **options, generator=generator(seed))
    partners = pairs(shares)
    images, targets = random_batch(seed)
    mixed, soft = mix(images, targets, **options, generator=generator(seed))
    share = next((share for row, (other, share) in enumerate(partners) if other != row), 1.0)
    pasted = {float(value) for value in own.unique()} <= set(map(float, range(BATCH)))  # CutMix invents no new pixel
    for row, (other, _) in enumerate(partners):
        expected = torch.empty(3, SIDE, SIDE)
        for y in range(SIDE):
            for x in range(SIDE):
                if pasted:
                    expected[:, y, x] = images[other if own[row, 0, y, x] == other else row, :, y, x]
                else:
                    expected[:, y, x] = share * images[row, :, y, x] + (1 - share) * images[other, :, y, x]
        torch.testing.assert_close(mixed[row], expected)
        for k in range(targets.shape[1]):
            first, second = int(targets[row, k]), int(targets[other, k])
            value = -1 if -1 in (first, second) else share * first + (1 - share) * second
            assert float(soft[row, k]) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 15), (7, 7), (12, 20)])
def test_cutmix_counts_the_pixels_it_replaced(height: int, width: int) -> None:
    shares = set()
    for seed in range(40):
        images, targets = numbered(height=height, width=width)
        mixed, soft = mix(images, targets, mixup=0, cutmix=1.0, generator=generator(seed))
        for row, (other, share) in enumerate(pairs(soft)):
            if other == row:
                continue
            foreign = mixed[row, 0] == other
            assert share == pytest.approx(1 - int(foreign.sum()) / (height * width), abs=1e-7)
            assert (mixed[row, 0][~foreign] == row).all()
            inside = foreign.nonzero()
            sides = inside.amax(dim=0) - inside.amin(dim=0) + 1 if len(inside) else torch.zeros(2, dtype=torch.int64)
            assert int(sides.prod()) == len(inside)  # a rectangle without a hole
            shares.add(share)
    assert len(shares) > 10


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_is_a_symmetric_beta(alpha: float) -> None:
    draws = []
    images, targets = numbered(batch=3, height=1, width=1)
    for seed in range(3000):
        _, soft = mix(images, targets, mixup=alpha, cutmix=0, generator=generator(seed))
        draws += [share for row, (other, share) in enumerate(pairs(soft)) if other != row][:1]
    values = torch.tensor(draws, dtype=torch.float64)
    variance = 1 / (4 * (2 * alpha + 1))
    assert len(values) > 2000
    assert float(values.mean()) == pytest.approx(0.5, abs=4 * math.sqrt(variance / len(values)))
    assert float(values.var()) == pytest.approx(variance, rel=0.1)


def test_one_or_the_other_with_equal_chance() -> None:
    images, targets = numbered()
    pasted = 0
    for seed in range(400):
        mixed, _ = mix(images, targets, mixup=1.0, cutmix=1.0, generator=generator(seed))
        pasted += bool((mixed == mixed.round()).all())
    assert 160 <= pasted <= 240  # four standard deviations


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_equals_torchvision_where_every_label_is_known(kind: str) -> None:
    """With two images exchanged, their neighbour is the other one."""
    images, targets = numbered(batch=2)
    compared = 0
    for seed in range(20):
        alphas = {"mixup": float(kind == "mixup"), "cutmix": float(kind == "cutmix")}
        mixed, soft = mix(images, targets, **alphas, generator=generator(seed))
        share, labels = float(soft[0, 0]), targets.float()
        if share == 1:  # not exchanged
            continue
        parameters: dict[str, Any] = {"labels": labels, "batch_size": 2}
        if kind == "mixup":
            theirs, parameters["lam"] = T.MixUp(num_classes=2), share
        else:
            inside = (mixed[0, 0] == 1).nonzero()
            (top, left), (bottom, right) = inside.amin(dim=0).tolist(), (inside.amax(dim=0) + 1).tolist()
            theirs, parameters["box"], parameters["lam_adjusted"] = T.CutMix(num_classes=2), (left, top, right, bottom), share
        torch.testing.assert_close(mixed, theirs.transform(images, parameters), atol=1e-6, rtol=0)
        torch.testing.assert_close(soft, theirs.transform(labels, parameters))
        compared += 1
    assert compared > 5


@pytest.mark.parametrize("options", BOTH)
def test_unknown_in_either_image_is_unknown_and_changes_nothing_else(options: dict[str, float]) -> None:
    images, targets = random_batch(3)
    mixed, soft = mix(images, targets, **options, generator=generator(4))
    filled, full = mix(images, targets.clamp(min=0), **options, generator=generator(4))
    numbers, labels = numbered()
    partners = pairs(mix(numbers, labels, **options, generator=generator(4))[1])
    unknown = torch.stack([(targets[row] < 0) | (targets[other] < 0) for row, (other, _) in enumerate(partners)])
    assert unknown.any()
    assert not unknown.all()
    assert torch.equal(soft == -1, unknown)
    assert torch.equal(soft[~unknown], full[~unknown])
    assert torch.equal(mixed, filled)


@pytest.mark.parametrize("options", BOTH)
def test_labels_that_both_images_have_stay_exactly_one(options: dict[str, float]) -> None:
    images, _ = random_batch(5)
    for seed in range(20):
        ones, zeros = torch.ones(BATCH, 3, dtype=torch.int64), torch.zeros(BATCH, 2, dtype=torch.int64)
        _, soft = mix(images, torch.cat([ones, zeros], dim=1), **options, generator=generator(seed))
        assert torch.equal(soft, torch.cat([ones, zeros], dim=1).float())


@pytest.mark.parametrize("options", BOTH)
@pytest.mark.parametrize("size", [0, 1])
def test_a_batch_of_one_or_none_stays_as_it_is(options: dict[str, float], size: int) -> None:
    images, targets = random_batch(6)
    for seed in range(5):
        mixed, soft = mix(images[:size], targets[:size], **options, generator=generator(seed))
        assert torch.equal(mixed, images[:size])
        assert torch.equal(soft, targets[:size].float())


def test_off_returns_what_was_parameters_and_draws_nothing() -> None:
    images, targets = random_batch(7)
    source = generator(0)
    before = source.get_state()
    mixed, same = mix(images, targets, mixup=0, cutmix=0, generator=source)
    assert mixed is images
    assert same is targets
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize("options", BOTH)
def test_depends_on_the_generator_alone_and_leaves_the_input(options: dict[str, float]) -> None:
    images, targets = random_batch(8)
    copies = images.clone(), targets.clone()
    state = torch.get_rng_state()
    source = generator(1)
    first, second = mix(images, targets, **options, generator=source), mix(images, targets, **options, generator=source)
    again = mix(images, targets, **options, generator=generator(1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], second[0])
    assert torch.equal(images, copies[0])
    assert torch.equal(targets, copies[1])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("options", BOTH)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_keeps_type_and_memory_layout(options: dict[str, float], dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    images, targets = random_batch(9, dtype=dtype)
    mixed, soft = mix(images.contiguous(memory_format=memory_format), targets, **options, generator=generator(2))
    assert mixed.dtype == dtype
    assert soft.dtype == torch.float32
    assert mixed.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("options", BOTH)
def test_mixes_where_the_images_are(options: dict[str, float]) -> None:
    images, targets = random_batch(12)
    mixed, soft = mix(images.to("meta"), targets.to("meta"), **options, generator=generator(0))
    assert mixed.device.type == soft.device.type == "meta"
    assert (mixed.shape, soft.shape) == (images.shape, targets.shape)


@pytest.mark.parametrize(("mixup", "cutmix"), [(1e-4, 0.0), (0.0, 1e-4), (1e4, 0.0), (0.0, 1e4)])
def test_extreme_alphas_give_numbers(mixup: float, cutmix: float) -> None:
    images, targets = random_batch(10)
    for seed in range(20):
        mixed, soft = mix(images, targets, mixup=mixup, cutmix=cutmix, generator=generator(seed))
        assert mixed.isfinite().all()
        assert ((soft == -1) | ((soft >= 0) & (soft <= 1))).all()


def test_refuses_what_does_not_fit() -> None:
    images, targets = random_batch(11)
    for alphas in ({"mixup": -1.0, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": -1.0}):
        with pytest.raises(ValueError, match="mixup >= 0 and cutmix >= 0"):
            mix(images, targets, **alphas, generator=generator(0))
    for other, labels in ((images.byte(), targets), (images[:3], targets), (images[0], targets)):
        with pytest.raises(ValueError, match=r"must be \(B, 3, S, S\) floats"):
            mix(other, labels, mixup=1.0, cutmix=0.0, generator=generator(0))
