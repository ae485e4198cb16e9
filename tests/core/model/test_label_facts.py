"""What a head may know of the labels, and that it reaches it: facts of the training split in, a buffer of the model file out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from sadcl_core.config.schema import ModelSection, Section
from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.rows import Record
from sadcl_core.errors import UsageError
from sadcl_core.losses import asymmetric_loss
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.heads.interface import Head, HeadInputs, HeadOutput
from sadcl_core.model.label_facts import LabelFacts, label_facts
from sadcl_core.registry import HEADS
from sadcl_core.runs.checkpoint import ModelCard, load_model, save_model
from sadcl_core.training.transfer import transfer


class SmoothingHead(Head):
    """Pooled logits of each class, to which the logits of the classes that imply it are added."""

    class Options(Section):
        """One option, as any head may have."""

        share: float = Field(0.5, ge=0, description="of what other classes say")

    NEEDS = frozenset({"together"})
    LEVELS = (2, 1)
    TAKES_KNOWN = True
    AUXILIARY: ClassVar[Mapping[str, float]] = {"single": 1.0}
    PER_CLASS = CLASSIFIER = ("classifier.weight", "classifier.bias")
    FROM_DATA = ("implied",)

    implied: Tensor

    def __init__(self, *, channels: tuple[int, ...], num_classes: int, options: Options) -> None:
        """Build with random weights; the graph is empty until `prepare`."""
        super().__init__()
        self.width = sum(channels)
        self.share = options.share
        self.classifier = nn.Linear(self.width, num_classes)
        self.register_buffer("implied", torch.zeros(num_classes, num_classes))

    def prepare(self, facts: LabelFacts) -> None:
        """Store P(j | i), zero on the diagonal."""
        self.implied.copy_(facts.together / facts.known.clamp(min=1)).fill_diagonal_(0)

    def forward(self, inputs: HeadInputs, *, need_attention: bool = False) -> HeadOutput:
        """Two maps -> logits, those before smoothing, and the pooled feature for each label."""
        pooled = torch.cat([features.mean(dim=(2, 3)) for features in inputs.maps], dim=1)
        single = self.classifier(pooled)
        evidence = single if inputs.known is None else torch.where(inputs.known < 0, single, 10.0 * (2 * inputs.known - 1))
        logits = single + self.share * evidence @ self.implied
        features = pooled[:, None].expand(-1, single.shape[1], -1)
        return HeadOutput(logits, features, None, {"single": single}, {"pooled": pooled})


NAMES = ("cat", "dog", "bowl")
LABELS = [((0, 2), ()), ((0, 2), ()), ((0,), ()), ((1,), (2,)), ((1, 2), ()), ((), (0,))]  # active and unknown ones
SECTION = ModelSection(backbone="test_resnet", stride=16, pretrained=False, head="smoothing", projection_width=4, freeze_stride=0)
SIZE: dict[str, Any] = {"num_classes": 3, "img_size": 32}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, "smoothing", f"{__name__}:SmoothingHead")


@pytest.fixture
def manifest() -> Manifest:
    records = [Record(f"{i}.jpg", "train", *labels) for i, labels in enumerate(LABELS)]
    held_out = [Record("v.jpg", "val", (0, 1, 2))]
    return Manifest.from_records(Description("pets", Path(), NAMES), [*records, *held_out])


def card(section: ModelSection = SECTION, classes: tuple[str, ...] = NAMES) -> ModelCard:
    return ModelCard(classes=classes, img_size=32, mean=(0.5,) * 3, std=(0.5,) * 3, model=section)


def make(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(SECTION, **SIZE)


def test_facts_by_hand(manifest: Manifest) -> None:
    facts = label_facts(manifest.split("train"))  # what is held out is not counted
    assert facts.names == NAMES
    assert facts.active.tolist() == [3, 2, 3]
    assert facts.together.tolist() == [[3, 0, 2], [0, 2, 1], [2, 1, 3]]
    assert facts.known.tolist() == [[3, 3, 3], [2, 2, 1], [3, 3, 3]]
    assert facts.vectors is None


def test_preparing_twice_is_preparing_once(manifest: Manifest) -> None:
    classifier = make()
    assert not classifier.head.implied.any()
    for _ in range(2):
        classifier.prepare_head(manifest.split("train"))
        expected = np.array([[0, 0, 2 / 3], [0, 0, 1], [2 / 3, 1 / 3, 0]])
        np.testing.assert_allclose(classifier.head.implied.numpy(), expected, rtol=1e-6)


def test_a_head_that_needs_nothing_counts_nothing() -> None:
    pooled = Classifier(SECTION.model_copy(update={"head": "pooled"}), **SIZE)
    pooled.prepare_head(None)  # type: ignore[arg-type]


def test_permuting_the_classes_permutes_the_logits(manifest: Manifest) -> None:
    order = [2, 0, 1]
    classifier, permuted, images = make().eval(), make().eval(), torch.randn(2, 3, 32, 32)
    classifier.prepare_head(manifest.split("train"))
    permuted.prepare_head(manifest.with_classes(tuple(NAMES[k] for k in order)).split("train"))
    for name in ("weight", "bias"):
        getattr(permuted.head.classifier, name).data = getattr(classifier.head.classifier, name).data[order]
    torch.testing.assert_close(permuted(images).logits, classifier(images).logits[:, order])


def test_labels_that_are_given_and_outputs_with_names(manifest: Manifest) -> None:
    classifier, images = make().eval(), torch.randn(2, 3, 32, 32)
    classifier.prepare_head(manifest.split("train"))
    output, nothing = classifier(images), classifier(images, known=torch.full((2, 3), -1))
    assert torch.equal(output.logits, nothing.logits)
    told = classifier(images, known=torch.tensor([[-1, 1, -1], [-1, 0, -1]]))
    assert told.logits[0, 2] > output.logits[0, 2]
    assert told.logits[1, 2] < output.logits[1, 2]
    assert output.auxiliary["single"].shape == (2, 3)
    assert output.measures["pooled"].shape == (2, classifier.head.width)
    pooled = Classifier(SECTION.model_copy(update={"head": "pooled"}), **SIZE)
    with pytest.raises(UsageError, match="PooledHead cannot use labels that are given"):
        pooled(images, known=torch.zeros(2, 3))


def test_trained_saved_and_read_without_data(manifest: Manifest, tmp_path: Path) -> None:
    classifier, images = make(), torch.randn(6, 3, 32, 32)
    classifier.prepare_head(manifest.split("train"))
    targets = torch.from_numpy(manifest.split("train").all_targets())
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        output = classifier.train()(images)
        loss = asymmetric_loss(output.logits, targets, gamma_neg=0) + asymmetric_loss(output.auxiliary["single"], targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    save_model(tmp_path / "m.safetensors", classifier.state_dict(), card())
    loaded = load_model(tmp_path / "m.safetensors").classifier
    assert torch.equal(loaded(images).logits, classifier.eval()(images).logits)
    assert torch.equal(loaded.head.implied, classifier.head.implied)


def test_what_comes_from_data_is_never_carried_over(manifest: Manifest, tmp_path: Path) -> None:
    source, classifier = make(1), make(2)
    source.head.implied.fill_(7.0)
    save_model(tmp_path / "m.safetensors", source.state_dict(), card())
    section = SECTION.model_copy(update={"init_from": str(tmp_path / "m.safetensors")})
    result = transfer(classifier, section, classes=NAMES, img_size=32)
    assert result.random == ()
    assert torch.equal(classifier.head.classifier.weight, source.head.classifier.weight)
    assert not classifier.head.implied.any()
