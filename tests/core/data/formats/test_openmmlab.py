from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sadcl_core.errors import DataError
from tests.core.data.formats.samples import load, put, rows, write_openmmlab


def document(classes: Any, *entries: Any) -> dict[str, Any]:
    return {"metainfo": {"classes": classes}, "data_list": list(entries)}


def test_classes_and_labels(tmp_path: Path) -> None:
    manifest = load(write_openmmlab(tmp_path))
    assert manifest.classes == ("cat", "dog", "never seen")
    assert rows(manifest) == [
        ("photos/a.jpg", "", ["cat", "dog"], []),
        ("photos/b.jpg", "", ["dog"], []),
        ("photos/c.jpg", "", [], []),
        ("photos/d.jpg", "", ["cat"], []),
    ]


def test_a_file_per_split(tmp_path: Path) -> None:
    for split in ("train", "val"):
        put(tmp_path / f"{split}.json", document(["cat"], {"img_path": f"{split}.jpg", "gt_label": 0}))
    assert [row[:3] for row in rows(load(tmp_path))] == [("train.jpg", "train", ["cat"]), ("val.jpg", "val", ["cat"])]
    put(tmp_path / "val.json", document(["dog"], {"img_path": "val.jpg", "gt_label": [0]}))
    with pytest.raises(DataError, match=r"val.json and .*train.json list different classes. Use files of one data set"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(["cat"], {"img_path": "a.jpg", "gt_label": [1]}), "image 1: label 1, but there are 1 classes, counted from 0"),
        (document(["cat"], {"img_path": "a.jpg", "gt_label": [-1]}), "image 1: label -1, but"),
        (document(["cat"], {"img_path": "a.jpg", "gt_label": [0.5]}), "image 1: '0.5' is not one of the 1 classes"),
        (document(["cat"], {"img_path": None, "gt_label": [0]}), "image 1: the image is missing, not a path"),
        (document(["cat"], {"img_path": ["a.jpg"], "gt_label": [0]}), "image 1: the image is list, not a path"),
        (document(["cat"], {"gt_label": [0]}), "cannot be read as OpenMMLab's JSON"),
        (document(["cat"], "a.jpg"), "cannot be read as OpenMMLab's JSON"),
        (document("cat", {"img_path": "a.jpg"}), "metainfo has no list of class names. Write"),
        (document([], {"img_path": "a.jpg"}), "metainfo has no list of class names. Write"),
        (document([["cat"]], {"img_path": "a.jpg"}), "metainfo has no list of class names. Write"),
        (document(["cat", "cat"], {"img_path": "a.jpg"}), "mine.json: the class name 'cat' appears twice"),
        (document(["cat", " "], {"img_path": "a.jpg"}), "class name ' ' is empty"),
        (document(["cat"]), "no image is listed"),
    ],
)
def test_contradictions(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(put(tmp_path / "mine.json", content))
