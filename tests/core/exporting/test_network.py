from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sadcl_core.config.schema import ModelSection
from sadcl_core.exporting.network import PictureModel, WholeModel, trace
from sadcl_core.inference.load import Model
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.card import ModelCard

HEADS: dict[str, dict[str, Any]] = {
    "sarl": {"width": 8, "feedforward": 8, "self_attention": True},
    "mulcon": {"width": 8, "token_width": 8},
    "pooled": {"pooling": "max"},
    "csra": {"attention_heads": 4},
    "ml_decoder": {"width": 8, "feedforward": 8, "groups": 2},
}


def make_model(head: str, *, global_branch: str = "none", second_look: int = 0) -> Model:
    torch.manual_seed(0)
    section = ModelSection(
        backbone="test_resnet",
        pretrained=False,
        stride=16,
        head=head,
        heads={head: HEADS[head]},
        global_branch=global_branch,
        second_look=second_look,
    )
    card = ModelCard(
        classes=("a", "b", "c"),
        img_size=48,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
        temperatures=(0.5, 1.0, 2.0),
        biases=(0.0, -0.5, 1.0),
        model=section,
    )
    classifier = Classifier(section, num_classes=3, img_size=48).eval()
    return Model(classifier, card, Path("m.safetensors"), device=torch.device("cpu"))


def scores_of(model: Model, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.array([prediction.scores for prediction in model.iter_predict(pixels)])


@pytest.mark.parametrize(("head", "second_look"), [*((head, 0) for head in HEADS), ("pooled", 2)])
def test_every_head_is_traced_for_batches_of_any_size(head: str, second_look: int) -> None:
    model = make_model(head, global_branch="none" if head == "pooled" else "root-mean", second_look=second_look)
    program = trace(WholeModel(model, prepared=True)).module()
    for count in (1, 3):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)
        images = model.preprocessing.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        probabilities, logits, features, attention, image_features, embeddings = (
            output.detach().numpy() for output in program(images)
        )
        np.testing.assert_allclose(probabilities, scores_of(model, pixels), atol=1e-5)
        assert logits.shape == (count, 3)
        expected = model.embed(pixels)
        np.testing.assert_allclose(features, expected.label_features, atol=1e-4)
        np.testing.assert_allclose(image_features, expected.image_features, atol=1e-4)
        np.testing.assert_allclose(embeddings, expected.embeddings, atol=1e-4)
        np.testing.assert_allclose(attention, model.attention(pixels), atol=1e-5)


def test_a_picture_in_the_numbers_of_its_pixels() -> None:
    model = make_model("sarl")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3), dtype=np.uint8)
    network = trace(PictureModel(model, prepared=True)).module()
    outputs = network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(outputs[0].detach().numpy(), scores_of(model, pixels), atol=1e-5)
