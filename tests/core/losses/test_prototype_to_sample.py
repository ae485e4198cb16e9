from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sadcl_core.losses import prototype_to_sample_loss
from tests import reference
from tests.core.losses.statements import computed_in_float32, same_with_gradients, zero_with_a_gradient


def random_batch(seed: int, *, classes: int, density: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(6, classes, 5, generator=generator, dtype=torch.float64)
    targets = (torch.rand(6, classes, generator=generator) < density).long()
    targets[torch.rand(6, classes, generator=generator) < 0.1] = -1
    return embeddings, targets, torch.randn(classes, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("classes", "density"), [(3, 0.5), (20, 0.3), (500, 0.01)])
def test_equals_the_formula(classes: int, density: float) -> None:
    embeddings, targets, prototypes = random_batch(classes, classes=classes, density=density)
    same_with_gradients(
        lambda x, p: prototype_to_sample_loss(x, targets, p, temperature=0.07),
        lambda x, p: reference.prototype_to_sample(x, targets, p, temperature=0.07),
        *(embeddings, prototypes),
    )


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
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert gradient[0].sum() < 0  # descent moves the active one towards the prototype
    assert gradient[1].sum() > 0  # and the inactive one away from it


def test_batch_without_a_positive_is_a_zero_with_a_gradient() -> None:
    zero_with_a_gradient(lambda x: prototype_to_sample_loss(x, torch.zeros(3, 4), torch.randn(4, 5)), 3, 4, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    embeddings, targets, prototypes = random_batch(3, classes=6)
    computed_in_float32(lambda x, p: prototype_to_sample_loss(x, targets, p), embeddings, prototypes, dtype=dtype, rel=1e-4)


def test_refuses_what_does_not_fit() -> None:
    embeddings, targets = torch.zeros(2, 3, 4), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"\(B, K, P\)"):
        prototype_to_sample_loss(embeddings, torch.zeros(2, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"\(K, P\)"):
        prototype_to_sample_loss(embeddings, targets, torch.zeros(4, 4))
    with pytest.raises(ValueError, match="temperature"):
        prototype_to_sample_loss(embeddings, targets, torch.zeros(3, 4), temperature=-1)
