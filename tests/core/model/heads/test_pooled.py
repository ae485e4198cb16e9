from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sadcl_core.errors import UsageError
from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.pooled import PooledHead
from sadcl_core.model.layers import Dropout
from sadcl_core.model.logistic_regression import fit_logistic_regression
from tests.core.model.heads.inputs import see


def test_pools_then_classifies_and_maps_activations() -> None:
    torch.manual_seed(0)
    head = PooledHead(channels=(4,), num_classes=3, options=head_options("pooled", {}))
    feature_map = torch.randn(2, 4, 3, 3)
    output = head(see(feature_map), need_attention=True)
    torch.testing.assert_close(output.logits, head.classifier(feature_map.mean(dim=(2, 3))))
    torch.testing.assert_close(output.label_features[:, 1], feature_map.mean(dim=(2, 3)))
    activation = torch.einsum("kc,bchw->bkhw", head.classifier.weight, feature_map)
    assert output.attention is not None
    torch.testing.assert_close(output.attention.sum(dim=(2, 3)), torch.ones(2, 3))
    assert (output.attention.flatten(2).argmax(-1) == activation.flatten(2).argmax(-1)).all()


def test_golden_output() -> None:
    head = PooledHead(channels=(2,), num_classes=2, options=head_options("pooled", {}))
    with torch.no_grad():
        head.classifier.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.5]]))
        head.classifier.bias.copy_(torch.tensor([0.5, 0.0]))
        logits = head(see(torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]]]))).logits  # pooled: 2 and 2
    torch.testing.assert_close(logits, torch.tensor([[6.5, -1.0]]))


POOLED = torch.tensor([[[[1.0, 3.0]], [[0.0, 4.0]]], [[[2.0, 2.0]], [[5.0, -7.0]]]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[2.0, 2.0], [2.0, -1.0]]),
        ({"pooling": "root-mean"}, [[2**0.5, 2**0.5], [2**0.5, -1.0]]),
        ({"pooling": "max"}, [[3.0, 4.0], [2.0, 5.0]]),
        ({"pooling": "gem"}, [[14 ** (1 / 3), 32 ** (1 / 3)], [2.0, 62.5 ** (1 / 3)]]),  # negative ones count as 0
        ({"pooling": "gem", "gem_power": 1}, [[2.0, 2.0], [2.0, 2.5]]),
        ({"pooling": "gem", "gem_power": 100}, [[3 * 0.5**0.01, 4 * 0.5**0.01], [2.0, 5 * 0.5**0.01]]),
    ],
)
def test_golden_pooling(options: dict[str, Any], expected: list[list[float]]) -> None:
    head = PooledHead(channels=(2,), num_classes=3, options=head_options("pooled", options))
    output = head(see(POOLED))
    torch.testing.assert_close(output.label_features[:, 0], torch.tensor(expected), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.logits, head.classifier(output.label_features[:, 0]))


def test_the_generalised_mean_learns_from_every_location_and_stays_finite() -> None:
    feature_map = torch.tensor([[[[1e5, 1e4, 0.0, -1.0]]]], requires_grad=True)
    head = PooledHead(channels=(1,), num_classes=1, options=head_options("pooled", {"pooling": "gem", "gem_power": 20}))
    pooled = head(see(feature_map)).label_features[0, 0, 0]
    pooled.backward()
    assert feature_map.grad is not None
    assert feature_map.grad.isfinite().all()
    torch.testing.assert_close(pooled, torch.tensor(1e5 * 0.25 ** (1 / 20)))
    torch.testing.assert_close(feature_map.grad[0, 0, 0, 0] * 1e5, pooled.detach(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("pooling", ["max", "gem"])
def test_attention_is_the_share_of_each_location_in_the_positive_part_of_the_logit(pooling: str) -> None:
    torch.manual_seed(0)
    head = PooledHead(channels=(4,), num_classes=3, options=head_options("pooled", {"pooling": pooling}))
    feature_map = torch.rand(2, 4, 1, 5)
    output = head(see(feature_map), need_attention=True)
    parts = feature_map[:, :, 0] ** 3 / (feature_map[:, :, 0] ** 3).sum(dim=-1, keepdim=True)
    if pooling == "max":
        parts = (feature_map[:, :, 0] == feature_map.amax(dim=(2, 3))[..., None]).float()
    parts = parts * output.label_features[:, 0, :, None]  # of the pooled feature
    torch.testing.assert_close(parts.sum(dim=-1), output.label_features[:, 0])
    positive: Tensor = torch.einsum("kc,bcl->bkl", head.classifier.weight, parts).relu() + 1e-6
    assert output.attention is not None
    torch.testing.assert_close(output.attention[:, :, 0], positive / positive.sum(dim=-1, keepdim=True), atol=1e-3, rtol=1e-3)


def test_dropout_is_off_unless_asked_for_and_draws_nothing() -> None:
    assert head_options("pooled", {}).dropout == 0
    head = PooledHead(channels=(4,), num_classes=3, options=head_options("pooled", {})).train()
    feature_map = torch.randn(2, 4, 3, 3)
    state = torch.get_rng_state()
    assert torch.equal(head(see(feature_map)).logits, head.classifier(feature_map.mean(dim=(2, 3))))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(head.state_dict()) == ["classifier.weight", "classifier.bias"]


def test_dropout_is_of_the_pooled_feature_before_the_classifier_and_in_training_alone() -> None:
    torch.manual_seed(0)
    head = PooledHead(channels=(64,), num_classes=3, options=head_options("pooled", {"dropout": 0.25})).train()
    feature_map = torch.randn(2, 64, 3, 3)
    pooled = feature_map.mean(dim=(2, 3))
    torch.manual_seed(1)
    output = head(see(feature_map))
    torch.manual_seed(1)
    dropped = Dropout(0.25)(pooled)
    assert 0.1 < float((dropped == 0).float().mean()) < 0.4
    torch.testing.assert_close(output.logits, head.classifier(dropped))
    torch.testing.assert_close(output.label_features[:, 0], pooled)  # what is contrasted is whole
    assert torch.equal(head.eval()(see(feature_map)).logits, head.classifier(pooled))


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_refuses_impossible_dropout(dropout: float) -> None:
    with pytest.raises(UsageError, match=r"model\.heads\.pooled\.dropout is not valid"):
        head_options("pooled", {"dropout": dropout})


def test_refuses_other_options() -> None:
    with pytest.raises(UsageError, match="The head pooled has no option 'width'"):
        head_options("pooled", {"width": 3})


def test_a_fit_gives_its_logits_standardised_or_not_and_the_maps_of_the_class() -> None:
    torch.manual_seed(0)
    maps = torch.rand(40, 4, 2, 3)
    targets = (maps.mean(dim=(2, 3))[:, :3] > 0.5).to(torch.int8)
    plain, standardised = (
        PooledHead(channels=(4,), num_classes=3, options=PooledHead.Options(standardise=on)) for on in (False, True)
    )
    fit = fit_logistic_regression(plain.pool(maps)[:, None], targets, strengths=(1.0,))
    for head in (plain, standardised):
        head.assign(fit)
    outputs = [head(see(maps), need_attention=True) for head in (plain, standardised)]
    for output in outputs:
        torch.testing.assert_close(output.logits, fit.logits(maps.mean(dim=(2, 3))), atol=1e-4, rtol=1e-4)
    assert outputs[0].attention is not None
    torch.testing.assert_close(outputs[0].attention, outputs[1].attention)


def test_the_root_of_the_mean_has_a_finite_slope_at_zero() -> None:
    maps = torch.zeros(1, 2, 2, 2, requires_grad=True)
    head = PooledHead(channels=(2,), num_classes=1, options=PooledHead.Options(pooling="root-mean"))
    head(see(maps)).logits.sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
