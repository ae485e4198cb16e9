from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.predict import Prediction, find_images, predict
from sadcl_core.runs.checkpoint import LoadedModel, load_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(trained: Path) -> LoadedModel:
    return load_model(trained / "runs" / "coco" / "weights" / "best.safetensors")


@pytest.fixture(scope="module")
def images(trained: Path) -> list[Path]:
    return find_images([trained / "my-coco" / "val2017"])


def run(model: LoadedModel, images: list[Path], **options: object) -> list[Prediction]:
    return list(predict(model, images, device=CPU, **options))  # type: ignore[arg-type]


def test_batches_are_the_same_as_single_images(model: LoadedModel, images: list[Path]) -> None:
    together, alone = run(model, images, batch_size=5), run(model, images, batch_size=1)
    assert [p.image for p in together] == images
    for a, b in zip(together, alone, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-5)


def test_threshold_and_topk(model: LoadedModel, images: list[Path]) -> None:
    names = model.card.classes
    for prediction in run(model, images, thresholds=[0.3] * 10):
        assert {name for name, _ in prediction.labels} == {names[k] for k, s in enumerate(prediction.scores) if s > 0.3}
        assert [s for _, s in prediction.labels] == sorted((s for _, s in prediction.labels), reverse=True)
    assert all(len(p.labels) == 3 for p in run(model, images, topk=3))
    assert all(len(p.labels) == 10 for p in run(model, images, topk=99))
    assert all(not p.labels for p in run(model, images, topk=3, thresholds=[1.0] * 10))
    with pytest.raises(UsageError, match="at least one"):
        run(model, images, topk=0)


def test_every_class_has_its_threshold(model: LoadedModel, images: list[Path]) -> None:
    assert all([name for name, _ in p.labels] == ["zero"] for p in run(model, images, thresholds=[0.0, *[1.0] * 9]))


def test_a_score_at_the_threshold_does_not_count(model: LoadedModel, images: list[Path]) -> None:
    (alone,) = run(model, images[:1])
    at = run(model, images[:1], thresholds=alone.scores)
    just_below = run(model, images[:1], thresholds=np.nextafter(np.array(alone.scores, np.float32), np.float32(0)))
    assert [len(p.labels) for p in (*at, *just_below)] == [0, 10]


def test_a_model_that_gives_nan_is_an_error(model: LoadedModel, images: list[Path]) -> None:
    broken = load_model(model.path)
    with torch.no_grad():
        broken.classifier.head.bias.fill_(float("nan"))
    with pytest.raises(DataError, match="gives NaN"):
        run(broken, images[:1])


def test_scores_of_a_calibrated_model(model: LoadedModel, images: list[Path]) -> None:
    card = model.card.model_copy(update={"temperatures": (2.0,) * 10, "biases": (-1.0,) * 10})
    for plain, calibrated in zip(run(model, images), run(replace(model, card=card), images), strict=True):
        logits = np.log(plain.scores) - np.log1p(-np.array(plain.scores))
        assert calibrated.scores == pytest.approx(1 / (1 + np.exp(1 - logits / 2)), abs=1e-5)
    assert card.as_trained == model.card


def test_an_unreadable_image_does_not_stop_the_others(model: LoadedModel, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no")
    mixed = [images[0], tmp_path / "broken.jpg", images[1]]
    first, broken, second = run(model, mixed)
    assert "broken.jpg: not an image" in broken.error
    assert broken.labels == ()
    expected = run(model, images[:2])
    assert first.scores == pytest.approx(expected[0].scores)
    assert second.scores == pytest.approx(expected[1].scores)
    assert run(model, [tmp_path / "broken.jpg"])[0].error


def test_folders_are_searched(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/2.JPG", "a/b/1.png", "a/notes.txt"):
        (tmp_path / name).write_text("")
    assert find_images([tmp_path / "a", tmp_path / "a" / "notes.txt"]) == [
        tmp_path / "a/2.JPG",
        tmp_path / "a/b/1.png",
        tmp_path / "a/notes.txt",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no image"):
        find_images([tmp_path / "empty"])
    with pytest.raises(DataError, match="no image or folder"):
        find_images([tmp_path / "none"])
