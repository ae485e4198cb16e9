from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from sadcl_core.config.schema import ModelSection
from sadcl_core.exporting.network import PictureModel, WholeModel, trace
from sadcl_core.exporting.onnx_writer import write_onnx
from sadcl_core.inference.load import Model
from sadcl_core.inference.onnx_model import OUTPUTS
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.card import ModelCard

HEADS: dict[str, dict[str, Any]] = {
    "sarl": {"width": 8, "feedforward": 8, "self_attention": True},
    "pooled": {"pooling": "max"},
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


def assert_same(model: Model, run: Callable[[Tensor], Sequence[npt.NDArray[np.float32]]]) -> None:
    """What is exported of a model gives what it gives, for batches of any size."""
    for count in (1, 3):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)
        images = model.preprocessing.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        probabilities, logits, features, attention, image_features, embeddings = run(images)
        np.testing.assert_allclose(probabilities, scores_of(model, pixels), atol=1e-5)
        assert logits.shape == (count, 3)
        expected = model.embed(pixels)
        np.testing.assert_allclose(features, expected.label_features, atol=1e-4)
        np.testing.assert_allclose(image_features, expected.image_features, atol=1e-4)
        np.testing.assert_allclose(embeddings, expected.embeddings, atol=1e-4)
        np.testing.assert_allclose(attention, model.attention(pixels), atol=1e-5)


def test_a_head_beside_a_linear_layer_is_traced_with_its_backbone() -> None:
    model = make_model("sarl", global_branch="root-mean")
    program = trace(WholeModel(model, prepared=True)).module()
    assert_same(model, lambda images: [output.detach().numpy() for output in program(images)])


def test_a_second_look_as_onnx_is_the_same(tmp_path: Path) -> None:
    model, axes = make_model("pooled", second_look=2), {"images": ("batch", "channels", "height", "width")}
    program = trace(WholeModel(model, prepared=True))
    write_onnx(program, tmp_path / "m.onnx", inputs=axes, outputs=OUTPUTS, metadata={})
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    assert_same(model, lambda images: session.run(None, {"images": images.numpy()}))


def test_a_picture_in_the_numbers_of_its_pixels() -> None:
    model = make_model("sarl")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3), dtype=np.uint8)
    network = trace(PictureModel(model, prepared=True)).module()
    outputs = network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(outputs[0].detach().numpy(), scores_of(model, pixels), atol=1e-5)
