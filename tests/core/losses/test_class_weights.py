from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sadcl_core.losses import asymmetric_loss, class_weights
from sadcl_core.losses.class_weights import BETA, KINDS, MAX_RATIO

ACTIVE = torch.tensor([500, 100, 10, 1, 0, 990, 1000])
INACTIVE = torch.tensor([500, 900, 990, 999, 1000, 10, 0])


def weights_of(kind: str, active: Tensor = ACTIVE, inactive: Tensor = INACTIVE) -> tuple[Tensor, Tensor]:
    weights = class_weights(kind, active, inactive)
    assert weights is not None
    return weights


def test_none_gives_no_weights() -> None:
    assert class_weights("none", ACTIVE, INACTIVE) is None


def test_neg_pos_by_hand() -> None:
    active, inactive = weights_of("neg-pos")
    torch.testing.assert_close(active, torch.tensor([1.0, 9.0, 99.0, MAX_RATIO, MAX_RATIO, 10 / 990, 1 / MAX_RATIO]))
    assert torch.equal(inactive, torch.ones(7))


def test_neg_pos_makes_both_parts_of_a_class_weigh_the_same() -> None:
    active, inactive = weights_of("neg-pos", ACTIVE[:3], INACTIVE[:3])
    torch.testing.assert_close(active * ACTIVE[:3], inactive * INACTIVE[:3])


def test_neg_pos_is_pos_weight_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(40, 5, generator=generator) < torch.tensor([0.5, 0.3, 0.2, 0.1, 0.05])).long()
    logits = torch.randn(40, 5, generator=generator)
    active, inactive = weights_of("neg-pos", targets.sum(dim=0), (1 - targets).sum(dim=0))
    ratio = (1 - targets).sum(dim=0) / targets.sum(dim=0).clamp(min=1)
    expected = F.binary_cross_entropy_with_logits(logits, targets.float(), pos_weight=ratio)
    loss = asymmetric_loss(logits, targets, gamma_neg=0, active_weights=active, inactive_weights=inactive)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_effective_number_is_the_sum_of_its_series() -> None:
    """E_n = 1 + beta + ... + beta^(n-1), the expected volume of n samples."""
    seen = [n for n in ACTIVE.tolist() if n]
    inverse = [1 / sum(BETA**i for i in range(n)) for n in seen]
    mean = sum(inverse) / len(inverse)
    expected = iter(value / mean for value in inverse)
    active, inactive = weights_of("effective-number")
    torch.testing.assert_close(active, torch.tensor([next(expected) if n else 1.0 for n in ACTIVE.tolist()]))
    assert torch.equal(active, inactive)
    assert active is not inactive


def test_effective_number_of_few_images_is_their_number_and_of_many_a_constant() -> None:
    active, _ = weights_of("effective-number", torch.tensor([1, 2, 100_000, 10**9]), torch.zeros(4))
    assert float(active[0] / active[1]) == pytest.approx(2, rel=1e-3)
    assert float(active[2] / active[3]) == pytest.approx(1, rel=1e-6)
    assert float(active[0] / active[3]) == pytest.approx(1 / (1 - BETA), rel=1e-3)


@pytest.mark.parametrize("count", [1, 3, 500])
def test_effective_number_has_mean_one_with_or_without_empty_classes(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    active = torch.randint(1, 10_000, (count,), generator=generator)
    full, _ = weights_of("effective-number", active, active)
    assert float(full.double().mean()) == pytest.approx(1, rel=1e-5)
    empty = torch.cat([active, torch.zeros(7, dtype=torch.int64)])
    with_empty, _ = weights_of("effective-number", empty, empty)
    assert torch.equal(with_empty[:count], full)  # classes without an image take no weight from the others
    assert (with_empty[count:] == 1).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_rarer_classes_weigh_more_and_all_weights_are_positive_numbers(kind: str) -> None:
    active = torch.tensor([0, 1, 5, 50, 5000, 10**6])
    for weights in weights_of(kind, active, 10**6 - active):
        assert weights.dtype == torch.float32
        assert weights.isfinite().all()
        assert (weights > 0).all()
        assert (weights[1:].diff() <= 0).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
@pytest.mark.parametrize("active", [torch.zeros(3), torch.zeros(0)])
def test_without_any_active_label_weights_are_finite(kind: str, active: Tensor) -> None:
    for weights in weights_of(kind, active, active):
        assert weights.shape == active.shape
        assert weights.isfinite().all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_order_of_classes_does_not_matter(kind: str) -> None:
    order = torch.randperm(len(ACTIVE), generator=torch.Generator().manual_seed(0))
    for weights, permuted in zip(weights_of(kind), weights_of(kind, ACTIVE[order], INACTIVE[order]), strict=True):
        torch.testing.assert_close(permuted, weights[order])


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="no class weights 'inverse', only none, neg-pos, effective-number"):
        class_weights("inverse", ACTIVE, INACTIVE)
    with pytest.raises(ValueError, match=r"must both be \(K,\)"):
        class_weights("neg-pos", ACTIVE, INACTIVE[:3])
    with pytest.raises(ValueError, match=r"must both be \(K,\)"):
        class_weights("neg-pos", torch.ones(2, 2), torch.ones(2, 2))
    for counts in ((ACTIVE - 5, INACTIVE), (ACTIVE, INACTIVE - 5)):
        with pytest.raises(ValueError, match="fewer than 0 images"):
            class_weights("effective-number", *counts)
