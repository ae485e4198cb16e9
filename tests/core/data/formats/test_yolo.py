from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.rows import Box
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import Row, draw, load, put, rows, write_yolo, write_yolo_flat, write_yolo_roboflow

BOXES = [Box(1, 3.0, 2.0, 2.0, 4.0), Box(0, 0.0, 0.0, 2.0, 4.0)]


def test_split_folders_below_images_and_labels(tmp_path: Path) -> None:
    manifest = load(write_yolo(tmp_path))
    assert manifest.classes == ("cat", "dog")
    assert rows(manifest) == [
        ("images/train/a.jpg", "train", ["cat", "dog"], []),
        ("images/train/b.jpg", "train", ["dog"], []),
        ("images/val/c.jpg", "val", [], []),
        ("images/val/d.jpg", "val", [], []),
    ]


@pytest.mark.parametrize("named", ["", "data.yaml"])
def test_images_and_labels_below_split_folders_as_roboflow_has_them(tmp_path: Path, named: str) -> None:
    assert rows(load(write_yolo_roboflow(tmp_path) / named)) == [
        ("train/images/a.jpg", "train", ["cat", "dog"], []),
        ("train/images/b.jpg", "train", ["dog"], []),
        ("valid/images/c.jpg", "val", [], []),
        ("valid/images/d.jpg", "val", [], []),
    ]


def test_texts_beside_images(tmp_path: Path) -> None:
    manifest = load(write_yolo_flat(tmp_path))
    assert [row[1:3] for row in rows(manifest)] == [("", ["cat", "dog"]), ("", ["dog"]), ("", []), ("", [])]


def test_an_empty_text_first_says_nothing_of_the_format(tmp_path: Path) -> None:
    draw(tmp_path / "0.jpg")
    put(tmp_path / "0.txt", "")
    assert load(write_yolo_flat(tmp_path)).classes == ("cat", "dog")


def test_boxes_and_the_extent_of_polygons_are_in_pixels(tmp_path: Path) -> None:
    split = load(write_yolo_flat(tmp_path)).split("")
    assert split.boxes(0) == BOXES
    assert split.boxes(1) == [Box(1, 2.0, 2.0, 4.0, 6.0)]
    assert split.boxes(2) == []


def test_a_description_of_another_name_is_read_where_it_is_named(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    assert load((tmp_path / "data.yaml").rename(tmp_path / "animals.yaml")).split_sizes == {"train": 2, "val": 2}


def test_words_that_yaml_takes_for_truth_and_numbers_stay_names(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    put(tmp_path / "data.yaml", "train: images/train\nval: ~\nnames: [no, 007, 1.10, null]\n")
    assert load(tmp_path).classes == ("no", "007", "1.10", "null")


def test_the_same_images_in_two_splits_are_in_both(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    put(tmp_path / "data.yaml", "train: images/train\nval: images/train\nnames: [cat, dog]\n")
    assert load(tmp_path).split_sizes == {"train": 2, "val": 2}


def test_a_test_part_that_is_named_and_not_there(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    put(tmp_path / "data.yaml", "train: [images/train, images/val]\ntest: images/test\nnames: [cat, dog]\n")
    assert load(tmp_path).split_sizes == {"train": 4}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", r"a.txt, row 1: label 2, but there are 2 classes, counted from 0"),
        ("-1 0.5 0.5 0.1 0.1", r"a.txt, row 1: label -1, but"),
        ("0 0.5 0.5 0.1", r"a.txt, row 1 has 3 numbers after the class. Write: class x y width height"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "has 7 numbers after the class"),
        ("0 50 50 10 10", "is not in shares of the image, from 0 to 1"),
        ("0 nan 0.5 0.1 0.1", "is not in shares of the image"),
        ("cat 0.5 0.5 0.1 0.1", "is no box. Write: class x y width height"),
        ("9" * 5000 + " 0.5 0.5 0.1 0.1", "is no box. Write: class x y width height"),
    ],
)
def test_a_line_that_is_no_box(tmp_path: Path, line: str, message: str) -> None:
    write_yolo_flat(tmp_path)
    put(tmp_path / "a.txt", f"{line}\n")
    with pytest.raises(DataError, match=message):
        load(tmp_path, expected="yolo")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: cat\n", "names is not a list of class names"),
        ("names:\n", "names is not a list of class names"),
        ("names: {0: cat, 2: dog}\n", "names is not a list of class names, or leaves a number out"),
        ("names: [[cat]]\n", "names is not a list of class names"),
        ("names: [cat, cat]\n", "class name 'cat' appears twice"),
        ("names: []\n", r"names no classes. Add a data.yaml"),
        ("- names\n", "is no description of a data set"),
        ("names: [cat, dog]\ntrain: {a: b}\n", "train or path is no path. Write train: images/train"),
        ("names: [cat, dog]\ntrain: images/train\npath: [a]\n", "train or path is no path"),
        ("names: [cat, dog]\nval: nowhere\n", "val: nowhere is not below .*. Mend the path"),
        ("names: [cat, dog]\nval: ../../../etc\n", "val: ../../../etc is not below"),
        ("names: [cat, dog\n", "cannot be read as YAML"),
        ("names: &a [cat, dog]\ntrain: *a\n", "the alias"),
    ],
)
def test_a_description_that_is_none(tmp_path: Path, content: str, message: str) -> None:
    write_yolo(tmp_path)
    put(tmp_path / "data.yaml", content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "data.yaml")


def test_boxes_without_names_of_classes(tmp_path: Path) -> None:
    write_yolo_flat(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"names no classes. Add a data.yaml with names: \[cat, dog\], or a classes.txt"):
        load(tmp_path)


@pytest.mark.parametrize("line", ["../../etc/passwd", "/etc/passwd", "a/../../b.jpg"])
def test_a_list_that_leads_out_of_the_folder(tmp_path: Path, line: str) -> None:
    write_yolo(tmp_path)
    put(tmp_path / "train.txt", f"images/train/a.jpg\n{line}\n")
    put(tmp_path / "data.yaml", "train: train.txt\nnames: [cat, dog]\n")
    with pytest.raises(DataError, match=r"train.txt, row 2: .* lie.* --data DIR"):
        load(tmp_path)


def test_texts_in_a_folder_of_any_name_beside_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(tmp_path / "images" / f"{name}.jpg")
        put(tmp_path / "object_detection" / f"{name}.txt", "1 0.5 0.5 0.25 0.5\n")
    put(tmp_path / "object_detection" / "config.yaml", "task: object_detection\nnames: [cat, dog]\n")
    assert rows(load(tmp_path)) == [("images/a.jpg", "", ["dog"], []), ("images/b.jpg", "", ["dog"], [])]


def test_darknet(tmp_path: Path) -> None:
    """As CVAT exports it: the paths in the lists begin with a folder that is not there."""
    for name in ("a", "b"):
        draw(tmp_path / "obj_train_data" / f"{name}.jpg")
        put(tmp_path / "obj_train_data" / f"{name}.txt", "1 0.5 0.5 0.25 0.5\n")
    put(tmp_path / "obj.names", "cat\ndog\n")
    put(
        tmp_path / "obj.data",
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n",
    )
    put(tmp_path / "train.txt", "data/obj_train_data/a.jpg\n")
    put(tmp_path / "valid.txt", "data/obj_train_data/b.jpg\n")
    expected: list[Row] = [("obj_train_data/a.jpg", "train", ["dog"], []), ("obj_train_data/b.jpg", "val", ["dog"], [])]
    assert rows(load(tmp_path)) == expected
    (tmp_path / "obj.data").unlink()
    assert [row[2] for row in rows(load(tmp_path))] == [["dog"], ["dog"]]


def test_images_and_texts_without_the_other_are_counted(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    put(tmp_path / "labels" / "train" / "gone.txt", "1 0.5 0.5 0.25 0.5\n")
    notes = load(tmp_path).description.notes
    assert "left out 1 label file without an image (gone.txt)" in notes
    assert "1 image without a label file, so without labels" in notes


def test_the_darknet_export_of_roboflow(tmp_path: Path) -> None:
    draw(tmp_path / "train" / "a.jpg")
    put(tmp_path / "train" / "a.txt", "1 0.5 0.5 0.2 0.2\n")
    put(tmp_path / "train" / "_darknet.labels", "cat\ndog\n")
    manifest = load(tmp_path)
    assert (manifest.classes, rows(manifest)[0][2]) == (("cat", "dog"), ["dog"])


@pytest.mark.parametrize(
    ("images", "texts"),
    [("img", "annotations"), ("JPEGImages", "labels"), ("Images", "Labels"), ("train/imgs", "train/txt"), (".", "labels")],
)
def test_folders_of_any_names(tmp_path: Path, images: str, texts: str) -> None:
    for name in ("a", "b"):
        draw(tmp_path / images / f"{name}.jpg")
        put(tmp_path / texts / f"{name}.txt", "1 0.5 0.5 0.25 0.5\n")
    put(tmp_path / "data.yaml", "names: [cat, dog]\n")
    manifest = load(tmp_path)
    assert [row[2] for row in rows(manifest)] == [["dog"], ["dog"]]
    assert f"boxes from {texts}/, names of classes from data.yaml" in manifest.description.notes


def test_images_of_which_none_has_a_text_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    put(tmp_path / "elsewhere" / "b.txt", "0 0.5 0.5 0.25 0.5\n")
    put(tmp_path / "data.yaml", "names: [cat, dog]\n")
    with pytest.raises(DataError, match=r"none of the 1 image has a text with its boxes"):
        load(tmp_path)


def test_a_split_without_any_text_is_left_out(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    draw(tmp_path / "images" / "test" / "e.jpg")
    put(tmp_path / "data.yaml", "train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\n")
    manifest = load(tmp_path)
    assert manifest.split_sizes == {"train": 2, "val": 2}
    account = manifest.description.interpretation
    assert account is not None
    assert [(left.count, left.reason) for left in account.left_out] == [(1, "no image of split test has a label file")]


@pytest.mark.parametrize(
    ("name", "content"),
    [("animals.yaml", "names: [cat, dog]\n"), ("data/animals.names", "cat\ndog\n"), ("labels/classes.txt", "cat\ndog\n")],
)
def test_names_of_classes_in_other_places(tmp_path: Path, name: str, content: str) -> None:
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    put(tmp_path / name, content)
    put(tmp_path / "hyp.yaml", "lr0: 0.01\n")
    assert load(tmp_path).classes == ("cat", "dog")


def test_a_description_that_lies_elsewhere(tmp_path: Path) -> None:
    write_yolo(tmp_path / "mine")
    (tmp_path / "cfg").mkdir()
    path = (tmp_path / "mine" / "data.yaml").rename(tmp_path / "cfg" / "animals.yaml")
    put(path, "path: ../mine\ntrain: images/train\nnames: [cat, dog]\n")
    with pytest.raises(DataError, match=f"images/train is not below .*. Say --data {tmp_path / 'mine'}"):
        load(path)
    assert load(path, data=tmp_path / "mine").split_sizes == {"train": 2}
    with pytest.raises(DataError, match=f"names no classes, but {path} does. Name its folder, or the file and --data {tmp_path}"):
        load(tmp_path)


def test_names_of_classes_that_two_files_give_in_two_ways(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").rename(tmp_path / "animals.yaml")
    put(tmp_path / "other.yaml", "names: [dog, cat]\n")
    with pytest.raises(DataError, match=r"the classes have names in animals.yaml, other.yaml. Name the one that is meant"):
        load(tmp_path)


def test_a_box_with_points_and_a_class_as_a_fraction(tmp_path: Path) -> None:
    write_yolo_flat(tmp_path)
    put(tmp_path / "data.yaml", "kpt_shape: [17, 3]\nnames: [cat, dog]\n")
    put(tmp_path / "a.txt", "1.0 0.5 0.5 0.25 0.5" + " 0.1 0.1 2" * 17)
    assert load(tmp_path).split("").boxes(0) == [Box(1, 3.0, 2.0, 2.0, 4.0)]
