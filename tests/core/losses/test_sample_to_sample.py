from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from sadcl_core.losses import sample_to_sample_loss
from tests import reference
from tests.core.losses.statements import computed_in_float32, same_with_gradients, zero_with_a_gradient


def loss_of(
    embeddings: Tensor,
    targets: Tensor,
    temperature: float = 0.2,
    bank: Tensor | None = None,
    bank_mask: Tensor | None = None,
) -> Tensor:
    """From (B, K, P) and targets (B, K), with a bank (M, K, P): the active rows and the filled entries."""
    active = targets == 1
    if bank is None or bank_mask is None:
        return sample_to_sample_loss(embeddings[active], active.nonzero()[:, 1], temperature)
    return sample_to_sample_loss(
        embeddings[active], active.nonzero()[:, 1], temperature, bank=bank[bank_mask], bank_labels=bank_mask.nonzero()[:, 1]
    )


def random_batch(seed: int, *, classes: int, density: float = 0.3, batch: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(batch, classes, 5, generator=generator, dtype=torch.float64)
    targets = (torch.rand(batch, classes, generator=generator) < density).long()
    targets[torch.rand(batch, classes, generator=generator) < 0.1] = -1
    return embeddings, targets


def random_bank(seed: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed + 1000)
    return torch.randn(3, classes, 5, generator=generator, dtype=torch.float64), torch.rand(3, classes, generator=generator) < 0.6


@pytest.mark.parametrize(("classes", "density"), [(3, 0.5), (20, 0.3), (500, 0.01)])
@pytest.mark.parametrize("with_bank", [False, True])
def test_equals_the_formula(classes: int, density: float, with_bank: bool) -> None:
    embeddings, targets = random_batch(classes, classes=classes, density=density)
    bank, mask = random_bank(classes, classes) if with_bank and classes < 100 else (None, None)
    options: Any = {"targets": targets, "temperature": 0.2, "bank": bank, "bank_mask": mask}
    same_with_gradients(partial(loss_of, **options), partial(reference.sample_to_sample, **options), embeddings)


@pytest.mark.parametrize("with_bank", [False, True])
@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_equals_supervised_contrastive_learning_of_pytorch_metric_learning(with_bank: bool, temperature: float) -> None:
    """With a reference set, theirs contrasts with the set alone: handing it the batch as well makes it ours."""
    from pytorch_metric_learning.losses import SupConLoss

    generator = torch.Generator().manual_seed(4)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2])  # every anchor has a positive: theirs leaves others out of the mean
    embeddings = torch.randn(len(labels), 6, generator=generator, dtype=torch.float64)
    bank, bank_labels = torch.randn(5, 6, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 3])
    theirs = SupConLoss(temperature=temperature)
    if not with_bank:
        ours, expected = sample_to_sample_loss(embeddings, labels, temperature), theirs(embeddings, labels)
    else:
        ours = sample_to_sample_loss(embeddings, labels, temperature, bank=bank, bank_labels=bank_labels)
        everything, everything_labels = torch.cat([embeddings, bank]), torch.cat([labels, bank_labels])
        same = labels[:, None] == everything_labels[None, :]
        itself = torch.eye(len(labels), len(everything_labels), dtype=torch.bool)
        pairs = (*(same & ~itself).nonzero(as_tuple=True), *(~same).nonzero(as_tuple=True))
        expected = theirs(embeddings, labels, pairs, everything, everything_labels)
    assert ours.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_batch_in_half_precision_is_near_the_formula(dtype: torch.dtype) -> None:
    embeddings, targets = random_batch(11, classes=6)
    expected = reference.sample_to_sample(embeddings.to(dtype).double(), targets, temperature=0.2)
    assert loss_of(embeddings.to(dtype), targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_reaches_the_bank() -> None:
    embeddings, targets = random_batch(5, classes=4)
    bank, mask = random_bank(5, 4)
    same_with_gradients(
        lambda x: loss_of(embeddings, targets, bank=x, bank_mask=mask),
        lambda x: reference.sample_to_sample(embeddings, targets, temperature=0.2, bank=x, bank_mask=mask),
        bank,
    )


@pytest.mark.parametrize("count", [2, 5, 9])
def test_collinear_embeddings_give_the_logarithm_of_the_others(count: int) -> None:
    # every similarity is equal, so each of the count - 1 others has the same share
    loss = loss_of(torch.ones(count, 1, 4), torch.ones(count, 1), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(count - 1), abs=1e-6)


def test_batch_order_does_not_matter() -> None:
    embeddings, targets = random_batch(7, classes=6)
    bank, mask = random_bank(7, 6)
    order = torch.randperm(len(embeddings), generator=torch.Generator().manual_seed(0))
    loss = loss_of(embeddings, targets, bank=bank, bank_mask=mask)
    permuted = loss_of(embeddings[order], targets[order], bank=bank.flip(0), bank_mask=mask.flip(0))
    assert permuted.item() == pytest.approx(loss.item(), abs=1e-12)


def test_length_of_embeddings_does_not_matter() -> None:
    embeddings, targets = random_batch(8, classes=6)
    assert loss_of(embeddings * 7, targets).item() == pytest.approx(loss_of(embeddings, targets).item(), abs=1e-12)


def test_inactive_and_unknown_entries_and_empty_slots_change_nothing() -> None:
    embeddings, targets = random_batch(9, classes=6)
    bank, mask = random_bank(9, 6)
    loss = loss_of(embeddings, targets, bank=bank, bank_mask=mask)
    changed = torch.where((targets == 1)[..., None], embeddings, embeddings + 50)
    changed_bank = torch.where(mask[..., None], bank, torch.full_like(bank, float("nan")))
    assert loss_of(changed, targets, bank=changed_bank, bank_mask=mask).item() == loss.item()


def test_anchor_without_positive_counts_as_zero() -> None:
    targets = torch.tensor([[1, 0], [1, 0], [0, 1]])
    embeddings = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = loss_of(embeddings, targets)
    assert loss.item() == pytest.approx(reference.sample_to_sample(embeddings, targets, temperature=0.2).item(), abs=1e-12)
    assert loss.item() > 0


@pytest.mark.parametrize("targets", [torch.zeros(3, 4), torch.full((3, 4), -1), torch.eye(3, 4)[:1].expand(1, 4)])
def test_nothing_to_compare_is_a_zero_with_a_gradient(targets: Tensor) -> None:
    zero_with_a_gradient(partial(loss_of, targets=targets), len(targets), 4, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    embeddings, targets = random_batch(10, classes=6)
    computed_in_float32(partial(loss_of, targets=targets, temperature=0.07), embeddings, dtype=dtype)


def test_refuses_what_does_not_fit() -> None:
    embeddings, labels = torch.zeros(2, 4), torch.zeros(2)
    with pytest.raises(ValueError, match=r"\(N, P\)"):
        sample_to_sample_loss(embeddings, torch.zeros(3))
    with pytest.raises(ValueError, match=r"\(N, P\)"):
        sample_to_sample_loss(torch.zeros(2, 3, 4), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="temperature"):
        sample_to_sample_loss(embeddings, labels, temperature=0)
    for bank, bank_labels in [
        (torch.zeros(5, 9), torch.zeros(5)),
        (torch.zeros(5, 4), torch.zeros(4)),
        (torch.zeros(5, 4), None),
    ]:
        with pytest.raises(ValueError, match=r"\(M, P\)"):
            sample_to_sample_loss(embeddings, labels, bank=bank, bank_labels=bank_labels)
