from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sadcl_core import losses
from sadcl_core.config.methods import SHORT
from sadcl_core.config.schema import AsymmetricOptions, LossSection, ModelSection
from sadcl_core.errors import DivergedError
from sadcl_core.losses import asymmetric_loss, image_to_image_loss, prototype_to_sample_loss, sample_to_sample_loss
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.memory_bank import MemoryBank
from sadcl_core.training.terms import TERMS, LossInputs, loss_terms, refuse_not_finite, weighted_sum

CLASSIFICATION: dict[str, Callable[..., Tensor]] = {
    name: getattr(losses, f"{name}_loss")
    for name in ("asymmetric", "two_way", "hill", "hinge", "splc", "selective", "focal", "polynomial", "zlpr")
}
OPTIONS: dict[str, dict[str, object]] = {
    "asymmetric": {"gamma_neg": 0},
    "splc": {"correct": False},
    "selective": {"prior": torch.tensor([0.9, 0.1, 0.1])},
}
OTHERS = ("auxiliary", "penalty", "splice_consistency", "dictionary")  # which need branches, measures, spliced images
NAMES = [name for name in TERMS if name not in OTHERS]


@pytest.fixture
def inputs() -> LossInputs:
    torch.manual_seed(0)
    section = ModelSection(
        backbone="test_resnet",
        stride=16,
        head="sarl",
        heads={"sarl": {"width": 8, "feedforward": 8}},
        projection_width=4,
        freeze_stride=0,
    )
    classifier = Classifier(section, num_classes=3, img_size=32)
    torch.nn.init.normal_(classifier.prototypes)
    bank = MemoryBank(slots=2, num_classes=3, width=8)
    bank.start_from(torch.randn(3, 8))
    targets = torch.tensor([[1, 0, -1], [1, 1, 0], [0, 0, 1], [0, 1, 1]])
    prior, teacher_logits = torch.tensor([0.9, 0.1, 0.1]), torch.arange(12.0).view(4, 3)
    output = classifier(torch.randn(4, 3, 32, 32))
    return LossInputs(classifier, output, targets, bank, LossSection(), prior=prior, teacher_logits=teacher_logits)


def test_terms_are_the_losses_with_the_options_of_the_configuration(inputs: LossInputs) -> None:
    terms = loss_terms(inputs, NAMES)
    project = inputs.classifier.project
    embeddings = project(inputs.output.label_features)
    assert inputs.bank is not None
    active, filled = inputs.targets == 1, inputs.bank.filled
    expected = {
        "asymmetric": asymmetric_loss(inputs.output.logits, inputs.targets, gamma_neg=0, gamma_pos=0, clip=0),
        "sample_to_sample": sample_to_sample_loss(
            embeddings[active],
            active.nonzero()[:, 1],
            temperature=0.2,
            bank=project(inputs.bank.features[filled]),
            bank_labels=filled.nonzero()[:, 1],
        ),
        "prototype_to_sample": prototype_to_sample_loss(
            embeddings, inputs.targets, project(inputs.classifier.prototypes), temperature=0.07
        ),
        "image_to_image": image_to_image_loss(project(inputs.output.label_features.mean(dim=1)), inputs.targets, temperature=0.2),
        **{
            name: getattr(losses, f"{name}_loss")(inputs.output.logits, inputs.targets)
            for name in ("two_way", "hill", "hinge", "focal", "polynomial", "zlpr")
        },
        "splc": losses.splc_loss(inputs.output.logits, inputs.targets, correct=False),  # in the first epoch
        "selective": losses.selective_loss(inputs.output.logits, inputs.targets, prior=torch.tensor([0.9, 0.1, 0.1])),
        "distillation": (inputs.output.logits - torch.arange(12.0).view(4, 3)).square().mean(),
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx({n: t.item() for n, t in expected.items()})


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_every_classification_loss_takes_the_class_weights(inputs: LossInputs, name: str) -> None:
    weights = (torch.tensor([2.0, 1.0, 0.5]), torch.tensor([1.0, 3.0, 1.0]))
    weighted = loss_terms(replace(inputs, class_weights=weights), [name])[name]
    expected = CLASSIFICATION[name](
        inputs.output.logits, inputs.targets, active_weights=weights[0], inactive_weights=weights[1], **OPTIONS.get(name, {})
    )
    assert weighted.item() == pytest.approx(expected.item())
    assert weighted.item() != pytest.approx(loss_terms(inputs, [name])[name].item())


def test_the_auxiliary_term_weights_the_classification_loss_of_each_branch(
    inputs: LossInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs.classifier.head, "AUXILIARY", {"masks": 0.5, "graph": 2.0, "shown": 0.0})
    branches = {name: torch.randn(4, 3) for name in ("masks", "graph", "shown")}
    options = LossSection(asymmetric=AsymmetricOptions(gamma_neg=2))
    seen = replace(inputs, output=replace(inputs.output, auxiliary=branches), options=options)
    masks, graph = (asymmetric_loss(branches[name], inputs.targets, gamma_neg=2) for name in ("masks", "graph"))
    assert loss_terms(seen, ["auxiliary"])["auxiliary"].item() == pytest.approx((0.5 * masks + 2 * graph).item())


def test_without_a_bank(inputs: LossInputs) -> None:
    alone = LossInputs(inputs.classifier, inputs.output, inputs.targets, None, inputs.options)
    assert (
        loss_terms(alone, ["sample_to_sample"])["sample_to_sample"] < loss_terms(inputs, ["sample_to_sample"])["sample_to_sample"]
    )


def test_gradients_reach_every_part(inputs: LossInputs) -> None:
    weighted_sum(loss_terms(inputs, NAMES), dict.fromkeys(NAMES, 1.0)).backward()
    for part in ("backbone", "head", "projection"):
        assert all(p.grad is not None for p in getattr(inputs.classifier, part).parameters()), part
    assert inputs.classifier.prototypes.grad is not None


def test_the_sum_is_weighted() -> None:
    terms = {"asymmetric": torch.tensor(2.0), "sample_to_sample": torch.tensor(3.0)}
    assert weighted_sum(terms, {"asymmetric": 1.0, "sample_to_sample": 0.1}).item() == pytest.approx(2.3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_term_that_is_not_finite_is_named(value: float) -> None:
    with pytest.raises(DivergedError, match=r"prototype_to_sample is not a finite number \(step 3\)"):
        refuse_not_finite({"loss": value, "asymmetric": 1.0, "prototype_to_sample": value}, where="step 3")
    refuse_not_finite({"loss": 1.0, "asymmetric": 1.0}, where="step 3")


def test_every_term_has_options_and_a_short_name() -> None:
    assert set(TERMS) == {*LossSection.model_fields, "zlpr", *OTHERS} == set(SHORT)  # whose options are those of the main term
