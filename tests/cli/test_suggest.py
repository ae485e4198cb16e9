"""sadcl suggest: a table, and a file for those who label."""

from __future__ import annotations

import json
from pathlib import Path

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
