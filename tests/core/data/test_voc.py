from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.formats.source import Source
from sadcl_core.data.formats.voc import CLASSES, read
from sadcl_core.data.rows import Box
from sadcl_core.errors import DataError
from tests.conftest import make_voc, voc_object

INDEX = {name: place for place, name in enumerate(CLASSES)}
SPLITS = {
    "trainval": {"000001": [voc_object("dog"), voc_object("cat", difficult=1)], "000002": []},
    "test": {"000003": [voc_object("dog"), voc_object("dog", difficult=1)]},
}


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return make_voc(tmp_path / "voc", SPLITS)


def test_difficult_is_unknown_unless_another_is_not(voc: Path) -> None:
    manifest = read(Source("voc2007", voc))
    assert manifest.splits == ["train", "test"]
    train, test = manifest.split("train"), manifest.split("test")
    assert train.active(0) == [INDEX["dog"]]
    assert train.targets(0)[INDEX["cat"]] == -1
    assert train.labels_per_image().tolist() == [1, 0]
    assert test.targets(0)[INDEX["dog"]] == 1
    assert train.boxes(0) == [Box(INDEX["dog"], 2.0, 4.0, 10.0, 16.0)]


@pytest.mark.parametrize("inside", ["VOCdevkit", "VOCdevkit/VOC2007"])
def test_any_level_of_the_devkit(voc: Path, inside: str) -> None:
    split = read(Source("voc2007", voc / inside)).split("train")
    assert split.path(0).is_file()


def test_without_annotated_test_part_uses_train_and_val(tmp_path: Path) -> None:
    splits = {"train": SPLITS["trainval"], "val": SPLITS["test"]}
    manifest = read(Source("voc2012", make_voc(tmp_path, splits, year="VOC2012")))
    assert manifest.splits == ["train", "val"]
    assert "tested on val" in manifest.description.notes[0]


def test_not_vocs_layout(tmp_path: Path, voc: Path) -> None:
    with pytest.raises(DataError, match="not in VOC's layout"):
        read(Source("voc2012", tmp_path))
    (voc / "VOCdevkit" / "VOC2007" / "JPEGImages").rename(voc / "gone")
    with pytest.raises(DataError, match="has no JPEGImages/"):
        read(Source("voc2007", voc))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"<annotation>{voc_object('unicorn')}</annotation>", "'unicorn' is not one of the 20 classes"),
        ("<annotation><object>", "cannot be read"),
        ("", "cannot be read"),
        ("<annotation><object><name>dog</name><bndbox><xmin>x</xmin></bndbox></object></annotation>", "cannot be read"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "entities"),
    ],
)
def test_damaged_annotation(voc: Path, content: str, message: str) -> None:
    (voc / "VOCdevkit" / "VOC2007" / "Annotations" / "000001.xml").write_text(content)
    with pytest.raises(DataError, match=message):
        read(Source("voc2007", voc))


def test_missing_annotation_and_strange_name(voc: Path) -> None:
    devkit = voc / "VOCdevkit" / "VOC2007"
    (devkit / "Annotations" / "000002.xml").unlink()
    with pytest.raises(DataError, match=r"000002.xml is missing"):
        read(Source("voc2007", voc))
    (devkit / "ImageSets" / "Main" / "trainval.txt").write_text("../../etc/passwd\n")
    with pytest.raises(DataError, match="not an image name"):
        read(Source("voc2007", voc))
