from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.loss.asymmetric_loss import AsymmetricLossMultiLabel

from sadcl_core.losses import asymmetric_loss
from tests import reference


def random_batch(seed: int, *, unknown: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 9, generator=generator, dtype=torch.float64) * 3
    targets = torch.randint(-1 if unknown else 0, 2, (6, 9), generator=generator)
    return logits, targets


@pytest.mark.parametrize("gamma_neg", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("gamma_pos", [0.0, 2.0])
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_equals_the_formula(gamma_neg: float, gamma_pos: float, clip: float) -> None:
    logits, targets = random_batch(0, unknown=True)
    options = {"gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip}
    ours, naive = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, expected = asymmetric_loss(ours, targets, **options), reference.asymmetric(naive, targets, **options)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    assert ours.grad is not None
    assert naive.grad is not None
    torch.testing.assert_close(ours.grad, naive.grad, atol=1e-9, rtol=1e-6)


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


def test_unknown_entries_change_nothing() -> None:
    logits, targets = random_batch(3, unknown=True)
    changed = torch.where(targets < 0, logits + 100, logits).requires_grad_()
    loss = asymmetric_loss(changed, targets)
    assert loss.item() == asymmetric_loss(logits, targets).item()
    loss.backward()
    assert changed.grad is not None
    assert (changed.grad[targets < 0] == 0).all()


def test_all_unknown_is_zero() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = asymmetric_loss(logits, torch.full((2, 3), -1))
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits, targets = random_batch(4)
    half = logits.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = asymmetric_loss(half, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(asymmetric_loss(half.double(), targets).item(), rel=1e-5)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = asymmetric_loss(logits, torch.tensor([[0, 1]]), gamma_neg=4, gamma_pos=1, clip=0.0)
    loss.backward()
    assert logits.grad is not None
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("options", [{"gamma_neg": -1.0}, {"gamma_pos": -1.0}, {"clip": 1.0}])
def test_refuses_impossible_options(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="gamma_neg >= 0"):
        asymmetric_loss(torch.zeros(1, 1), torch.zeros(1, 1), **options)


def test_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="one shape"):
        asymmetric_loss(torch.zeros(2, 3), torch.zeros(3, 2))
