from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from sadcl_core.config.schema import LossSection, ModelSection
from sadcl_core.model.classifier import Classifier, head_options
from sadcl_core.model.heads.generated import GeneratedHead
from sadcl_core.training.terms import LossInputs, loss_terms
from tests.core.model.heads.inputs import facts_of, see


def make_head(**options: Any) -> GeneratedHead:
    torch.manual_seed(0)
    head = GeneratedHead(channels=(6,), num_classes=3, options=head_options("generated", {"width": 8, **options}))
    head.prepare(facts_of([0, 1, 2]))
    return head.eval()


def test_coefficients_of_a_dictionary_are_those_of_ridge_regression() -> None:
    """Where a gradient of |f - p Q|^2 + lambda |p|^2 vanishes."""
    head, feature_map = make_head(generator="dictionary", ridge=0.5, pooling="mean"), torch.randn(2, 6, 3, 4)
    atoms = F.leaky_relu(head.words @ head.first, 0.2) @ head.second
    output = head(see(feature_map))
    scores, f = output.logits.detach().requires_grad_(), feature_map.mean(dim=(2, 3))
    error = (f - scores @ atoms).square().sum() + 0.5 * scores.square().sum()
    (gradient,) = torch.autograd.grad(error, scores)
    assert gradient.abs().max() < 1e-3
    torch.testing.assert_close(output.measures["residual"], (f - output.logits @ atoms).norm(dim=1))
    torch.testing.assert_close(output.measures["coefficients"], output.logits.norm(dim=1))


def test_the_loss_of_a_dictionary_is_the_published_one() -> None:
    """(C + beta (|f - p Q| + lambda |p|)) / cos, together with the classification loss C."""
    options = {"width": 8, "generator": "dictionary", "ridge": 0.5, "reconstruction": 0.3}
    section = ModelSection(backbone="test_resnet", pretrained=False, head="generated", heads={"generated": options})
    classifier = Classifier(section, num_classes=3, img_size=32)
    classifier.head.prepare(facts_of([0, 1, 2]))
    targets = torch.tensor([[1, 0, -1], [0, 1, 1]])
    output = classifier(torch.randn(2, 3, 32, 32))
    terms = loss_terms(LossInputs(classifier, output, targets, None, LossSection()), ["asymmetric", "dictionary"])
    measures = output.measures
    assert 0.1 < measures["words"][0] < 1
    reconstruction = 0.3 * (measures["residual"].mean() + 0.5 * measures["coefficients"].mean())
    expected = (terms["asymmetric"] + reconstruction) / measures["words"][0]
    torch.testing.assert_close(terms["asymmetric"] + terms["dictionary"], expected)
