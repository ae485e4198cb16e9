"""sadcl extend: a class more, and what the other commands do with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sadcl_core.data.manifest import load_manifest
from tests.conftest import Sadcl

PHOTOS = [f"my-coco/train2017/{number:03d}.png" for number in range(1, 7)]
EXTEND = ("extend", "runs/coco", *PHOTOS, "--add", "otter", "--steps", "1", "--device", "cpu", "-j", "0")


def test_a_class_is_added_and_used(in_trained: Sadcl, tmp_path: Path) -> None:
    run = tmp_path / "extended"
    ran = in_trained(*EXTEND, "-o", run, "--json")
    document = json.loads(ran.stdout)
    assert (document["name"], document["photos"], document["compared"]) == ("otter", 6, 12)
    labels = in_trained("predict", PHOTOS[0], "-w", run, "--topk", "11", "--json", "--device", "cpu")
    assert "otter" in {label["name"] for label in json.loads(labels.stdout)["labels"]}
    evaluated = in_trained(
        "eval", "-w", run, "--bootstrap", "0", "--device", "cpu", "-j", "0", "-o", tmp_path / "e.json", "--json"
    )
    (own,) = [row for row in json.loads(evaluated.stdout)["per_class"] if row["name"] == "otter"]
    assert own["AP_interpolated"] is None  # unknown in every image of the split
    assert "exists" in in_trained(*EXTEND, "-o", run, code=2).stderr


def test_its_export_gives_the_same_scores(in_trained: Sadcl, tmp_path: Path) -> None:
    run, file = tmp_path / "extended", tmp_path / "model.onnx"
    for command in ((*EXTEND, "-o", run), ("export", "onnx", "-w", run, "-o", file)):
        in_trained(*command)
    rows = [json.loads(in_trained("predict", PHOTOS[0], "--json", "--all-scores", "-w", w).stdout) for w in (run, file)]
    assert len(rows[0]["scores"]) == 11
    assert rows[1]["scores"] == pytest.approx(rows[0]["scores"], abs=1e-5)


def test_it_says_on_which_images(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained(*EXTEND, "-o", tmp_path / "extended")
    assert ran.stdout.startswith("otter: AP ")
    assert "6 photos among 12 images of split val of coco" in " ".join(ran.stdout.split())
    assert "nobody has looked" in " ".join(ran.stderr.split())


def test_resamples_that_are_all_equal_give_no_interval(in_trained: Sadcl, tmp_path: Path) -> None:
    for number in range(6):
        for name, shade in (("photos", 255 - number), ("without", number)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", (64, 64), (shade, shade, shade)).save(tmp_path / name / f"{number}.png")
    base = ("extend", "runs/coco", tmp_path / "photos", "--negatives", tmp_path / "without", "--add", "otter", "--device", "cpu")
    ran = in_trained(*base, "-j", "0", "-o", tmp_path / "extended")
    assert ran.stdout.startswith("otter: AP 100.0 interpolated, 100.0 non-interpolated, 6 photos among 6 ")
    for number in range(3):
        (tmp_path / "photos" / f"{number}.png").unlink()
    ran = in_trained(*base, "-j", "0", "-o", tmp_path / "few")
    assert ran.stdout.startswith("otter: AP 100.0 interpolated (no interval for fewer than 5 photos), 100.0 non-interpolated, 3 ")


def test_a_broken_photo_is_named_and_left_out(in_trained: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    run = tmp_path / "extended"
    ran = in_trained("extend", "runs/coco", tmp_path / "broken.png", *EXTEND[2:], "-o", run, "--json", code=3)
    assert "1 image could not be read; the class is added without" in " ".join(ran.stderr.split())
    document = json.loads(ran.stdout)
    assert document["photos"] == 6
    (error,) = document["errors"]
    assert "broken.png" in error
    images = list(load_manifest(run / "data").split("all"))
    assert not [image for image in images if "broken" in image]
