from __future__ import annotations

from typing import Any

import torch

from sadcl_core.model.classifier import head_options
from sadcl_core.model.graphs import conditional_probabilities
from sadcl_core.model.heads.ssgrl import SSGRLHead
from tests.core.model.heads.inputs import facts_of, fixed_logits, linear, see


def make_head(**options: Any) -> SSGRLHead:
    torch.manual_seed(0)
    values = head_options("ssgrl", {"width": 6, "inner": 4, **options})
    head = SSGRLHead(channels=(6,), num_classes=3, options=values)
    head.prepare(facts_of([0, 1, 2]))
    return head.eval()


def test_head_by_hand() -> None:
    """Four locations are one, words look, classes speak, and what was seen is seen again beside what was heard."""
    head, feature_map, facts = make_head(), torch.randn(2, 6, 4, 4), facts_of([0, 1, 2])
    output = head(see(feature_map), need_attention=True)
    pooled = feature_map.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean(dim=(3, 5))
    seen, shares = head.attention(pooled.flatten(2).transpose(1, 2), facts.vectors)
    heard = head.network(seen, conditional_probabilities(facts))
    features = linear(head.output, torch.cat([heard, seen], dim=-1)).tanh()
    torch.testing.assert_close(output.label_features, features)
    torch.testing.assert_close(output.logits, (features * head.weight).sum(dim=-1) + head.bias)
    assert output.attention is not None
    cells = output.attention.unflatten(2, (2, 2)).unflatten(4, (2, 2)).sum(dim=(3, 5))
    torch.testing.assert_close(cells.flatten(2), shares)


def test_classes_lend_each_other_weights() -> None:
    head, feature_map = make_head(classifier_rounds=2), torch.randn(2, 6, 4, 4)
    output = head(see(feature_map))
    assert head.classifier_network is not None
    assert head.classifier_output is not None
    heard = head.classifier_network(head.weight[None], head.graph)[0]
    weight = linear(head.classifier_output, torch.cat([heard, head.weight], dim=1))
    torch.testing.assert_close(output.logits, (output.label_features * weight).sum(dim=-1) + head.bias)


def test_golden_output() -> None:
    torch.testing.assert_close(fixed_logits(make_head()), torch.tensor([[-0.34212, 0.29767, 0.39538]]), atol=1e-4, rtol=1e-4)
