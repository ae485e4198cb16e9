from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.loss.asymmetric_loss import AsymmetricLossMultiLabel

from sadcl_core.losses import asymmetric_loss
from tests import reference
from tests.core.losses.statements import same_with_gradients, zero_with_a_gradient

CLASSES = 9
GAMMAS = [(0.0, 0.0, 0.0), (4.0, 0.0, 0.0), (1.0, 2.0, 0.05), (2.5, 0.3, 0.05)]  # gamma_neg, gamma_pos, clip


def random_batch(seed: int, *, unknown: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, CLASSES, generator=generator, dtype=torch.float64) * 3
    targets = torch.randint(-1 if unknown else 0, 2, (6, CLASSES), generator=generator)
    return logits, targets


def soft_batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets of all kinds: 0, 1, between and unknown."""
    logits, targets = random_batch(seed, unknown=True)
    generator = torch.Generator().manual_seed(seed + 100)
    share = torch.rand(targets.shape, generator=generator, dtype=torch.float64)
    soft = (torch.rand(targets.shape, generator=generator) < 0.5) & (targets >= 0)
    return logits, torch.where(soft, share, targets.double())


def random_weights(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    active, inactive = 3 * torch.rand(2, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return active, inactive


def hard_form(logits: torch.Tensor, targets: torch.Tensor, gamma_neg: float, gamma_pos: float, clip: float) -> torch.Tensor:
    """The loss of targets that are 1, 0 or -1 and nothing between: one logarithm an entry, in the order of the paper."""
    active = targets == 1
    p = torch.sigmoid(logits)
    q = (1 - p + clip).clamp(max=1) if clip else 1 - p
    right = torch.where(active, p, q)
    loss = -torch.log(right.clamp(min=1e-5))
    if gamma_neg or gamma_pos:
        loss = loss * (1 - right).detach().pow(torch.where(active, gamma_pos, gamma_neg))
    return torch.where(targets >= 0, loss, 0.0).sum() / (targets >= 0).sum()


@pytest.mark.parametrize("gamma_neg", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("gamma_pos", [0.0, 2.0])
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_equals_the_formula(gamma_neg: float, gamma_pos: float, clip: float) -> None:
    logits, targets = random_batch(0, unknown=True)
    options: Any = {"targets": targets, "gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip}
    same_with_gradients(partial(asymmetric_loss, **options), partial(reference.asymmetric, **options), logits)


@pytest.mark.parametrize(("gamma_neg", "gamma_pos", "clip"), GAMMAS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("known", [None, 77])
def test_soft_targets_and_weights_equal_the_formula(
    gamma_neg: float, gamma_pos: float, clip: float, weighted: bool, known: int | None
) -> None:
    logits, targets = soft_batch(5)
    active, inactive = random_weights(1) if weighted else (None, None)
    options: Any = {"targets": targets, "gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip}
    options |= {"active_weights": active, "inactive_weights": inactive, "known": known}
    losses = partial(asymmetric_loss, **options), partial(reference.asymmetric, **options)
    same_with_gradients(*losses, logits, rel=1e-6)  # a gamma is a float32


@pytest.mark.parametrize(("gamma_neg", "gamma_pos", "clip"), GAMMAS)
@pytest.mark.parametrize("target_type", [torch.int8, torch.int64, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("logit_type", [torch.float32, torch.float64])
def test_hard_targets_of_any_type_give_the_same_bits(
    gamma_neg: float, gamma_pos: float, clip: float, target_type: torch.dtype, logit_type: torch.dtype
) -> None:
    logits, targets = random_batch(6, unknown=True)
    ours, before = (logits.to(logit_type).requires_grad_() for _ in range(2))
    loss = asymmetric_loss(ours, targets.to(target_type), gamma_neg, gamma_pos, clip)
    expected = hard_form(before, targets, gamma_neg, gamma_pos, clip)
    assert torch.equal(loss, expected)
    assert torch.equal(torch.autograd.grad(loss, ours)[0], torch.autograd.grad(expected, before)[0])


def test_a_soft_target_is_both_hard_ones_by_its_share() -> None:
    logits, _ = random_batch(7)
    active, inactive = (asymmetric_loss(logits, torch.full_like(logits, value), 4, 1, 0.05) for value in (1, 0))
    for share in (0.0, 0.25, 0.7, 1.0):
        mixed = asymmetric_loss(logits, torch.full_like(logits, share), 4, 1, 0.05)
        assert mixed.item() == pytest.approx(share * active.item() + (1 - share) * inactive.item(), rel=1e-12)


def test_soft_targets_without_focusing_are_binary_cross_entropy_with_pos_weight() -> None:
    logits, targets = soft_batch(8)
    active, _ = random_weights(2)
    sums = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=active, reduction="none")
    known = targets >= 0
    loss = asymmetric_loss(logits, targets, gamma_neg=0, active_weights=active)
    assert loss.item() == pytest.approx((sums * known).sum().item() / int(known.sum()), rel=1e-9)


def test_equal_weights_of_both_parts_are_the_weight_of_binary_cross_entropy() -> None:
    logits, targets = random_batch(9)
    weights, _ = random_weights(3)
    expected = F.binary_cross_entropy_with_logits(logits, targets.double(), weight=weights)
    loss = asymmetric_loss(logits, targets, gamma_neg=0, active_weights=weights, inactive_weights=weights)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)


def test_weights_of_one_change_nothing() -> None:
    logits, targets = soft_batch(10)
    ones = torch.ones(CLASSES)
    loss = asymmetric_loss(logits, targets, active_weights=ones, inactive_weights=ones)
    assert torch.equal(loss, asymmetric_loss(logits, targets))


def test_order_of_images_and_classes_does_not_matter() -> None:
    logits, targets = soft_batch(11)
    active, inactive = random_weights(4)
    generator = torch.Generator().manual_seed(0)
    images, classes = torch.randperm(6, generator=generator), torch.randperm(CLASSES, generator=generator)
    loss = asymmetric_loss(logits, targets, active_weights=active, inactive_weights=inactive)
    permuted = asymmetric_loss(
        logits[images][:, classes],
        targets[images][:, classes],
        active_weights=active[classes],
        inactive_weights=inactive[classes],
    )
    assert permuted.item() == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_parts_of_a_batch_sum_to_the_batch(as_tensor: bool) -> None:
    logits, targets = soft_batch(12)
    whole, parts = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    count = (targets >= 0).sum()
    assert len({int((part >= 0).sum()) for part in targets.split(2)}) > 1  # means of the parts would not do
    loss = asymmetric_loss(whole, targets)
    pairs = zip(parts.split(2), targets.split(2), strict=True)
    pieces = [asymmetric_loss(part, labels, known=count if as_tensor else int(count)) for part, labels in pairs]
    assert sum(piece.item() for piece in pieces) == pytest.approx(loss.item(), rel=1e-12)
    gradients = torch.autograd.grad(pieces, parts), torch.autograd.grad(loss, whole)
    torch.testing.assert_close(*gradients, atol=0, rtol=1e-12)


def test_the_own_number_of_known_entries_is_the_default() -> None:
    logits, targets = random_batch(13, unknown=True)
    count = (targets >= 0).sum()
    for known in (count, int(count)):
        assert torch.equal(asymmetric_loss(logits.float(), targets, known=known), asymmetric_loss(logits.float(), targets))


@pytest.mark.parametrize("known", [None, 0, 5, torch.tensor(0), torch.tensor(0.5)])
def test_nothing_known_is_zero_whatever_it_is_divided_by(known: int | torch.Tensor | None) -> None:
    zero_with_a_gradient(partial(asymmetric_loss, targets=torch.full((2, 3), -1.0), known=known), 2, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_soft_targets_and_weights_in_any_precision(dtype: torch.dtype) -> None:
    logits, targets = soft_batch(14)
    half, active, inactive = logits.to(dtype), *random_weights(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = asymmetric_loss(half, targets, active_weights=active, inactive_weights=inactive)
    expected = asymmetric_loss(half.double(), targets, active_weights=active, inactive_weights=inactive)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_focusing_weights_carry_no_gradient() -> None:
    logits = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(asymmetric_loss(logits, torch.tensor([[0.4]]), gamma_neg=2, gamma_pos=1), logits)
    p = logits.detach().sigmoid()
    share = float(torch.tensor(0.4))
    torch.testing.assert_close(gradient, -share * (1 - p) * (1 - p) + (1 - share) * p**2 * p)


def test_without_focusing_is_binary_cross_entropy() -> None:
    logits, targets = random_batch(1)
    expected = F.binary_cross_entropy_with_logits(logits, targets.double())
    assert asymmetric_loss(logits, targets, gamma_neg=0, gamma_pos=0, clip=0).item() == pytest.approx(expected.item(), abs=1e-9)


def test_equals_timm() -> None:
    logits, targets = random_batch(2)
    expected = AsymmetricLossMultiLabel(gamma_neg=4, gamma_pos=1, clip=0.05, eps=1e-5, reduction="mean")(logits, targets)
    assert asymmetric_loss(logits, targets, gamma_neg=4, gamma_pos=1, clip=0.05).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_unknown_entries_change_nothing(soft: bool, weighted: bool) -> None:
    logits, targets = soft_batch(3) if soft else random_batch(3, unknown=True)
    active, inactive = random_weights(6) if weighted else (None, None)
    changed = torch.where(targets < 0, logits + 100, logits).requires_grad_()
    loss = asymmetric_loss(changed, targets, active_weights=active, inactive_weights=inactive)
    assert loss.item() == asymmetric_loss(logits, targets, active_weights=active, inactive_weights=inactive).item()
    assert (torch.autograd.grad(loss, changed)[0][targets < 0] == 0).all()


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = asymmetric_loss(logits, torch.tensor([[0, 1]]), gamma_neg=4, gamma_pos=1, clip=0.0)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize("options", [{"gamma_neg": -1.0}, {"gamma_pos": -1.0}, {"clip": 1.0}])
def test_refuses_impossible_options(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="gamma_neg >= 0"):
        asymmetric_loss(torch.zeros(1, 1), torch.zeros(1, 1), **options)  # type: ignore[arg-type]


def test_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="one shape"):
        asymmetric_loss(torch.zeros(2, 3), torch.zeros(3, 2))


@pytest.mark.parametrize("name", ["active_weights", "inactive_weights"])
@pytest.mark.parametrize("shape", [(2,), (2, 3), ()])
def test_refuses_weights_that_are_not_one_a_class(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(K,\)"):
        asymmetric_loss(torch.zeros(2, 3), torch.zeros(2, 3), **{name: torch.ones(shape)})  # type: ignore[arg-type]
