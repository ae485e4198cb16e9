from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Sadcl

IMAGES = "my-coco/val2017"


def test_labels_of_an_image(in_trained: Sadcl) -> None:
    ran = in_trained("predict", f"{IMAGES}/001.png", "--topk", "2")
    assert ran.exit_code == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    assert line.startswith(f"{IMAGES}/001.png  ")
    assert len(line.split("  ")) == 3
    assert "model runs/coco/weights/best.safetensors (the run that finished last)" in ran.stderr


def test_a_folder_and_a_threshold(in_trained: Sadcl) -> None:
    ran = in_trained("predict", IMAGES, "--threshold", "1")
    assert len(ran.stdout.splitlines()) == 12
    assert all(line.endswith("(no label)") for line in ran.stdout.splitlines())
    assert "labels above 1" in ran.stderr


@pytest.mark.parametrize("command", ["predict", "infer"])
def test_json_lines(in_trained: Sadcl, command: str) -> None:
    ran = in_trained(command, IMAGES, "--json", "--all-scores", "--threshold", "0.2")
    documents = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(documents) == 12
    for document in documents:
        assert len(document["scores"]) == 10
        expected = {name for name, score in document["scores"].items() if score > 0.2}
        assert {label["name"] for label in document["labels"]} == expected
        assert all(label["score"] == document["scores"][label["name"]] for label in document["labels"])
    assert "scores" not in json.loads(in_trained("predict", f"{IMAGES}/001.png", "--json").stdout)


def test_broken_images_are_named_and_the_others_done(in_trained: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    ran = in_trained("predict", tmp_path / "broken.jpg", f"{IMAGES}/001.png")
    assert ran.exit_code == 3
    assert len(ran.stdout.splitlines()) == 1
    assert "broken.jpg" in ran.stderr
    assert "1 of 2 images could not be read" in ran.stderr
    ran = in_trained("predict", tmp_path / "broken.jpg", f"{IMAGES}/001.png", "--json")
    broken, fine = map(json.loads, ran.stdout.splitlines())
    assert "broken.jpg: not an image" in broken["error"]
    assert "error" not in fine


def test_mistakes(in_trained: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, code, words in [
        (("predict",), 2, "Missing argument"),
        (("predict", f"{IMAGES}/001.png", "--all-scores"), 2, "Give --json as well"),
        (("predict", f"{IMAGES}/001.png", "--threshold", "auto"), 2, "sadcl eval --calibrate"),
        (("predict", f"{IMAGES}/001.png", "--threshold", "cat=0.3"), 2, "no class 'cat'"),
        (("predict", tmp_path / "none.jpg"), 3, "no image or folder"),
        (("predict", tmp_path / "empty"), 3, "holds no image"),
        (("predict", f"{IMAGES}/001.png", "--topk", "0"), 2, "--topk"),
    ]:
        ran = in_trained(*arguments)
        assert ran.exit_code == code, arguments
        assert words in ran.stderr
        assert ran.stdout == ""


def test_no_run_yet(sadcl: Sadcl, coco: Path) -> None:
    ran = sadcl("predict", coco / "val2017" / "001.png")
    assert ran.exit_code == 3
    assert "Train first: sadcl train digits" in ran.stderr
