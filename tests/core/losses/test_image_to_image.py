from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sadcl_core.losses import image_to_image_loss, sample_to_sample_loss
from tests import reference


def random_batch(seed: int, *, classes: int = 6, density: float = 0.25) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    targets = (torch.rand(8, classes, generator=generator) < density).long()
    targets[torch.rand(8, classes, generator=generator) < 0.1] = -1
    return embeddings, targets


@pytest.mark.parametrize(("classes", "density"), [(3, 0.5), (6, 0.25), (500, 0.03)])
def test_equals_the_formula(classes: int, density: float) -> None:
    embeddings, targets = random_batch(classes, classes=classes, density=density)
    ours, naive = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    loss = image_to_image_loss(ours, targets, temperature=0.2)
    expected = reference.image_to_image(naive, targets, temperature=0.2)
    loss.backward()
    expected.backward()
    assert loss.item() > 0
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    assert ours.grad is not None
    assert naive.grad is not None
    torch.testing.assert_close(ours.grad, naive.grad, atol=1e-9, rtol=1e-6)


def test_with_one_label_an_image_it_is_the_sample_to_sample_loss() -> None:
    embeddings, _ = random_batch(1)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 3, 2])
    targets = torch.nn.functional.one_hot(labels, 4)
    assert image_to_image_loss(embeddings, targets).item() == pytest.approx(sample_to_sample_loss(embeddings, labels).item())


def test_equal_images_give_the_logarithm_of_the_others() -> None:
    loss = image_to_image_loss(torch.ones(5, 4), torch.ones(5, 2), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(4), abs=1e-6)


def test_batch_order_and_length_do_not_matter() -> None:
    embeddings, targets = random_batch(2)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    loss = image_to_image_loss(embeddings, targets).item()
    assert image_to_image_loss(7 * embeddings[order], targets[order]).item() == pytest.approx(loss, abs=1e-12)


def test_unknown_is_as_inactive() -> None:
    embeddings, targets = random_batch(3)
    assert (targets < 0).any()
    assert image_to_image_loss(embeddings, targets).item() == image_to_image_loss(embeddings, targets.clamp(min=0)).item()


@pytest.mark.parametrize("targets", [torch.zeros(3, 4), torch.eye(3, 4), torch.ones(1, 4), torch.ones(0, 4)])
def test_nothing_alike_is_a_zero_with_a_gradient(targets: Tensor) -> None:
    embeddings = torch.randn(len(targets), 5, requires_grad=True)
    loss = image_to_image_loss(embeddings, targets)
    loss.backward()
    assert loss.item() == 0
    assert embeddings.grad is not None
    assert (embeddings.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    embeddings, targets = random_batch(4)
    half = embeddings.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = image_to_image_loss(half, targets, temperature=0.07)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(image_to_image_loss(half.double(), targets, temperature=0.07).item(), rel=1e-5)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(B, P\)"):
        image_to_image_loss(torch.zeros(2, 3), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="temperature"):
        image_to_image_loss(torch.zeros(2, 3), torch.zeros(2, 4), temperature=-1)
