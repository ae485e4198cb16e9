from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sadcl_core.data.image_stream import open_images
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.load import Model, load_trained


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_trained(trained / "runs" / "coco", device="cpu")


@pytest.fixture(scope="module")
def images(trained: Path) -> list[Path]:
    return sorted((trained / "my-coco" / "val2017").iterdir())


def test_batches_are_the_same_as_single_images(model: Model, images: list[Path]) -> None:
    together, alone = model.predict(images, batch_size=5), [model.predict(image) for image in images]
    assert [p.image for p in together] == images
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def test_threshold_and_topk(model: Model, images: list[Path]) -> None:
    for prediction in model.predict(images, threshold=0.3):
        assert {name for name, _ in prediction.labels} == {model.classes[k] for k, s in enumerate(prediction.scores) if s > 0.3}
        assert [s for _, s in prediction.labels] == sorted((s for _, s in prediction.labels), reverse=True)
    assert all(len(p.labels) == 3 for p in model.predict(images, topk=3))
    assert all(len(p.labels) == 10 for p in model.predict(images, topk=99))
    assert all(not p.labels for p in model.predict(images, topk=3, threshold=1))
    with pytest.raises(UsageError, match="at least one"):
        model.predict(images, topk=0)
    with pytest.raises(UsageError, match="at least one"):
        model.iter_predict(images, topk=0)  # at the call, not at the first image


def test_every_class_has_its_threshold(model: Model, images: list[Path]) -> None:
    for threshold in ([0.0, *[1.0] * 9], {name: float(name != "zero") for name in model.classes}, ["1", "zero=0"]):
        assert all([name for name, _ in p.labels] == ["zero"] for p in model.predict(images[:2], threshold=threshold))
    own = replace(model, card=model.card.model_copy(update={"thresholds": (0.0, *[1.0] * 9)}))
    assert own.thresholds.tolist() == [0.0, *[1.0] * 9]
    assert [name for name, _ in own.predict(images[0]).labels] == ["zero"]
    assert len(own.predict(images[0], topk=3).labels) == 3
    assert model.thresholds.tolist() == [0.5] * 10


def test_a_score_at_the_threshold_does_not_count(model: Model, images: list[Path]) -> None:
    scores = model.predict(images[0]).scores
    assert len(model.predict(images[0], threshold=scores).labels) == 0
    assert len(model.predict(images[0], threshold=np.nextafter(scores, np.float32(0))).labels) == 10


def test_a_model_that_gives_nan_is_an_error(model: Model, images: list[Path]) -> None:
    broken = load_trained(model.path, device="cpu")
    with torch.no_grad():
        broken.classifier.head.bias.fill_(float("nan"))
    with pytest.raises(DataError, match="gives NaN"):
        broken.predict(images[:1])


def test_scores_of_a_calibrated_model(model: Model, images: list[Path]) -> None:
    card = model.card.model_copy(update={"temperatures": (2.0,) * 10, "biases": (-1.0,) * 10})
    for plain, calibrated in zip(model.predict(images), replace(model, card=card).predict(images), strict=True):
        logits = np.log(plain.scores) - np.log1p(-plain.scores)
        np.testing.assert_allclose(calibrated.scores, 1 / (1 + np.exp(1 - logits / 2)), atol=1e-5)
    assert card.as_trained == model.card


def test_an_unreadable_image_does_not_stop_the_others(model: Model, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no")
    first, broken, second = model.predict([images[0], tmp_path / "broken.jpg", images[1]])
    assert "broken.jpg: not an image" in broken.error
    assert (broken.labels, len(broken.scores)) == ((), 0)
    for prediction, expected in zip((first, second), model.predict(images[:2]), strict=True):
        assert prediction.image == expected.image
        np.testing.assert_allclose(prediction.scores, expected.scores, atol=1e-6)
    assert model.predict(tmp_path / "broken.jpg").error


def test_images_of_any_kind(model: Model, images: list[Path]) -> None:
    """A path, a text, bytes, a PIL image, an array and a tensor of the same image have the same scores."""
    with Image.open(images[0]) as opened:
        picture = opened.convert("RGB")
    pixels = np.asarray(picture)
    sources: list[Any] = [
        images[0],
        str(images[0]),
        images[0].read_bytes(),
        picture,
        pixels,
        torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
    ]
    expected = model.predict(images[0]).scores
    for source in sources:
        np.testing.assert_allclose(model.predict(source).scores, expected, atol=1e-6)
    many = model.predict(sources, batch_size=4)
    assert [p.image for p in many] == [images[0], str(images[0]), 2, 3, 4, 5]
    for batch in (np.stack([pixels, pixels]), torch.stack([sources[5], sources[5]]), iter([pixels, pixels]), (pixels, pixels)):
        predictions = model.predict(batch)
        assert len(predictions) == 2
        np.testing.assert_allclose(predictions[1].scores, expected, atol=1e-5)
    assert model.predict([]) == []


def test_an_image_that_cannot_be_read_here_is_named(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 100)
    (prediction,) = model.predict(open_images([tmp_path]))
    assert prediction.image == str(tmp_path / "a.HEIC")
    installed = importlib.util.find_spec("pillow_heif") is not None
    message = "a.HEIC: damaged" if installed else "a.HEIC: HEIC, which is read where pillow-heif is installed"
    assert message in prediction.error
