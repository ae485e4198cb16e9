"""The losses of logits and targets against naive loops, timm's forms, and what must not change them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from timm.loss.two_way_loss import TwoWayLoss
from timm.loss.zlpr_loss import ZlprLoss
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from sadcl_core.losses import focal_loss, hill_loss, polynomial_loss, splc_loss, two_way_loss, zlpr_loss
from tests.core.losses.test_asymmetric import random_batch, soft_batch

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "focal": focal_loss,
    "hill": hill_loss,
    "polynomial": polynomial_loss,
    "splc": splc_loss,
    "splc, first epoch": partial(splc_loss, correct=False),
    "two_way": two_way_loss,
    "zlpr": zlpr_loss,
}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def hill(x: float, active: bool) -> float:
    p, q = sigmoid(x), sigmoid(x - 1)
    return -((1 - q) ** 2) * math.log(q) if active else (1.5 - p) * p * p


def focal(x: float, active: bool) -> float:
    p = sigmoid(x)
    return -0.25 * (1 - p) ** 2 * math.log(p) if active else -0.75 * p * p * math.log(1 - p)


def polynomial(x: float, active: bool) -> float:
    right = sigmoid(x if active else -x)
    return -math.log(right) + 1 - right


def splc(x: float, active: bool, *, correct: bool = True) -> float:
    p = sigmoid(x - 1) if active else sigmoid(x)
    as_active = active or (correct and p > 0.6)
    return -((1 - p) ** 2) * math.log(p) if as_active else -p * p * math.log(1 - p)


ENTRIES: dict[str, Callable[[float, bool], float]] = {
    "hill": hill,
    "focal": focal,
    "polynomial": polynomial,
    "splc": splc,
    "splc, first epoch": partial(splc, correct=False),
}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("make", [random_batch, soft_batch])
def test_losses_of_entries_equal_a_naive_loop(name: str, make: Callable[[int], tuple[Tensor, Tensor]]) -> None:
    logits, targets = make(0)
    cost = ENTRIES[name]
    costs = [
        float(t) * cost(float(x), True) + (1 - float(t)) * cost(float(x), False)
        for x, t in zip(logits.flatten(), targets.flatten(), strict=True)
        if t >= 0
    ]
    assert LOSSES[name](logits, targets).item() == pytest.approx(sum(costs) / len(costs))


def set_of(logits: list[float], shares: list[float], tp: float, tn: float) -> float:
    known = [(x, t) for x, t in zip(logits, shares, strict=True) if t >= 0]
    active = sum(t * math.exp(-x / tp) for x, t in known)
    inactive = sum((1 - t) * math.exp(x / tn) for x, t in known)
    return math.log(1 + active**tp * inactive**tn)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [partial(random_batch, unknown=True), soft_batch])
def test_losses_of_sets_equal_naive_loops(seed: int, make: Callable[[int], tuple[Tensor, Tensor]]) -> None:
    logits, targets = make(seed)
    ways = []
    for x, t in ((logits, targets), (logits.T, targets.T)):
        sets = [set_of(a.tolist(), b.tolist(), 4, 1) for a, b in zip(x, t, strict=True) if (b > 0).any()]
        ways.append(sum(sets) / len(sets))
    assert two_way_loss(logits, targets).item() == pytest.approx(sum(ways))
    images = []
    for x, t in zip(logits, targets, strict=True):
        known = [(float(a), float(b)) for a, b in zip(x, t, strict=True) if b >= 0]
        above, below = (1 + sum((1 - b) * math.exp(a) for a, b in known), 1 + sum(b * math.exp(-a) for a, b in known))
        images.append(math.log(above) + math.log(below))
    assert zlpr_loss(logits, targets).item() == pytest.approx(sum(images) / len(images))


def test_equal_the_forms_of_timm_and_torchvision_where_every_label_is_known() -> None:
    logits, targets = random_batch(1)
    known = targets.double()
    torch.testing.assert_close(zlpr_loss(logits, targets), ZlprLoss()(logits, known), check_dtype=False, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(focal_loss(logits, targets), sigmoid_focal_loss(logits, known, reduction="mean"))
    torch.testing.assert_close(
        two_way_loss(logits, targets), TwoWayLoss()(logits, known), check_dtype=False, rtol=1e-6, atol=1e-6
    )


def test_identities() -> None:
    logits, targets = random_batch(2, unknown=True)
    torch.testing.assert_close(two_way_loss(logits + 3, targets), two_way_loss(logits, targets))  # only differences matter
    pair = two_way_loss(torch.tensor([[1.5, -0.5]]), torch.tensor([[1, 0]]), active_temperature=1)
    torch.testing.assert_close(pair, torch.nn.functional.softplus(torch.tensor(-2.0)))
    x = torch.tensor([[20.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(hill_loss(x, torch.tensor([[0]])), x)
    assert abs(slope.item()) < 1e-6  # a label that was probably missed is left alone
    far = torch.full((1, 500), 50.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(zlpr_loss(far, torch.zeros(1, 500)), far)
    assert gradient.sum().item() == pytest.approx(1)  # bounded for any number of classes


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_labels_change_nothing_and_gradients_are_finite(name: str) -> None:
    logits, targets = random_batch(3, unknown=True)
    targets[0] = -1
    targets[1] = 1
    targets[2] = 0
    other = torch.where(targets < 0, 7.0, logits)
    values = []
    for x in (logits.requires_grad_(), other.requires_grad_()):
        loss = LOSSES[name](x, targets)
        (gradient,) = torch.autograd.grad(loss, x)
        assert gradient.isfinite().all()
        assert (gradient[targets < 0] == 0).all()
        values.append(loss.item())
    assert values[0] == pytest.approx(values[1])
    nothing = torch.full((2, 3), -1)
    assert LOSSES[name](torch.randn(2, 3), nothing).item() == 0
    half = LOSSES[name](logits.detach().half() * 20, targets)
    assert half.dtype == torch.float32
    assert half.isfinite()
