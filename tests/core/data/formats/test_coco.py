from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.prepare.export import write_coco
from sadcl_core.data.rows import Box, Record
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import (
    draw_all,
    load,
    put,
    rows,
    write_coco_official,
    write_coco_roboflow,
    write_coco_single,
)


def test_the_official_layout(tmp_path: Path) -> None:
    manifest = load(write_coco_official(tmp_path))
    assert manifest.classes == ("car", "dog")
    assert manifest.description.superclasses == ("vehicle", "animal")
    assert rows(manifest) == [
        (f"{split}2017/{split}_{k}.jpg", split, labels, [])
        for split in ("train", "val")
        for k, labels in enumerate([["car", "dog"], ["dog"], []])
    ]


def test_boxes_are_in_pixels_and_an_image_without_objects_has_none(tmp_path: Path) -> None:
    split = load(write_coco_single(tmp_path)).split("")
    assert split.boxes(0) == [Box(1, 1.0, 2.0, 3.0, 4.0), Box(0, 0.0, 0.0, 8.0, 8.0)]
    assert split.boxes(1) == [Box(1, 2.5, 2.5, 2.0, 2.0), Box(1, 0.0, 0.0, 1.0, 1.0)]
    assert split.boxes(2) == []


def test_a_single_file_and_its_folder_of_images(tmp_path: Path) -> None:
    assert rows(load(write_coco_single(tmp_path))) == [
        ("images/a.jpg", "", ["car", "dog"], []),
        ("images/b.jpg", "", ["dog"], []),
        ("images/c.jpg", "", [], []),
    ]


def test_roboflows_files_beside_the_images_of_each_split(tmp_path: Path) -> None:
    manifest = load(write_coco_roboflow(tmp_path))
    assert manifest.split_sizes == {"train": 2, "val": 2, "test": 2}
    assert rows(manifest)[-1] == ("valid/valid-1_jpg.rf.0a1b.jpg", "val", ["dog"], [])
    assert not manifest.description.notes


@pytest.mark.parametrize("splits", [("fold1", "fold2"), ("train", "extra"), ("train", "test", "val"), ("all", "x/y")])
def test_what_was_written_with_ones_own_splits_is_read_the_same(tmp_path: Path, splits: tuple[str, ...]) -> None:
    draw_all(tmp_path / "photos", names := [f"{k}.png" for k in range(6)])
    records = [Record(name, splits[k % len(splits)], (k % 2,), (2,), ()) for k, name in enumerate(names)]
    manifest = Manifest.from_records(Description("mine", tmp_path / "photos", ("cat", "dog", "cow")), records)
    write_coco(manifest, tmp_path / "out")
    assert rows(load(tmp_path / "out", data=tmp_path / "photos")) == rows(manifest)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    document = json.loads(path.read_text())
    change(document)
    return put(path, document)


def test_a_crowd_and_an_annotation_without_a_box_are_labels(tmp_path: Path) -> None:
    path = write_coco_single(tmp_path)
    edit(
        path, lambda d: (d["annotations"][1].update(iscrowd=1), d["annotations"][2].pop("bbox"), d["annotations"][3].pop("bbox"))
    )
    assert [row[2] for row in rows(load(path))] == [["car", "dog"], ["dog"], []]


def test_unknown_categories_that_this_program_wrote(tmp_path: Path) -> None:
    path = edit(write_coco_single(tmp_path), lambda d: d["images"][2].update(unknown_category_ids=[3], split="valid"))
    assert rows(load(path))[2] == ("images/c.jpg", "val", [], ["car"])


def test_labels_alone_without_annotations(tmp_path: Path) -> None:
    path = edit(write_coco_single(tmp_path), lambda d: d.update(annotations=[]))
    assert [row[2] for row in rows(load(path))] == [[], [], []]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_with_a_mark_of_its_encoding(tmp_path: Path, encoding: str) -> None:
    path = write_coco_single(tmp_path)
    path.write_text(path.read_text(), encoding=encoding)
    assert load(path).classes == ("car", "dog")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["images"][1].update(id=100), "several images have the id 100. Give each its own"),
        (lambda d: d["categories"][1].update(id=7), "several categories have the id 7. Give each its own"),
        (lambda d: d["categories"][1].update(name="dog"), "class name 'dog' appears twice. Rename"),
        (lambda d: d["annotations"][1].update(id=0, image_id=5), "annotation 0 belongs to the unknown image 5. Mend"),
        (lambda d: d["annotations"][1].update(id=0, category_id=-3), "annotation 0 has the unknown category -3. Mend"),
        (lambda d: d["annotations"][0].update(bbox=[float("nan"), 0, 1, 1]), "image 100: the box nan, 0, 1, 1 is not in pixels"),
        (lambda d: d["annotations"][0].update(bbox=[0, 0, 1e300, 1]), "is not in pixels"),
        (lambda d: d["images"][1].update(file_name="a.jpg"), r"image 101: a.jpg was listed in row 1 with other labels"),
        (lambda d: d["images"][1].update(file_name=None), "image 101: the image is missing, not a path"),
        (lambda d: d["images"][0].update(unknown_category_ids=[8]), "image 100 has the unknown category 8"),
        (lambda d: d.update(categories=[{"id": k, "name": str(k)} for k in range(30_000)]), "30,000 categories, more than"),
    ],
)
def test_contradictions(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    path = edit(write_coco_single(tmp_path), change)
    with pytest.raises(DataError, match=message):
        load(path)


def test_a_class_may_have_the_name_of_the_category_that_roboflow_puts_above_it(tmp_path: Path) -> None:
    path = write_coco_single(tmp_path)
    document = json.loads(path.read_text())
    names = [category["name"] for category in document["categories"]]
    below = [{**category, "supercategory": names[0]} for category in document["categories"]]
    put(path, {**document, "categories": [{"id": 0, "name": names[0], "supercategory": "none"}, *below]})
    assert sorted(load(path).classes) == sorted(names)


def test_the_category_that_roboflow_puts_above_all_others_is_no_class(tmp_path: Path) -> None:
    write_coco_roboflow(tmp_path)
    categories = [
        {"id": 0, "name": "animals-x1", "supercategory": "none"},
        {"id": 3, "name": "car", "supercategory": "animals-x1"},
        {"id": 7, "name": "dog", "supercategory": "animals-x1"},
    ]
    for split in ("train", "valid", "test"):
        path = tmp_path / split / "_annotations.coco.json"
        put(path, {**json.loads(path.read_text()), "categories": categories})
    manifest = load(tmp_path)
    assert manifest.classes == ("car", "dog")
    assert any("animals-x1 is no class" in note for note in manifest.description.notes)
    document = json.loads((tmp_path / "train" / "_annotations.coco.json").read_text())
    document["annotations"][0]["category_id"] = 0
    assert load(put(tmp_path / "mine.json", document), data=tmp_path).classes == ("animals-x1", "car", "dog")


def test_in_lvis_only_what_was_verified_is_absent(tmp_path: Path) -> None:
    draw_all(tmp_path / "val2017", ["1.jpg", "2.jpg"])
    document = {
        "images": [
            {"id": 1, "coco_url": "http://images.cocodataset.org/val2017/1.jpg", "neg_category_ids": [2]},
            {"id": 2, "coco_url": "http://images.cocodataset.org/val2017/2.jpg", "neg_category_ids": []},
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": k, "name": name} for k, name in ((1, "a"), (2, "b"), (3, "c"))],
    }
    manifest = load(put(tmp_path / "lvis_v1_val.json", document))
    assert rows(manifest) == [("val2017/1.jpg", "val", ["a"], ["c"]), ("val2017/2.jpg", "val", [], ["a", "b", "c"])]


def test_segments_of_a_panoptic_file(tmp_path: Path) -> None:
    draw_all(tmp_path / "val2017", ["1.jpg", "2.jpg"])
    segments = [{"id": 7, "category_id": 1, "bbox": [1, 1, 2, 2]}, {"id": 8, "category_id": 5, "bbox": [0, 0, 3, 3]}]
    document = {
        "images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}],
        "annotations": [
            {"image_id": 1, "file_name": "1.png", "segments_info": segments},
            {"image_id": 2, "file_name": "2.png", "segments_info": segments[:1]},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 5, "name": "sky"}],
    }
    manifest = load(put(tmp_path / "panoptic_val2017.json", document))
    assert [row[2] for row in rows(manifest)] == [["person", "sky"], ["person"]]
