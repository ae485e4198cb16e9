from __future__ import annotations

import ast
import json
import pickle
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from PIL import Image

from sadcl_core.data.images import ImageSource
from sadcl_core.errors import DataError, GateError, MachineError, UsageError
from sadcl_core.exporting.export import Export, export
from sadcl_core.exporting.verify import Runner, verify
from sadcl_core.inference.load import Model, find_card, load, load_trained
from sadcl_core.inference.onnx_model import OnnxModel
from sadcl_core.runs.onnx_file import read_metadata


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_trained(trained / "runs" / "coco", device="cpu")


@pytest.fixture(scope="module")
def onnx_model(exported: Export) -> OnnxModel:
    model = load(exported.path, device="cpu")
    assert isinstance(model, OnnxModel)
    return model


@pytest.fixture(scope="module")
def odd_images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos as cameras and scanners write them: none is square, RGB and upright."""
    folder, rng = tmp_path_factory.mktemp("odd"), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (57, 91, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    picture.convert("L").save(folder / "grey.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("P").save(folder / "palette.gif")
    picture.convert("RGBA").save(folder / "alpha.webp")
    Image.fromarray(rng.integers(0, 2**16, (40, 30), dtype=np.uint16)).save(folder / "deep.png")
    picture.resize((900, 35)).save(folder / "wide.png")
    picture.resize((1, 1)).save(folder / "pixel.png")
    return sorted(folder.iterdir())


def test_the_same_answers_as_the_trained_model(model: Model, onnx_model: OnnxModel, odd_images: list[Path]) -> None:
    for one, other in zip(model.predict(odd_images), onnx_model.predict(odd_images), strict=True):
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)
    alone = [onnx_model.predict(image).scores for image in odd_images]
    np.testing.assert_allclose(alone, [p.scores for p in onnx_model.predict(odd_images, batch_size=3, workers=0)], atol=1e-6)


def test_it_was_verified_on_held_out_images(exported: Export, trained: Path) -> None:
    checked = exported.verification
    assert checked is not None
    assert checked.images == 12
    assert checked.largest < 1e-4
    assert checked.flipped == 0
    assert Path(checked.image).parent.name == "val2017"
    assert min(checked.speed, checked.exported_speed) > 0
    assert exported.files == {exported.path: exported.path.stat().st_size}


def test_what_the_file_says_of_itself(exported: Export, model: Model) -> None:
    entries = read_metadata(exported.path)
    session = onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == entries
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    shapes = {output.name: output.shape for output in session.get_outputs()}
    assert shapes == {
        "probabilities": ["batch", 10],
        "logits": ["batch", 10],
        "label_features": ["batch", 10, 16],
        "attention": ["batch", 10, 4, 4],
        "image_features": ["batch", 192],
        "embeddings": ["batch", 10, 8],
    }
    assert find_card(exported.path).card == model.card
    assert ast.literal_eval(entries["names"]) == dict(enumerate(model.classes))
    assert ast.literal_eval(entries["imgsz"]) == [64, 64]
    assert json.loads(entries["model_info label_info"])["label_names"] == list(model.classes)
    assert json.loads(entries["hf_preprocessor_config"])["size"] == {"height": 64, "width": 64}
    assert json.loads(entries["thresholds"]) == dict.fromkeys(model.classes, 0.5)
    assert json.loads(entries["provenance"])["dataset"] == "coco"
    assert entries["backbone_license"] == "none: random weights"
    assert entries["backbone_weights"] == "none"


def test_the_model_is_used_like_a_trained_one(onnx_model: OnnxModel, exported: Export, odd_images: list[Path]) -> None:
    assert onnx_model.thresholds.tolist() == [0.5] * 10
    batch = {"image": [*odd_images, b"broken"]}
    result = onnx_model(batch, topk=2)
    assert [len(names) for names in result["labels"]] == [2] * len(odd_images) + [0]
    copy = pickle.loads(pickle.dumps(onnx_model))
    np.testing.assert_array_equal(copy(batch)["scores"], onnx_model(batch)["scores"])


def test_features_and_attention_of_the_labels(onnx_model: OnnxModel, model: Model, odd_images: list[Path]) -> None:
    for exported, trained in zip(
        *(one.iter_predict(odd_images, topk=3, details=True) for one in (onnx_model, model)), strict=True
    ):
        for name in ("feature", "embeddings", "attention"):
            np.testing.assert_allclose(getattr(exported, name), getattr(trained, name), atol=1e-4)


def test_torch_is_not_imported(exported: Export, odd_images: list[Path]) -> None:
    code = f"""
import sys, sadcl_core
model = sadcl_core.load({str(exported.path)!r})
assert len(model.predict({str(odd_images[0])!r}, topk=3).labels) == 3
sys.exit("torch" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_export_that_answers_otherwise_is_refused(model: Model, onnx_model: OnnxModel, odd_images: list[Path]) -> None:
    def score(images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        scores = onnx_model.score(images)
        scores[:, 3] = np.where(scores[:, 3] > 0.5, 0.4, 0.6)
        return scores

    checked = verify(model, Runner(onnx_model.read, score), odd_images)
    assert checked is not None
    assert (checked.label, checked.flipped) == ("three", len(odd_images))
    with pytest.raises(GateError, match=r"three of .* labels flip on 8 images\. m\.onnx was deleted"):
        checked.require(Path("m.onnx"))
    assert verify(model, Runner(onnx_model.read, score), [b"broken"]) is None


def test_images_that_only_one_model_reads_are_left_out(model: Model, onnx_model: OnnxModel, odd_images: list[Path]) -> None:
    def read(source: ImageSource, name: object) -> Any:
        if source == odd_images[1]:
            raise DataError("cannot be read")
        return onnx_model.read(source, name)

    checked = verify(model, Runner(read, onnx_model.score), [*odd_images[:3], b"broken"])
    assert checked is not None
    assert (checked.images, checked.left_out, checked.passed) == (2, 2, True)


@pytest.mark.parametrize("target", ["torch", "imgutils", "openvino"])
def test_other_programs(target: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if target == "openvino":
        pytest.importorskip(target)
    monkeypatch.chdir(trained)
    result = export("runs/coco", target, output=tmp_path / ("m.pt2" if target == "torch" else target), images=4)
    assert result.verification is not None
    assert result.verification.largest < 1e-4
    assert all(path.stat().st_size == size for path, size in result.files.items())
    if target == "torch":
        assert list(result.files) == [tmp_path / "m.pt2"]
        return
    if target == "openvino":
        assert {path.name for path in result.files} == {"model.bin", "model.xml"}
        text = (tmp_path / target / "model.xml").read_text(encoding="utf-8")
        assert '<labels value="zero one two' in text
        return
    assert (tmp_path / target / "selected_tags.csv").read_text().splitlines()[:2] == [
        "tag_id,name,category,best_threshold",
        "0,zero,0,0.5",
    ]
    session = onnxruntime.InferenceSession(str(tmp_path / target / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["prediction", "logits", "embedding"]
    assert session.get_inputs()[0].shape == ["batch", 3, 64, 64]


def test_a_package_for_core_ml(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    path = tmp_path / "m.mlpackage"
    if find_spec("coremltools") is None:
        with pytest.raises(MachineError, match=r"pip install 'sadcl\[coreml\]'"):
            export("runs/coco", "coreml", output=path)
        pytest.skip("coremltools is not installed")
    result = export("runs/coco", "coreml", output=path, images=4)
    if sys.platform != "darwin":
        assert result.verification is None
        assert "on a Mac alone" in result.unverified
    assert sum(result.files.values()) == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    from coremltools.models.utils import load_spec

    description = load_spec(str(path)).description
    (picture,) = description.input
    assert (picture.name, picture.type.imageType.width, picture.type.imageType.height) == ("image", 64, 64)
    shapes = {output.name: list(output.type.multiArrayType.shape) for output in description.output}
    assert shapes == {
        "probabilities": [1, 10],
        "logits": [1, 10],
        "label_features": [1, 10, 16],
        "attention": [1, 10, 4, 4],
        "image_features": [1, 192],
        "embeddings": [1, 10, 8],
    }
    entries = description.metadata.userDefined
    assert ast.literal_eval(entries["names"])[0] == "zero"
    assert json.loads(entries["thresholds"])["zero"] == 0.5


def test_mistakes(exported: Export, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for function in (export, load_trained):
        with pytest.raises(UsageError, match="is an exported model"):
            function(exported.path)
    with pytest.raises(UsageError, match=r"this file ends in \.onnx"):
        export(trained / "runs" / "coco", output="model.bin")
    with pytest.raises(UsageError, match="no target 'caffe'"):
        export(trained / "runs" / "coco", "caffe")
    with pytest.raises(UsageError, match="exists"):
        export(trained / "runs" / "coco", "triton", output=tmp_path)
    with pytest.raises(DataError, match="no split 'tset'"):
        export(trained / "runs" / "coco", split="tset")
    for options in ({"img_size": 48}, {"precision": "bf16"}, {"tta": "flip"}):
        with pytest.raises(UsageError, match="was exported for images of 64 px as it is"):
            load(exported.path, **options)
    with pytest.raises(MachineError, match="cannot compute on mps here"):
        load(exported.path, device="mps")
    shutil.copy(exported.path, tmp_path / "cut.onnx")
    with (tmp_path / "cut.onnx").open("r+b") as file:
        file.truncate(exported.path.stat().st_size // 2)
    with pytest.raises(DataError, match="not a whole ONNX file"):
        load(tmp_path / "cut.onnx")
    entries, other = read_metadata(exported.path), onnx.load(exported.path)
    del other.graph.node[0]
    onnx.save(other, tmp_path / "wrong.onnx")
    assert entries == read_metadata(tmp_path / "wrong.onnx")
    with pytest.raises(DataError, match="cannot be opened by onnxruntime"):
        load(tmp_path / "wrong.onnx")
