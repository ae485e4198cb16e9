"""The rows of a class that is added, for every head that can have one more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sadcl_core.config.schema import ModelSection
from sadcl_core.errors import UsageError
from sadcl_core.inference.load import Model
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.card import ModelCard
from sadcl_core.training.class_rows import ClassRows, joined, refuse_joined

TRANSFORMER = {"width": 8, "feedforward": 8, "attention_heads": 2}


def model_with(head: str, options: dict[str, Any], branch: str = "none") -> Model:
    torch.manual_seed(0)
    section = ModelSection(
        backbone="test_resnet", stride=16, pretrained=False, head=head, heads={head: options}, global_branch=branch
    )
    card = ModelCard(classes=("cat", "dog", "cow"), img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, model=section)
    classifier = Classifier(section, num_classes=3, img_size=64)
    return Model(classifier.eval(), card, Path("pets.safetensors"), device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("head", "options", "branch"),
    [
        ("pooled", {}, "none"),
        ("csra", {}, "none"),
        ("sarl", TRANSFORMER, "none"),
        ("sarl", TRANSFORMER, "mean"),
        ("ml_decoder", TRANSFORMER, "none"),
    ],
)
def test_rows_tell_the_class_from_others(head: str, options: dict[str, Any], branch: str) -> None:
    model = model_with(head, options, branch)
    refuse_joined(model)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 100, (64, 64, 3), dtype=np.uint8) + np.uint8(150 * (number < 8)) for number in range(24)]
    shown = (np.arange(24) < 8).astype(np.int64)
    before = {name: tensor.clone() for name, tensor in model.classifier.state_dict().items()}
    rows = ClassRows(model, images, shown, steps=None, seed=0, batch_size=8, workers=0, progress=None)
    row = rows.fit(np.arange(24) % 2 == 0)
    scores = rows.scores(row, np.arange(24) % 2 == 1)  # those that took no part
    assert scores[:4].min() > scores[4:].max()
    state = joined(model.classifier, row)
    assert all(torch.equal(state[name][: len(tensor)] if tensor.ndim else state[name], tensor) for name, tensor in before.items())
    grown = Classifier(model.card.model, num_classes=4, img_size=64)
    grown.assign(state)
    batch = model.forward.preprocessing.normalise(torch.stack([model.read(image) for image in images]))
    with torch.no_grad():
        logits, old = grown.eval()(batch).logits, model.classifier(batch).logits
    torch.testing.assert_close(logits[:, :3], old)
    np.testing.assert_allclose(logits[1::2, 3].sigmoid().numpy(), scores, atol=1e-5)


@pytest.mark.parametrize(
    ("head", "options"),
    [("sarl", {**TRANSFORMER, "self_attention": True}), ("add_gcn", {"width": 8}), ("ml_decoder", {**TRANSFORMER, "groups": 3})],
)
def test_a_head_that_joins_the_classes_is_refused(head: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--init-from"):
        refuse_joined(model_with(head, options))
