from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from sadcl_core.losses import image_to_image_loss, sample_to_sample_loss
from tests import reference
from tests.core.losses.statements import computed_in_float32, same_with_gradients, zero_with_a_gradient


def random_batch(seed: int, *, classes: int = 6, density: float = 0.25) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    targets = (torch.rand(8, classes, generator=generator) < density).long()
    targets[torch.rand(8, classes, generator=generator) < 0.1] = -1
    return embeddings, targets


@pytest.mark.parametrize(("classes", "density"), [(3, 0.5), (6, 0.25), (500, 0.03)])
def test_equals_the_formula(classes: int, density: float) -> None:
    embeddings, targets = random_batch(classes, classes=classes, density=density)
    options: Any = {"targets": targets, "temperature": 0.2}
    same_with_gradients(partial(image_to_image_loss, **options), partial(reference.image_to_image, **options), embeddings)
    assert image_to_image_loss(embeddings, targets).item() > 0


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
    zero_with_a_gradient(partial(image_to_image_loss, targets=targets), len(targets), 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    embeddings, targets = random_batch(4)
    computed_in_float32(partial(image_to_image_loss, targets=targets, temperature=0.07), embeddings, dtype=dtype)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(B, P\)"):
        image_to_image_loss(torch.zeros(2, 3), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="temperature"):
        image_to_image_loss(torch.zeros(2, 3), torch.zeros(2, 4), temperature=-1)
