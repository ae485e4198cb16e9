from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sadcl_core.config.schema import ModelSection
from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.inference.load import Model, find_card, load_trained
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.card import ModelCard

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (40 + 10 * i, 70, 3), dtype=np.uint8) for i in range(5)]


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_trained(trained / "runs" / "coco", device="cpu")


def test_a_run_a_file_or_the_run_that_finished_last(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(trained)
    best = Path("runs/coco/weights/best.safetensors")
    for source in (None, "runs/coco", Path("runs/coco"), str(best)):
        model = load_trained(source, device="cpu")
        assert model.path == best
        assert model.run is not None
        assert model.run.path == Path("runs/coco")
        assert model.is_last_run == (source is None)
        assert model.folder("plots") == Path("runs/coco/plots")
    shutil.copy(best, tmp_path / "alone.safetensors")
    alone = load_trained(tmp_path / "alone.safetensors", device="cpu")
    assert alone.run is None
    assert alone.folder("plots") == Path("plots")
    assert len(alone.classes) == 10
    assert repr(alone).startswith(f"Model(path={tmp_path / 'alone.safetensors'!r}, device=device(type='cpu')")


def test_another_image_size_and_without_a_calibration(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs" / "coco", tmp_path / "run")
    smaller = load_trained(tmp_path / "run", device="cpu", img_size=48)
    assert smaller.preprocessing.img_size == 48
    assert smaller.attention(IMAGES[0], ["one"]).shape == (1, 1, 3, 3)
    from sadcl_core.runs.checkpoint import save_model

    card = smaller.card.model_copy(
        update={"img_size": 64, "thresholds": (0.3,) * 10, "temperatures": (2.0,) * 10, "biases": (0.0,) * 10}
    )
    save_model(smaller.path, smaller.classifier.state_dict(), card)
    assert load_trained(tmp_path / "run", device="cpu").card == card
    assert load_trained(tmp_path / "run", device="cpu").thresholds.tolist() == [0.3] * 10
    for plain in (
        load_trained(tmp_path / "run", device="cpu", uncalibrated=True).card,
        find_card(tmp_path / "run", uncalibrated=True)[2],
    ):
        assert (plain.thresholds, plain.temperatures) == ((), ())


def test_mistakes(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="Train first"):
        load_trained()
    with pytest.raises(DataError, match="no weights"):
        load_trained(tmp_path)
    with pytest.raises(DataError, match="no model file"):
        load_trained("none.safetensors")
    with pytest.raises(UsageError, match="no such kind of device"):
        load_trained(model.path, device="tpu")
    with pytest.raises(UsageError, match="choose from"):
        load_trained(model.path, precision="fp8")
    with pytest.raises(MachineError, match="no device cuda:99"):
        load_trained(model.path, device="cuda:99")
    with pytest.raises(UsageError, match="no class 'tenn'"):
        model.attention(IMAGES, ["tenn"])
    with pytest.raises(UsageError, match="3 thresholds for 10 classes"):
        model.predict(IMAGES, threshold=[0.1, 0.2, 0.3])
    with pytest.raises(UsageError, match="no column 'image'"):
        model({"images": IMAGES})


def test_features_and_attention_in_the_order_of_the_images(model: Model, tmp_path: Path) -> None:
    features, maps = model.embed(IMAGES, batch_size=2), model.attention(IMAGES, ["nine", "two"], batch_size=2)
    width = model.classifier.head.width
    assert features.label_features.shape == (5, 10, width)
    assert features.image_features.shape == (5, model.classifier.backbone.channels[-1])
    np.testing.assert_allclose(np.linalg.norm(features.embeddings, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(features.scores, [p.scores for p in model.predict(IMAGES)], atol=1e-5)
    assert maps.shape == (5, 2, 4, 4)
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1, atol=1e-5)
    for i, image in enumerate(IMAGES):
        alone = model.embed(image)
        for name in ("label_features", "embeddings", "image_features"):
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(features, name)[i], atol=1e-5)
        np.testing.assert_allclose(model.attention(Image.fromarray(image))[0, [9, 2]], maps[i], atol=1e-5)
    (tmp_path / "broken.jpg").write_bytes(b"no")
    for function in (model.embed, model.attention):
        with pytest.raises(DataError, match=r"broken\.jpg: not an image"):
            function([IMAGES[0], tmp_path / "broken.jpg"])
    with pytest.raises(DataError, match="no image"):
        model.embed([])
    assert model.attention([]).shape == (0, 10, 0, 0)


def object_array(values: list[Any]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


@pytest.mark.parametrize("column", [list, object_array], ids=["list", "array of objects"])
def test_columns_in_and_out(model: Model, column: Any) -> None:
    """The form of Ray Data, Daft and Spark: other columns are passed on, an image that cannot be read is a row like others."""
    batch = {"image": column([*IMAGES[:2], b"no image"]), "id": np.array([7, 8, 9])}
    result = model(batch, threshold=0.2)
    assert list(result) == ["id", "labels", "probabilities", "scores", "passed", "error"]
    assert result["id"] is batch["id"]
    assert result["scores"].shape == result["passed"].shape == (3, 10)
    for row, prediction in enumerate(model.predict(IMAGES[:2], threshold=0.2)):
        np.testing.assert_allclose(result["scores"][row], prediction.scores, atol=1e-6)
        assert list(zip(result["labels"][row], result["probabilities"][row], strict=True)) == [
            (name, pytest.approx(probability, abs=1e-6)) for name, probability in prediction.labels
        ]
        assert result["passed"][row].tolist() == (prediction.scores > 0.2).tolist()
    assert np.isnan(result["scores"][2]).all()
    assert not result["passed"][2].any()
    assert [bool(error) for error in result["error"]] == [False, False, True]
    empty = model({"image": []})
    assert empty["scores"].shape == empty["passed"].shape == (0, 10)


def test_a_pickled_model_needs_no_file(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs" / "coco", tmp_path / "run")
    model = load_trained(tmp_path / "run", device="cpu", img_size=48, tta="flip", resize=64)
    expected = model({"image": IMAGES})["scores"]
    content = pickle.dumps(model)
    shutil.rmtree(tmp_path / "run")
    copy = pickle.loads(content)
    assert (copy.card, copy.path, copy.precision, copy.tta) == (model.card, model.path, model.precision, "flip")
    assert copy.resize == 64
    np.testing.assert_array_equal(copy({"image": IMAGES})["scores"], expected)


def test_a_pickled_model_moves_to_a_machine_without_its_device(model: Model) -> None:
    elsewhere = replace(model, device=torch.device("cuda:99"), precision="fp16")
    copy = pickle.loads(pickle.dumps(elsewhere))
    assert copy.device != elsewhere.device
    assert np.isfinite(copy.predict(IMAGES[0]).scores).all()


def test_what_is_wrong_with_names_and_values_is_found_without_torch(tmp_path: Path) -> None:
    code = """
import sys
from sadcl_core.errors import SadclError
from sadcl_core.inference.load import load_trained
for options in ({}, {"run_or_file": "none"}, {"device": "tpu"}, {"precision": "fp8"}):
    try:
        load_trained(**options)
    except SadclError:
        assert "torch" not in sys.modules, options
    else:
        sys.exit(1)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_labels_that_are_known_inform_the_others_and_stand_as_they_are(tta: str) -> None:
    torch.manual_seed(0)
    options = {"c_tran": {"width": 8, "feedforward": 16}}
    section = ModelSection(backbone="test_resnet", stride=16, pretrained=False, head="c_tran", heads=options)
    card = ModelCard(classes=("cat", "dog", "cow"), img_size=32, mean=(0.5,) * 3, std=(0.5,) * 3, model=section)
    classifier = Classifier(section, num_classes=3, img_size=32).eval()
    model = Model(classifier, card, Path("pets.safetensors"), device=torch.device("cpu"), tta=tta)
    plain, told = model.predict(IMAGES), model.predict(IMAGES, known={"dog": 1, "cow": 0}, topk=1)
    for before, after in zip(plain, told, strict=True):
        assert after.scores[1:].tolist() == [1.0, 0.0]
        assert after.scores[0] != before.scores[0]
        assert [name for name, _ in after.labels] == ["dog"]
    given = pickle.loads(pickle.dumps(model.given({"dog": 1, "cow": 0})))
    np.testing.assert_allclose([p.scores for p in given.predict(IMAGES)], [p.scores for p in told], rtol=1e-5)
    assert given.settings != model.settings
    with pytest.raises(UsageError, match="no class 'hen'"):
        model.predict(IMAGES, known={"hen": 1})
    with pytest.raises(UsageError, match="dog=2: a known label is 1, active, or 0"):
        model.predict(IMAGES, known={"dog": 2})


def test_a_head_that_uses_no_known_labels_says_so(model: Model) -> None:
    with pytest.raises(UsageError, match=r"the head sarl of .* cannot use labels that are known"):
        model.predict(IMAGES, known={"one": 1})
