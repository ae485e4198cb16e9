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
    assert "Name them: --classes FILE" in sadcl(*words, code=2).stderr
    ran = sadcl(*words, "--classes", "cat,dog,cow")
    assert "one linear layer of the shape (3, 96)" in ran.stdout
    assert "the file does not say mean: [0.5, 0.5, 0.5], of timm's test_resnet" in ran.stderr
    image = next((coco / "val2017").iterdir())
    predicted = sadcl("predict", "-w", "run", image, "--topk", "2", "--json")
    assert any(name in predicted.stdout for name in ("cat", "dog", "cow"))
    sadcl(*words, "--classes", "cat,dog,cow", code=2)  # the run exists
    again = sadcl(*words, "--classes", "cat,dog,cow", "--exist-ok", "--mean", "0,0,0", "--std", "1,1,1", "--json")
    assert json.loads(again.stdout)["card"]["std"] == [1, 1, 1]
    sadcl(*words, "--mean", "1,2", code=2)


def test_commands_read_a_checkpoint_in_the_place_of_a_model(in_trained: Sadcl, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "test_resnet.pth"  # the name says the backbone
    torch.save({"state_dict": timm.create_model("test_resnet", num_classes=3).state_dict()}, path)
    named, image = ("-w", path, "--classes", "one,two,red", "--img-size", "64"), "my-coco/val2017/001.png"
    refused = in_trained("predict", image, "-w", path, "--img-size", "64", code=2)
    assert "Name them: --classes FILE" in refused.stderr
    for words in (
        ("predict", image, *named, "--topk", "2", "--resize", "80", "--tta", "flip", "--device", "cpu"),
        ("embed", image, *named, "--device", "cpu", "-o", tmp_path / "embeddings"),
        ("export", "onnx", *named, "--verify", "0", "-o", tmp_path / "m.onnx"),
        ("visualize", "attention", image, *named, "--labels", "red", "-o", tmp_path / "a.png"),
    ):
        in_trained(*words)
    searched = in_trained("search", image, "--index", tmp_path / "embeddings", "--no-sheet", code=2)
    assert f"sadcl import {path} -o RUN" in searched.stderr
    start = ("train", "coco", "--init-from", path, "--img-size", "64", "--print-config")
    assert "--init-classes FILE" in in_trained(*start, code=2).stderr
    assert "head: pooled  # init-from" in in_trained(*start, "--init-classes", "one,two,red").stdout
