from __future__ import annotations

import json
from pathlib import Path

import pytest

from sadcl_core.exporting.export import Export
from tests.conftest import Sadcl

IMAGE = "my-coco/val2017/001.png"


def test_export_predict_and_evaluate(in_trained: Sadcl, exported: Export, tmp_path: Path) -> None:
    """The commands give the same with the exported model; what needs the network in torch says so."""
    rows = [json.loads(in_trained("predict", IMAGE, "--json", "--all-scores", *w).stdout) for w in ([], ["-w", exported.path])]
    assert rows[1]["scores"] == pytest.approx(rows[0]["scores"], abs=1e-4)
    results = [
        json.loads(in_trained("eval", "--data", "my-coco", "--json", "-o", tmp_path / str(number), *w).stdout)
        for number, w in enumerate(([], ["-w", exported.path]))
    ]
    trained, exported_one = ({k: v for k, v in row.items() if isinstance(v, float) and "second" not in k} for row in results)
    assert "mAP_interpolated" in trained
    assert ["pointing_game" in row["per_class"][0] for row in results] == [True, True]
    assert exported_one == pytest.approx(trained, abs=0.2, nan_ok=True)
    for command in (["embed"], ["visualize", "prototypes"], ["eval", "--calibrate", "f1", "--data", "my-coco"]):
        assert "export" in in_trained(*command, "-w", exported.path, code=2).stderr
    in_trained("eval", "-w", exported.path, code=2)  # a file on its own does not say where its data lies


def test_a_model_file_on_its_own_is_not_verified(in_trained: Sadcl, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(Path("runs/coco/weights/best.safetensors").read_bytes())
    ran = in_trained("export", "onnx", "--for", "torch", "-w", alone, "-o", tmp_path / "m.pt2", "--json")
    document = json.loads(ran.stdout)
    assert document["verification"] is None
    assert "Give --data" in document["unverified"]
    model, begun, ended = ran.stderr.splitlines()[:3]
    assert model.startswith(f"model {alone}: sarl on ")
    assert (begun, ended.split(": ")[0]) == ("tracing the network",) * 2
    assert document["files"] == {str(tmp_path / "m.pt2"): (tmp_path / "m.pt2").stat().st_size}
