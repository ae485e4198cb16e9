"""sadcl suggest: a table, and a file for those who label."""

from __future__ import annotations

import json
from pathlib import Path

from sadcl_core.runs.checkpoint import load_model, save_model
from tests.conftest import Sadcl

SUGGEST = ("suggest", "runs/coco", "my-coco/val2017", "-n", "3", "--device", "cpu", "-j", "0")


def test_images_to_label_are_written(in_trained: Sadcl, tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    ran = in_trained(*SUGGEST, "--format", "labelstudio", "-o", path, "--json")
    document = json.loads(ran.stdout)
    assert document["images"] == 12
    tasks = json.loads(path.read_text())
    assert [Path(task["data"]["image"]).name for task in tasks] == [Path(s["image"]).name for s in document["suggestions"]]
    assert "--exist-ok" in in_trained(*SUGGEST, "--format", "labelstudio", "-o", path, code=2).stderr


def test_a_wrong_form_is_refused(in_trained: Sadcl) -> None:
    assert "labelstudio" in in_trained(*SUGGEST, "--format", "labelstudios", code=2).stderr


def test_distances_are_a_column_only_where_the_model_has_prototypes(in_trained: Sadcl, trained: Path, tmp_path: Path) -> None:
    best, without = trained / "runs/coco/weights/best.safetensors", tmp_path / "without.safetensors"
    model = load_model(best)
    model.classifier.prototypes.data.zero_()
    save_model(without, model.classifier.state_dict(), model.card)
    for weights, shown in ((best, True), (without, False)):
        ran = in_trained("suggest", weights, *SUGGEST[2:], "-o", tmp_path / f"{shown}.csv")
        assert ("distance" in ran.stdout) is shown
