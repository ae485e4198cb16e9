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

from sadcl_core.losses import (
    asymmetric_loss,
    focal_loss,
    hill_loss,
    hinge_loss,
    polynomial_loss,
    selective_loss,
    splc_loss,
    two_way_loss,
    zlpr_loss,
)
from tests import reference
from tests.core.losses.test_asymmetric import random_batch, soft_batch

LOSSES: dict[str, Callable[..., Tensor]] = {
    "focal": focal_loss,
    "hill": hill_loss,
    "hinge": hinge_loss,
    "polynomial": polynomial_loss,
    "splc": splc_loss,
    "splc, first epoch": partial(splc_loss, correct=False),
    "two_way": two_way_loss,
    "zlpr": zlpr_loss,
}


def class_weights(logits: Tensor) -> tuple[Tensor, Tensor]:
    count = logits.shape[1]
    return torch.linspace(0.5, 3, count), torch.linspace(2, 0.25, count)


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


def hinge(x: float, active: bool) -> float:
    return max(0.0, 2 - x if active else 2 + x)


ENTRIES: dict[str, Callable[[float, bool], float]] = {
    "hill": hill,
    "hinge": hinge,
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
    active, inactive = class_weights(logits)
    costs = [
        float(t) * a * cost(float(x), True) + (1 - float(t)) * i * cost(float(x), False)
        for row, labels in zip(logits, targets, strict=True)
        for x, t, a, i in zip(row, labels, active.tolist(), inactive.tolist(), strict=True)
        if t >= 0
    ]
    loss = LOSSES[name](logits, targets, active_weights=active, inactive_weights=inactive)
    assert loss.item() == pytest.approx(sum(costs) / len(costs))


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


@pytest.mark.parametrize("name", [*ENTRIES, "zlpr"])
def test_a_class_that_weighs_twice_counts_as_if_it_were_there_twice(name: str) -> None:
    logits, targets = random_batch(4, unknown=True)
    twice = torch.ones(logits.shape[1])
    twice[0] = 2
    weighted = LOSSES[name](logits, targets, active_weights=twice, inactive_weights=twice)
    x, t = (torch.cat([values[:, :1], values], dim=1) for values in (logits, targets))
    repeated = LOSSES[name](x, t)
    known = (t >= 0).sum() / (targets >= 0).sum() if name in ENTRIES else 1
    assert weighted.item() == pytest.approx((repeated * known).item())


@pytest.mark.parametrize("make", [partial(random_batch, unknown=True), soft_batch])
@pytest.mark.parametrize("left_out", [0, 1, 50])
def test_selective_loss_equals_a_naive_loop(make: Callable[[int], tuple[Tensor, Tensor]], left_out: int) -> None:
    logits, targets = make(5)
    active, inactive = class_weights(logits)
    prior = torch.linspace(0.3, 0.6, logits.shape[1])
    options = {"clip": 0.05, "left_out": left_out, "prior": prior, "max_prior": 0.5}
    weights = {"active_weights": active, "inactive_weights": inactive}
    loss = selective_loss(logits, targets, gamma_active=0.5, gamma_inactive=1, gamma_unknown=4, **options, **weights)  # type: ignore[arg-type]
    expected = reference.selective(logits, targets, gammas=(0.5, 1, 4), **options, **weights)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(expected)


def test_selective_loss_is_asymmetric_where_all_is_known_or_left_out() -> None:
    logits, targets = random_batch(6)
    asymmetric = partial(asymmetric_loss, gamma_neg=2, gamma_pos=1, clip=0.05)
    everything = selective_loss(logits, targets, gamma_inactive=2, gamma_active=1)
    torch.testing.assert_close(everything, asymmetric(logits, targets))
    logits, targets = random_batch(6, unknown=True)
    alone = selective_loss(logits, targets, gamma_inactive=2, gamma_active=1, left_out=logits.shape[1])
    share = (targets >= 0).float().mean()
    torch.testing.assert_close(alone, asymmetric(logits, targets) * share, check_dtype=False)


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
