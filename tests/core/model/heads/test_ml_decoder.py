from __future__ import annotations

from typing import Any

import pytest
import torch

from sadcl_core.errors import UsageError
from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.ml_decoder import MLDecoderHead
from tests.core.model.heads.inputs import see

SMALL = {"width": 8, "attention_heads": 2, "feedforward": 16}


def make_head(classes: int = 3, **options: Any) -> MLDecoderHead:
    torch.manual_seed(0)
    return MLDecoderHead(channels=(6,), num_classes=classes, options=head_options("ml_decoder", {**SMALL, **options})).eval()


@pytest.mark.parametrize(("classes", "groups"), [(6, 3), (7, 3), (5, 4), (3, 3), (3, 100)])
def test_each_query_answers_for_its_classes(classes: int, groups: int) -> None:
    head = make_head(classes, groups=groups)
    assert len(head.queries) == min(classes, groups)
    single = make_head(len(head.queries), groups=groups)  # each query with a class of its own
    single.load_state_dict({**single.state_dict(), **{k: v for k, v in head.state_dict().items() if k in SHARED}})
    feature_map = torch.randn(2, 6, 2, 3)
    output, features = head(see(feature_map), need_attention=True), single(see(feature_map), need_attention=True)
    size = -(-classes // len(head.queries))
    for k in range(classes):
        query = features.label_features[:, k // size]
        torch.testing.assert_close(output.logits[:, k], query @ head.weight[k] + head.bias[k])
        assert output.attention is not None
        assert features.attention is not None
        assert torch.equal(output.attention[:, k], features.attention[:, k // size])


SHARED = {name for name in make_head().state_dict() if name not in ("weight", "bias")}


def test_classes_that_share_a_query_have_features_of_their_own_that_add_up_to_the_logit() -> None:
    head = make_head(6, groups=2)
    output = head(see(torch.randn(2, 6, 2, 3)))
    torch.testing.assert_close(output.label_features.sum(dim=-1) + head.bias, output.logits)
    assert not torch.allclose(output.label_features[:, 0], output.label_features[:, 1])
    output.label_features.sum().backward()
    assert head.weight.grad is not None


def test_the_queries_are_not_trained_and_travel_with_the_weights() -> None:
    head = make_head(7, groups=3)
    assert not {"queries", "group"} & {name for name, _ in head.named_parameters()}
    other = make_head(7, groups=3)
    other.load_state_dict(head.state_dict())
    feature_map = torch.randn(2, 6, 2, 3)
    assert torch.equal(other(see(feature_map)).logits, head(see(feature_map)).logits)


def test_the_attention_costs_the_same_for_any_number_of_classes() -> None:
    few, many = (make_head(classes, groups=4) for classes in (8, 800))
    grown = {name for name, tensor in many.state_dict().items() if tensor.shape != few.state_dict()[name].shape}
    assert grown == {"weight", "bias", "group"}
    assert many(see(torch.randn(1, 6, 2, 2))).logits.shape == (1, 800)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 9}, "multiple of attention_heads"),
        ({"groups": 0}, "groups is not valid"),
        ({"group": 8}, "Did you mean 'groups'"),
    ],
)
def test_refuses_impossible_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        head_options("ml_decoder", options)
