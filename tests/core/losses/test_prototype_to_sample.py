from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sadcl_core.losses import prototype_to_sample_loss
from tests import reference


def random_batch(seed: int, *, classes: int, density: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(6, classes, 5, generator=generator, dtype=torch.float64)
    targets = (torch.rand(6, classes, generator=generator) < density).long()
    targets[torch.rand(6, classes, generator=generator) < 0.1] = -1
    return embeddings, targets, torch.randn(classes, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("classes", "density"), [(3, 0.5), (20, 0.3), (500, 0.01)])
def test_equals_the_formula(classes: int, density: float) -> None:
    embeddings, targets, prototypes = random_batch(classes, classes=classes, density=density)
    ours = [embeddings.clone().requires_grad_(), prototypes.clone().requires_grad_()]
    naive = [embeddings.clone().requires_grad_(), prototypes.clone().requires_grad_()]
    loss = prototype_to_sample_loss(ours[0], targets, prototypes=ours[1], temperature=0.07)
    expected = reference.prototype_to_sample(naive[0], targets, naive[1], temperature=0.07)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    for a, b in zip(ours, naive, strict=True):
        assert a.grad is not None
        assert b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(("active", "inactive"), [(1, 3), (2, 2), (4, 0)])
def test_collinear_embeddings_give_the_share_of_the_active(active: int, inactive: int) -> None:
    targets = torch.tensor([[1]] * active + [[0]] * inactive)
    loss = prototype_to_sample_loss(torch.ones(active + inactive, 1, 4), targets, prototypes=torch.ones(1, 4))
    assert loss.item() == pytest.approx(math.log((active + inactive) / active) / active, abs=1e-6)


def test_batch_and_class_order_do_not_matter() -> None:
    embeddings, targets, prototypes = random_batch(1, classes=7)
    images, classes = torch.randperm(6), torch.randperm(7)
    loss = prototype_to_sample_loss(embeddings, targets, prototypes)
    permuted = prototype_to_sample_loss(embeddings[images][:, classes], targets[images][:, classes], prototypes[classes])
    assert permuted.item() == pytest.approx(loss.item(), abs=1e-12)


def test_unknown_entries_change_nothing() -> None:
    embeddings, targets, prototypes = random_batch(2, classes=7)
    changed = torch.where((targets < 0)[..., None], embeddings + 50, embeddings)
    assert prototype_to_sample_loss(changed, targets, prototypes).item() == (
        prototype_to_sample_loss(embeddings, targets, prototypes).item()
    )


def test_inactive_labels_are_pushed_away() -> None:
    embeddings = torch.eye(2)[:, None, :].clone().requires_grad_()  # image 0 active, image 1 not
    loss = prototype_to_sample_loss(embeddings, torch.tensor([[1], [0]]), prototypes=torch.ones(1, 2))
    loss.backward()
    assert embeddings.grad is not None
    prototype = torch.ones(2)
    assert embeddings.grad[0, 0] @ prototype < 0  # descent moves the active one towards the prototype
    assert embeddings.grad[1, 0] @ prototype > 0  # and the inactive one away from it


def test_batch_without_a_positive_is_a_zero_with_a_gradient() -> None:
    embeddings = torch.randn(3, 4, 5, requires_grad=True)
    loss = prototype_to_sample_loss(embeddings, torch.zeros(3, 4), torch.randn(4, 5))
    loss.backward()
    assert loss.item() == 0
    assert embeddings.grad is not None
    assert (embeddings.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    embeddings, targets, prototypes = random_batch(3, classes=6)
    half, centres = embeddings.to(dtype), prototypes.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = prototype_to_sample_loss(half, targets, centres)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(prototype_to_sample_loss(half.double(), targets, centres.double()).item(), rel=1e-4)


def test_refuses_what_does_not_fit() -> None:
    embeddings, targets = torch.zeros(2, 3, 4), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"\(B, K, P\)"):
        prototype_to_sample_loss(embeddings, torch.zeros(2, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"\(K, P\)"):
        prototype_to_sample_loss(embeddings, targets, torch.zeros(4, 4))
    with pytest.raises(ValueError, match="temperature"):
        prototype_to_sample_loss(embeddings, targets, torch.zeros(3, 4), temperature=-1)
