from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sadcl_core.data.manifest import load_manifest
from sadcl_core.data.shards import spaced_images
from sadcl_core.exporting.export import Export
from sadcl_core.exporting.quantise import quantise
from sadcl_core.inference.load import load, load_trained


def test_eight_bits(trained: Path, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quantised file predicts, has thresholds of its own, and says what it lost."""
    monkeypatch.chdir(trained)
    model = load_trained("runs/coco", device="cpu")
    data = load_manifest(Path("prepared/coco"))
    train, held_out = data.split("train"), data.split("val")
    ranges = list(spaced_images(train, 8).values())
    result = quantise(model, exported.path, tmp_path / "small.onnx", ranges=ranges, held_out=held_out)
    assert result.size == (tmp_path / "small.onnx").stat().st_size < exported.path.stat().st_size
    assert result.comparison.images == 12
    assert abs(result.comparison.map_interpolated.value) < 10
    assert all(fall < 0 for _, fall in result.losses)
    small = load(tmp_path / "small.onnx")
    assert small.card.calibrated["objective"] == "f1"
    assert small.thresholds.tolist() != model.thresholds.tolist()
    image = trained / "my-coco" / "val2017" / "001.png"
    logits = [
        np.log(p.scores / (1 - p.scores)) for p in (model.predict(image), load(small.path, uncalibrated=True).predict(image))
    ]
    np.testing.assert_allclose(logits[1], logits[0], atol=0.5)
    calibrated = logits[1] / small.card.temperatures + small.card.biases
    np.testing.assert_allclose(small.predict(image).scores, 1 / (1 + np.exp(-calibrated)), atol=1e-4)
