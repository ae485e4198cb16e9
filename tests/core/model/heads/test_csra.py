from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sadcl_core.errors import UsageError
from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.csra import TEMPERATURES, CSRAHead
from tests.core.model.heads.by_hand import csra
from tests.core.model.heads.inputs import see


def make_head(classes: int = 3, **options: Any) -> CSRAHead:
    torch.manual_seed(0)
    return CSRAHead(channels=(5,), num_classes=classes, options=head_options("csra", options)).eval()


def test_golden_output() -> None:
    head = CSRAHead(channels=(2,), num_classes=2, options=head_options("csra", {"attention_weight": 0.5}))
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[[3.0, 4.0]], [[0.0, -2.0]]]))  # of unit length: (0.6, 0.8) and (0, -1)
    output = head(see(torch.tensor([[[[1.0, 5.0]], [[1.0, 0.0]]]])), need_attention=True)  # scores 1.4, 3.0 and -1, 0
    share = 1 / (1 + math.exp(-1.6)), 1 / (1 + math.exp(-1.0))  # of the second location
    expected = [2.2 + 0.5 * (1.4 + 1.6 * share[0]), -0.5 + 0.5 * (share[1] - 1)]
    torch.testing.assert_close(output.logits, torch.tensor([expected]))
    assert output.attention is not None
    torch.testing.assert_close(output.attention[0, :, 0, 1], torch.tensor(share))


@pytest.mark.parametrize("heads", sorted(TEMPERATURES))
def test_is_the_equation_of_the_paper(heads: int) -> None:
    head, inputs = make_head(attention_heads=heads, attention_weight=0.3), see(torch.randn(2, 5, 2, 3))
    torch.testing.assert_close(head(inputs).logits, csra(head, inputs)["logits"])


def test_without_attention_it_is_mean_pooling_with_unit_vectors() -> None:
    head, feature_map = make_head(attention_weight=0.0), torch.randn(2, 5, 3, 3)
    units = torch.nn.functional.normalize(head.weight[:, 0], dim=-1)
    torch.testing.assert_close(head(see(feature_map)).logits, feature_map.mean(dim=(2, 3)) @ units.T)


def test_with_one_head_the_logit_is_read_from_the_label_feature() -> None:
    head, feature_map = make_head(attention_weight=0.7), torch.randn(2, 5, 3, 3)
    output = head(see(feature_map))
    units = torch.nn.functional.normalize(head.weight[:, 0], dim=-1)
    torch.testing.assert_close((output.label_features * units).sum(dim=-1), output.logits)


def test_the_length_of_the_weights_means_nothing() -> None:
    head, feature_map = make_head(attention_heads=2), torch.randn(2, 5, 3, 3)
    before = head(see(feature_map)).logits
    with torch.no_grad():
        head.weight.mul_(7)
    torch.testing.assert_close(head(see(feature_map)).logits, before)


@pytest.mark.parametrize("options", [{"attention_heads": 3}, {"attention_weight": -1.0}])
def test_refuses_impossible_options(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=rf"model\.heads\.csra\.{next(iter(options))} is not valid"):
        head_options("csra", options)
