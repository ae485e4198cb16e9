from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.formats.source import Difficult, Reading
from sadcl_core.data.formats.voc import CLASSES
from sadcl_core.data.rows import Box
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import (
    draw,
    load,
    put,
    rows,
    voc_xml,
    write_voc_official,
    write_voc_own,
    write_voc_own_splits,
)


def test_the_official_layout_has_all_of_vocs_classes(tmp_path: Path) -> None:
    manifest = load(write_voc_official(tmp_path))
    assert manifest.classes == tuple(CLASSES)
    photos = "VOCdevkit/VOC2007/JPEGImages"
    assert rows(manifest) == [
        (f"{photos}/000005.jpg", "train", ["dog"], ["cat"]),
        (f"{photos}/000007.jpg", "test", ["cat"], []),
        (f"{photos}/000009.jpg", "train", [], []),
    ]


def test_own_classes_without_image_sets(tmp_path: Path) -> None:
    manifest = load(write_voc_own(tmp_path))
    assert manifest.classes == ("my cat", "my dog")
    assert rows(manifest) == [
        ("JPEGImages/000005.png", "", ["my dog"], ["my cat"]),
        ("JPEGImages/000007.png", "", ["my cat"], []),
        ("JPEGImages/000009.png", "", [], []),
    ]


def test_own_classes_with_image_sets(tmp_path: Path) -> None:
    manifest = load(write_voc_own_splits(tmp_path))
    assert [row[1] for row in rows(manifest)] == ["train", "val", "test"]


def test_boxes_are_in_pixels_counted_from_zero(tmp_path: Path) -> None:
    split = load(write_voc_own(tmp_path)).split("")
    assert split.boxes(0) == [Box(1, 1.0, 2.0, 4.0, 6.0)]
    assert split.boxes(2) == []


@pytest.mark.parametrize(
    ("difficult", "expected"),
    [
        ("ignore", (["my dog"], ["my cat"])),
        ("negative", (["my dog"], [])),
        ("positive", (["my cat", "my dog"], [])),
    ],
)
def test_what_difficult_says_can_be_chosen(tmp_path: Path, difficult: Difficult, expected: tuple[list[str], list[str]]) -> None:
    manifest = load(write_voc_own(tmp_path), reading=Reading(difficult=difficult))
    assert rows(manifest)[0][2:] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (voc_xml("a", ("", 0)), r"000005.xml: a label is empty"),
        (voc_xml("a", ("dog", 0)).replace("<xmin>2", "<xmin>nan"), "is not in pixels. Mend it"),
        (voc_xml("a", ("dog", 0)).replace("<xmin>2", "<xmin>1e300"), "is not in pixels. Mend it"),
        (voc_xml("a", ("dog", 0)).replace("<xmin>2</xmin>", ""), "cannot be read as a VOC annotation"),
        (voc_xml("a", ("dog", 0))[:-30], "cannot be read as a VOC annotation"),
        ("", "cannot be read as a VOC annotation"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "cannot be read as a VOC annotation"),
    ],
)
def test_a_damaged_annotation(tmp_path: Path, content: str, message: str) -> None:
    write_voc_own(tmp_path)
    put(tmp_path / "Annotations" / "000005.xml", content)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_an_annotation_in_the_encoding_it_names(tmp_path: Path, encoding: str) -> None:
    write_voc_own(tmp_path)
    head = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n'
    put(tmp_path / "Annotations" / "000009.xml", (head + voc_xml("000009", ("Bär", 0))).encode(encoding))
    assert rows(load(tmp_path))[2][2] == ["Bär"]


def test_xml_files_beside_images(tmp_path: Path) -> None:
    for split, name, text in (("train", "a", "cat"), ("train", "b", "dog"), ("valid", "c", "cat")):
        draw(tmp_path / split / f"{name}.jpg")
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>"
        xml = f"<annotation><filename>{name}.jpg</filename><object><name>{text}</name>{box}</object></annotation>"
        put(tmp_path / split / f"{name}.xml", xml)
    draw(tmp_path / "valid" / "d.jpg")
    manifest = load(tmp_path)
    assert rows(manifest) == [
        ("train/a.jpg", "train", ["cat"], []),
        ("train/b.jpg", "train", ["dog"], []),
        ("valid/c.jpg", "val", ["cat"], []),
        ("valid/d.jpg", "val", [], []),
    ]
    assert any("1 image without a .xml file of the same name" in note for note in manifest.description.notes)
    put(tmp_path / "train" / "a.xml", "<annotation>")
    with pytest.raises(DataError, match=r"a\.xml cannot be read as a VOC annotation"):
        load(tmp_path)
