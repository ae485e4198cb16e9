from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sadcl_core.data.formats.coco import read
from sadcl_core.data.formats.source import Source
from sadcl_core.errors import DataError
from tests.conftest import make_coco


def edit(coco: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = coco / "annotations" / "instances_train2017.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_reads_images_labels_boxes_and_superclasses(coco: Path) -> None:
    manifest = read(Source("coco", coco))
    assert manifest.splits == ["train", "val"]
    assert manifest.classes[:2] == ("zero", "one")
    assert manifest.description.superclasses[:2] == ("loop", "straight")
    train = manifest.split("train")
    assert len(train) == 24
    assert train.active(0) == []
    boxes = train.boxes(1)
    assert boxes
    assert {box.label for box in boxes} == set(train.active(1))
    assert all(path.is_file() for path in (train.path(i) for i in range(len(train))))


def test_images_folder_of_other_tools(coco: Path) -> None:
    (coco / "images").mkdir()
    for split in ("train2017", "val2017"):
        (coco / split).rename(coco / "images" / split)
    assert read(Source("coco2017", coco)).split("train")[0] == "images/train2017/000.png"


def test_plain_coco_takes_2014_of_both(coco: Path) -> None:
    for split in ("train", "val"):
        (coco / "annotations" / f"instances_{split}2014.json").write_bytes(
            (coco / "annotations" / f"instances_{split}2017.json").read_bytes()
        )
        shutil.copytree(coco / f"{split}2017", coco / f"{split}2014")
    assert read(Source("coco", coco)).split("train")[0].startswith("train2014/")
    assert read(Source("coco2017", coco)).split("train")[0].startswith("train2017/")


def test_not_cocos_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in COCO's layout"):
        read(Source("coco", tmp_path))
    with pytest.raises(DataError, match=r"instances_train2014.json"):
        read(Source("coco2014", make_coco(tmp_path)))


@pytest.mark.parametrize(
    "content", [b"", b'{"images": [', b"[]", b"null", b"\xff\xfe\x00", b'{"images": {}, "annotations": [], "categories": []}']
)
def test_damaged_json(coco: Path, content: bytes) -> None:
    (coco / "annotations" / "instances_train2017.json").write_bytes(content)
    with pytest.raises(DataError, match=r"instances_train2017.json"):
        read(Source("coco", coco))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][0].update(category_id=99), "unknown category 99"),
        (lambda d: d["annotations"][0].update(image_id=99), "unknown image 99"),
        (lambda d: d["images"][0].update(file_name="../../secret.png"), "secret.png lies outside"),
        (lambda d: d["categories"][0].update(name="nought"), "list different categories"),
        (lambda d: d["annotations"][0].update(bbox=["a", 0, 1, 1]), "cannot be read"),
        (lambda d: d["images"][0].pop("id"), "cannot be read"),
        (lambda d: d["categories"][0].pop("name"), "cannot be read"),
    ],
)
def test_contradictions(coco: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit(coco, change)
    with pytest.raises(DataError, match=message):
        read(Source("coco", coco))


def test_prints_nothing(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(Source("coco", coco))
    assert capsys.readouterr() == ("", "")


def test_an_absolute_path_is_looked_for_below_the_root_and_nowhere_else(coco: Path) -> None:
    edit(coco, lambda d: d["images"][0].update(file_name="/etc/passwd"))
    assert read(Source("coco", coco)).split("train")[0] == "train2017/etc/passwd"
