from __future__ import annotations

import torch

from sadcl_core.model.classifier import head_options
from sadcl_core.model.heads.debiased import DebiasedHead
from sadcl_core.model.heads.interface import HeadInputs
from tests.core.model.heads.by_hand import debiased
from tests.core.model.heads.inputs import see


def test_without_prototypes_its_first_classifier_counts() -> None:
    torch.manual_seed(0)
    head = DebiasedHead(channels=(6,), num_classes=3, options=head_options("debiased", {"parts": 2})).eval()
    feature_map = torch.randn(2, 6, 3, 3)
    output = head(see(feature_map))
    for name, expected in debiased(head, see(feature_map)).items():
        torch.testing.assert_close(getattr(output, name), expected)
    assert torch.equal(head(HeadInputs((feature_map,), prototypes=torch.zeros(3, 6))).logits, output.logits)
