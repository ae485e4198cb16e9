"""What holds of every head with its backbone, and of a second look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sadcl_core.config.schema import ModelSection
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.checkpoint import ModelCard, load_model, save_model
from tests.core.model.heads.inputs import KINDS, NAMES, SMALL, facts_of

SECOND_LOOKS = [("pooled", {"pooling": "max"}, 2), ("csra", {}, 2)]  # MCAR, and with a head that has attention
every_head = pytest.mark.parametrize(
    ("name", "options", "second_look"), [*((*kind, 0) for kind in KINDS), *SECOND_LOOKS], ids=lambda value: str(value)
)
second_look = pytest.mark.parametrize(("name", "options", "second_look"), SECOND_LOOKS, ids=lambda value: str(value))


def make(name: str, options: dict[str, Any], second_look: int = 0) -> tuple[Classifier, ModelCard]:
    """A network with facts of three labels and prototypes, and the card of its file."""
    torch.manual_seed(0)
    section = ModelSection(
        backbone="test_resnet",
        stride=16,
        pretrained=False,
        head=name,
        heads={name: {**SMALL[name], **options}},
        projection_width=4,
        freeze_stride=0,
        second_look=second_look,
    )
    classifier = Classifier(section, num_classes=3, img_size=48)
    classifier.head.prepare(facts_of([0, 1, 2]))
    torch.nn.init.normal_(classifier.prototypes)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    return classifier.eval(), ModelCard(classes=NAMES[:3], img_size=48, mean=mean, std=std, model=section, trained={})


@every_head
def test_from_its_file_without_facts_it_is_the_same_to_the_bit(
    name: str, options: dict[str, Any], second_look: int, tmp_path: Path
) -> None:
    classifier, card = make(name, options, second_look)
    save_model(tmp_path / "model.safetensors", classifier.state_dict(), card)
    torch.manual_seed(1)
    again = load_model(tmp_path / "model.safetensors").classifier
    images, known = torch.randn(2, 3, 48, 48), torch.tensor([[1, -1, 0], [-1, -1, 1]]) if name == "c_tran" else None
    one, other = (network(images, need_attention=True, known=known) for network in (classifier, again))
    assert torch.equal(other.logits, one.logits)
    assert torch.equal(other.label_features, one.label_features)
    assert one.attention is not None
    assert other.attention is not None
    assert torch.equal(other.attention, one.attention)


@second_look
def test_a_second_look_at_a_batch_is_that_at_each_image(name: str, options: dict[str, Any], second_look: int) -> None:
    classifier, _ = make(name, options, second_look)
    images = torch.randn(3, 3, 48, 48)
    single = torch.cat([classifier(image[None]).logits for image in images])
    torch.testing.assert_close(classifier(images).logits, single, atol=1e-5, rtol=1e-5)


@second_look
def test_permuting_the_classes_permutes_what_a_second_look_sees(name: str, options: dict[str, Any], second_look: int) -> None:
    classifier, _ = make(name, options, second_look)
    images, order = torch.randn(2, 3, 48, 48), torch.tensor([2, 0, 1])
    before = classifier(images)
    state = classifier.state_dict()
    classifier.load_state_dict({key: tensor[order] if key in classifier.per_class else tensor for key, tensor in state.items()})
    after = classifier(images)
    torch.testing.assert_close(after.logits, before.logits[:, order])
    torch.testing.assert_close(after.auxiliary["second_look"], before.auxiliary["second_look"][:, order])


@second_look
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_second_look_in_half_precision_stays_near_float32(
    name: str, options: dict[str, Any], second_look: int, dtype: torch.dtype
) -> None:
    classifier, _ = make(name, options, second_look)
    images = torch.randn(2, 3, 48, 48)
    expected = classifier(images).auxiliary["second_look"]
    with torch.autocast("cpu", dtype=dtype):
        actual = classifier(images).auxiliary["second_look"].float()
    torch.testing.assert_close(actual, expected, atol=0.01, rtol=0)  # other regions are farther away


def test_golden_output_of_a_second_look() -> None:
    """With weights that no random generator has drawn, logits are what they were when this was written."""
    classifier, _ = make("pooled", {"pooling": "max"}, 2)
    with torch.no_grad():
        for parameter in classifier.parameters():
            values = torch.linspace(-3, 2, parameter.numel()).sin().view(parameter.shape)
            parameter.copy_(values / values[0].numel() ** 0.5 if parameter.ndim > 1 else values.abs())
    images = torch.linspace(-200, 300, 48 * 48).sin().view(1, 1, 48, 48).expand(1, 3, -1, -1)
    output = classifier(images)
    golden = torch.tensor([[-5.378458, 0.600965, 5.317053], [-5.435561, 0.600965, 5.317053]])  # image and regions, regions alone
    torch.testing.assert_close(torch.cat([output.logits, output.auxiliary["second_look"]]) / 1e5, golden, atol=1e-4, rtol=1e-4)
