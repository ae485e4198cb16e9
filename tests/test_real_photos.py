"""The same commands on real photographs, where some lie beside the project; skipped by name where they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sadcl_core.data.formats import coco, voc
from sadcl_core.data.formats.source import Source
from sadcl_core.model.backbone import Backbone
from sadcl_core.model.weights import load_file
from tests.conftest import Sadcl

SHARED = Path(__file__).parents[2] / "shared"
VOC = SHARED / "data" / "voc2007"
COCO = SHARED / "data" / "coco-mini"
WEIGHTS = SHARED / "weights" / "mobilenetv2_100.pth"

needs_voc = pytest.mark.skipif(not VOC.is_dir(), reason="no VOC photos in ../shared/data/voc2007")
needs_coco = pytest.mark.skipif(not COCO.is_dir(), reason="no COCO photos in ../shared/data/coco-mini")
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="no weights in ../shared/weights")


@needs_voc
def test_voc_counts_are_the_image_sets() -> None:
    manifest = voc.read(Source("voc2007", VOC))
    assert {name: len(manifest.split(name)) for name in manifest.splits} == {"train": 942, "test": 965}
    # the devkit's own per-class lists: 1 present, 0 only difficult, -1 absent
    lists = VOC / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    test = manifest.split("test")
    for k, name in enumerate(manifest.classes):
        rows = [line.split() for line in (lists / f"{name}_test.txt").read_text().splitlines()]
        expected = {"1": 1, "0": -1, "-1": 0}
        assert [expected[flag] for _, flag in rows] == [int(test.targets(i)[k]) for i in range(len(test))]


@needs_coco
def test_coco_counts_are_its_annotations() -> None:
    manifest = coco.read(Source("coco", COCO))
    document = json.loads((COCO / "annotations" / "instances_val2017.json").read_text())
    pairs = {(a["image_id"], a["category_id"]) for a in document["annotations"]}
    assert len(manifest.classes) == 80
    assert int(manifest.split("val").class_counts().sum()) == len(pairs)
    assert manifest.classes[0] == "person"
    assert manifest.description.superclasses[-1] == "indoor"


@needs_weights
def test_real_weights_fit_without_a_gap() -> None:
    loaded = load_file(Backbone("mobilenetv2_100", stride=32, img_size=64), WEIGHTS)
    assert loaded.missing == ()
    assert loaded.matched == 260


@pytest.mark.slow
@needs_coco
@needs_weights
def test_training_on_photos_runs_to_the_end(sadcl: Sadcl) -> None:
    ran = sadcl(
        "train",
        "coco",
        "--data",
        COCO,
        "--backbone",
        "mobilenetv2_100",
        "--pretrained",
        WEIGHTS,
        "--img-size",
        "96",
        "--epochs",
        "1",
    )
    assert "260 tensors, none missing" in ran.stderr
    ran = sadcl("eval", "--json", "--topk", "3")
    document = json.loads(ran.stdout)
    assert (document["images"], document["classes"], document["classes_evaluated"]) == (79, 80, 78)
    image = next((COCO / "val2017").glob("*.jpg"))
    sadcl("visualize", "attention", image, "--labels", "person")
    sadcl("visualize", "prototypes")
