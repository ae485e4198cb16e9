"""sadcl import, from a file of another program to labels of an image."""

from __future__ import annotations

import json
from pathlib import Path

import timm
import torch

from tests.conftest import Sadcl


def test_imports_a_file_and_predicts(sadcl: Sadcl, tmp_path: Path, coco: Path) -> None:
    torch.manual_seed(0)
    torch.save({"state_dict": timm.create_model("test_resnet", num_classes=3).state_dict()}, tmp_path / "m.pth")
    words = ("import", "m.pth", "--backbone", "test_resnet", "--img-size", "64", "-o", "run")
    refused = sadcl(*words)
    assert (refused.exit_code, "Name them: --classes FILE" in refused.stderr) == (2, True)
    ran = sadcl(*words, "--classes", "cat,dog,cow")
    assert ran.exit_code == 0
    assert "one linear layer of the shape (3, 96)" in ran.stdout
    assert "the file does not say mean: [0.5, 0.5, 0.5], of timm's test_resnet" in ran.stderr
    image = next((coco / "val2017").iterdir())
    predicted = sadcl("predict", "-w", "run", image, "--topk", "2", "--json")
    assert predicted.exit_code == 0
    assert any(name in predicted.stdout for name in ("cat", "dog", "cow"))
    assert sadcl(*words, "--classes", "cat,dog,cow").exit_code == 2  # the run exists
    again = sadcl(*words, "--classes", "cat,dog,cow", "--exist-ok", "--mean", "0,0,0", "--std", "1,1,1", "--json")
    assert json.loads(again.stdout)["card"]["std"] == [1, 1, 1]
    assert sadcl(*words, "--mean", "1,2").exit_code == 2
