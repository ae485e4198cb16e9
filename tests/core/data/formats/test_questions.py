"""Tables and texts that looked like others: they are read as they were meant, or are a question whose answer works."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sadcl_core.data.formats.source import Reading
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import coco_document, draw_all, load, put, put_lines, rows, write_yolo

NAMES = [f"{k}.jpg" for k in range(6)]


def labels(path: Path, reading: Reading = Reading()) -> list[list[str]]:  # noqa: B008
    return [row[2] for row in rows(load(path, reading=reading))]


def table(folder: Path, cells: Sequence[Any], header: str = "image,labels", name: str = "mine.csv") -> Path:
    """A table with a row for each of the first images, of which the cells are given as text."""
    draw_all(folder, NAMES)
    lines = [f"{image},{cell}" for image, cell in zip(NAMES, cells, strict=False)]
    return put(folder / name, "\n".join([header, *lines]) if header else "\n".join(lines))


def texts(folder: Path, contents: Sequence[str]) -> Path:
    """A text beside each image."""
    draw_all(folder / "images", NAMES)
    for image, content in zip(NAMES, contents, strict=False):
        put(folder / "labels" / f"{image[:-4]}.txt", content)
    return folder


# ---- what programs write where a label is missing


@pytest.mark.parametrize("missing", ["<NA>", "\\N", "#N/A", "(null)", "[nan]", "character(0)", "list()"])
def test_what_programs_write_without_labels_is_no_class(tmp_path: Path, missing: str) -> None:
    assert labels(table(tmp_path, ["cat;dog", missing, "dog"])) == [["cat", "dog"], [], ["dog"]]


@pytest.mark.parametrize("word", ["NA", "None", "none", "-", "empty"])
def test_a_class_that_may_be_no_label_is_said_with_what_drops_it(tmp_path: Path, word: str) -> None:
    path = table(tmp_path, ["cat;dog", word, "dog"])
    manifest = load(path)
    assert word in manifest.classes
    (note,) = [note for note in manifest.description.notes if "stands for no label" in note]
    assert f"--drop={word}" in note
    dropped = prepare(path, drop=[word], output=tmp_path / "out", split="train").manifest
    assert [row[2] for row in rows(dropped)] == [["cat", "dog"], [], ["dog"]]


def test_whole_numbers_of_a_column_with_missing_cells_are_those_of_another_table(tmp_path: Path) -> None:
    draw_all(tmp_path, NAMES)
    train = put(tmp_path / "train.csv", "image,label\n0.jpg,3.0\n1.jpg,\n2.jpg,10.0\n")
    test = put(tmp_path / "test.csv", "image,label\n3.jpg,3\n4.jpg,10\n")
    manifest = load(f"train={train}", f"test={test}")
    assert manifest.classes == ("3", "10")
    put(tmp_path / "classes.txt", "\n".join("abcd"))
    assert labels(put(tmp_path / "mine.csv", "image,label\n0.jpg,3.0\n1.jpg,\n2.jpg,1.0\n")) == [["d"], [], ["b"]]


def test_lists_of_r(tmp_path: Path) -> None:
    path = put(
        tmp_path / "mine.csv", '"image","labels"\n"0.jpg","c(""cat"", ""hot dog"")"\n"1.jpg","cat"\n"2.jpg","character(0)"\n'
    )
    draw_all(tmp_path, NAMES[:3])
    assert labels(path) == [["cat", "hot dog"], ["cat"], []]


# ---- splits


@pytest.mark.parametrize("name", ["data_split", "dataset", "Split Type", "group", "fold", "train/test"])
def test_a_column_of_names_of_splits_is_one_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    path = table(tmp_path, ["cat,train", "dog,VALIDATE", "cat,Test set"], header=f"image,labels,{name}")
    assert [row[1] for row in rows(load(path))] == ["train", "val", "test"]
    path = table(tmp_path, ["1,0,train", "0,1,val", "1,0,test"], header=f"image,cat,dog,{name}")
    assert [row[1] for row in rows(load(path))] == ["train", "val", "test"]
    assert [row[1] for row in rows(load(path, reading=Reading(split_column="none")))] == ["", "", ""]


def test_two_columns_of_names_of_splits_are_a_question(tmp_path: Path) -> None:
    path = table(tmp_path, ["cat,train,test", "dog,test,train"], header="image,labels,first,second")
    with pytest.raises(DataError, match="columns first, second hold names of splits"):
        load(path)
    assert [row[1] for row in rows(load(path, reading=Reading(split_column="second")))] == ["test", "train"]


@pytest.mark.parametrize("name", ["usage", "set", "phase", "subset"])
def test_a_column_called_as_splits_that_holds_other_words_is_a_question(tmp_path: Path, name: str) -> None:
    path = table(tmp_path, ["cat,Casual", "dog,Sports", "cat,Casual"], header=f"image,labels,{name}")
    with pytest.raises(DataError, match=f"column '{name}' may name splits, but holds 'casual'"):
        load(path)
    assert {row[1] for row in rows(load(path, reading=Reading(split_column="none")))} == {""}
    assert {row[1] for row in rows(load(path, reading=Reading(split_column=name)))} == {"Casual", "Sports"}


@pytest.mark.parametrize(
    ("name", "there", "elsewhere"), [("valid", "val", "train"), ("test", "test", "train"), ("train", "train", "test")]
)
def test_a_column_of_1_and_0_beside_labels_that_may_say_the_split(tmp_path: Path, name: str, there: str, elsewhere: str) -> None:
    path = table(tmp_path, ["cat,True", "dog,False", "cat,False"], header=f"image,labels,{name}")
    with pytest.raises(DataError, match=f"Say --split-column {name} if it does, or --split-column none"):
        load(path)
    assert [row[1] for row in rows(load(path, reading=Reading(split_column=name)))] == [there, elsewhere, elsewhere]
    assert [row[1] for row in rows(load(path, reading=Reading(split_column="none")))] == ["", "", ""]


def test_a_class_called_train_is_one(tmp_path: Path) -> None:
    path = table(tmp_path, ["1,0", "0,1"], header="image,train,bus")
    assert load(path).classes == ("train", "bus")


# ---- labels that are not all there


def test_labels_that_were_rejected_are_refused_and_as_values_absent(tmp_path: Path) -> None:
    draw_all(tmp_path, NAMES[:2])
    objects = [{"image": "0.jpg", "label": "cat", "answer": "accept"}, {"image": "1.jpg", "label": "cat", "answer": "reject"}]
    with pytest.raises(DataError, match="column 'answer' says of some rows that they were rejected or ignored"):
        load(put_lines(tmp_path / "mine.jsonl", objects))
    values = [{"image": entry["image"], "label": "cat", "value": int(entry["answer"] == "accept")} for entry in objects]
    assert labels(put_lines(tmp_path / "mine.jsonl", values), Reading(long=True)) == [["cat"], []]


@pytest.mark.parametrize(("key", "low"), [("value", 0), ("confidence", 0.05), ("score", 0.1)])
def test_labels_with_a_low_value_are_refused_and_as_objects_read(tmp_path: Path, key: str, low: float) -> None:
    draw_all(tmp_path, NAMES[:2])
    lists = [[{"name": "cat", key: 1}, {"name": "dog", key: low}], [{"name": "cat", key: low}, {"name": "dog", key: 1}]]
    path = put_lines(tmp_path / "mine.jsonl", ({"image": image, "labels": own} for image, own in zip(NAMES, lists, strict=False)))
    with pytest.raises(DataError, match=f'label "dog" has the {key} {low}, so it may not be there'):
        load(path)
    objects = [{entry["name"]: entry[key] for entry in own} for own in lists]
    path = put_lines(
        tmp_path / "mine.jsonl", ({"image": image, "labels": own} for image, own in zip(NAMES, objects, strict=False))
    )
    assert labels(path, Reading(threshold=0.5)) == [["cat"], ["dog"]]


def test_values_in_a_column_beside_the_labels_are_a_question(tmp_path: Path) -> None:
    path = table(tmp_path, ["cat;dog,0.9;0.1", "dog;cat,0.8;0.2"], header="image,labels,scores")
    with pytest.raises(DataError, match="column 'scores' may hold a value for each label of its row"):
        load(path)
    assert labels(path, Reading(label_column="labels")) == [["cat", "dog"], ["cat", "dog"]]


@pytest.mark.parametrize("cells", [["cat=yes;dog=no", "cat=no;dog=yes"], ["cat:True,dog:False", "cat:False,dog:True"]])
def test_labels_with_yes_or_no_are_refused(tmp_path: Path, cells: list[str]) -> None:
    with pytest.raises(DataError, match="is a label with its value"):
        load(table(tmp_path, [f'"{cell}"' for cell in cells]))


@pytest.mark.parametrize("no", ["-", "no ", "not_", "!"])
def test_labels_with_their_contrary_are_refused(tmp_path: Path, no: str) -> None:
    path = table(tmp_path, [f"cat;{no}dog", f"{no}cat;dog", "cat;dog"])
    with pytest.raises(DataError, match="all labels with their contraries"):
        load(path)
    assert len(load(path, reading=Reading(delimiter=";")).classes) == 4
    assert labels(table(tmp_path, ["cat;no finding", "dog", "cat;dog"]))[0] == ["cat", "no finding"]


# ---- numbers that are measures


def test_run_lengths_are_no_classes(tmp_path: Path) -> None:
    draw_all(tmp_path, [f"{k}.jpg" for k in range(30)])
    lines = [f"{k}.jpg,{1000 + 37 * k} {k % 7 + 1} {5000 + 91 * k} {k % 5 + 1}" for k in range(30)]
    path = put(tmp_path / "train.csv", "\n".join(["ImageId,EncodedPixels", *lines]))
    with pytest.raises(DataError, match="numbers of which most come in one image alone"):
        load(path)
    lines = [f"{k}.jpg,{k % 7} {7 + k % 5}" for k in range(30)]
    assert len(load(put(tmp_path / "train.csv", "\n".join(["image,attribute_ids", *lines]))).classes) == 12


def test_labels_that_are_identifiers_are_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, [f"{k}.jpg" for k in range(50)])
    path = put(tmp_path / "mine.txt", "".join(f"{k}.jpg Annotations/{k}.xml\n" for k in range(50)))
    with pytest.raises(DataError, match="every image has a label that no other has"):
        load(path)
    put(path, "".join(f"{k}.jpg Annotations/{k % 49}.xml\n" for k in range(50)))
    assert len(load(path).classes) == 49


@pytest.mark.parametrize(
    "lines",
    [
        ["137;582;821;867;1", "261;1;90;120;2"],
        ["640;480;cat", "320;200;dog"],
        ["cat;0.93", "dog;0.81"],
        ["cat;2024-01-31", "dog;2024-02-01"],
        ["3;cat", "4;dog"],
    ],
)
def test_measures_in_a_table_without_header_are_a_question(tmp_path: Path, lines: list[str]) -> None:
    draw_all(tmp_path, NAMES[:2])
    path = put(tmp_path / "mine.csv", "".join(f"{image};{line}\n" for image, line in zip(NAMES, lines, strict=False)))
    with pytest.raises(DataError, match="may be a label, or a measure"):
        load(path)


@pytest.mark.parametrize("cell", ["n01440764 13 24 300 180", "243,606,557,133,person", "50,100,150,20,0 30,50,200,12,3"])
def test_boxes_in_a_cell_are_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match="holds numbers such as those of a box"):
        load(table(tmp_path, [f'"{cell}"', f'"{cell}"'], header="image,PredictionString"))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("684,8,273,116,0,4,0,0\n", "numbers such as those of a box"),  # VisDrone
        ("Car 0.00 0 -1.57 614.24 181.78 727.31 284.77 1.57\n", "numbers such as those of a box"),  # KITTI
        ("10.0 5.0 20.0 5.0 20.0 9.0 10.0 9.0 plane 0\n", "numbers such as those of a box"),  # DOTA
        ('{"tags": ["cat"]}', "hold JSON"),
        ("cat:1\ncat:0\n", "is a label with its value"),
        ("label,score\ncat,0.9\ndog,0.02\n", "they are fractions"),
    ],
)
def test_texts_beside_images_that_hold_no_tags_are_refused(tmp_path: Path, content: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        load(texts(tmp_path, [content] * 3))


def test_vectors_whose_first_zeros_a_spreadsheet_left_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0/1 vectors whose first zeros a spreadsheet left out"):
        load(table(tmp_path, [10, 1000, 1, 110, 11, 100]))


# ---- separators


def test_a_separator_within_parentheses_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, ['"person (sitting, standing), car"', "car", '"car, dog"', "dog"])
    with pytest.raises(DataError, match="stands within parentheses as well"):
        load(path)
    assert labels(table(tmp_path, ['"person (sitting, standing);car"', "car", "car;dog", "dog"]))[0] == [
        "car",
        "person (sitting, standing)",
    ]


@pytest.mark.parametrize("header", ["", "image labels\n"])
def test_labels_of_several_words_behind_the_first_space(tmp_path: Path, header: str) -> None:
    draw_all(tmp_path, NAMES[:3])
    path = put(tmp_path / "mine.txt", f"{header}0.jpg traffic light, dog\n1.jpg dog\n2.jpg cat, traffic light\n")
    assert labels(path) == [["dog", "traffic light"], ["dog"], ["cat", "traffic light"]]


# ---- images


@pytest.mark.parametrize(("folder", "suffix"), [("masks", ".png"), ("images", ".png"), ("train_masks", ".bmp")])
def test_images_of_one_name_and_other_extensions_are_a_question(tmp_path: Path, folder: str, suffix: str) -> None:
    draw_all(tmp_path / ("images" if folder == "images" else "pictures"), ["a.tiff", "b.tiff"])
    draw_all(tmp_path / folder, [f"a{suffix}", f"b{suffix}"])
    path = put(tmp_path / "mine.csv", "image_id,labels\na,cat\nb,dog\n")
    with pytest.raises(DataError, match=re.escape(f"*{suffix}")):
        load(path)
    if folder != "images":
        assert [row[0] for row in rows(load(path, data=tmp_path / "pictures"))] == ["a.tiff", "b.tiff"]
    path = put(tmp_path / "mine.csv", "image_id,labels\na.tiff,cat\nb.tiff,dog\n")
    assert [Path(row[0]).name for row in rows(load(path))] == ["a.tiff", "b.tiff"]


def test_the_index_of_pandas_in_parquet_is_no_column_of_classes(tmp_path: Path) -> None:
    draw_all(tmp_path, NAMES[:3])
    columns = {"image": NAMES[:3], "cat": [True, False, True], "dog": [False, True, True], "__index_level_0__": [0, 2, 4]}
    pq.write_table(pa.table(columns), tmp_path / "mine.parquet")
    assert labels(tmp_path / "mine.parquet") == [["cat"], ["dog"], ["cat", "dog"]]


def test_scores_of_coco_annotations_are_said(tmp_path: Path) -> None:
    draw_all(tmp_path, ["a.jpg"])
    annotations = [
        {"id": k, "image_id": 1, "category_id": k, "bbox": [0, 0, 4, 4], "score": score} for k, score in ((1, 0.9), (2, 0.02))
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": annotations, "categories": categories}
    manifest = load(put(tmp_path / "mine.json", json.dumps(content)))
    assert any("annotations have scores, the lowest 0.02" in note for note in manifest.description.notes)


def test_annotations_of_coco_that_are_to_be_ignored_are_said(tmp_path: Path) -> None:
    document = coco_document(["1.jpg", "2.jpg"])
    document["annotations"][0]["ignore"] = 1
    notes = load(put(tmp_path / "mine.json", document)).description.notes
    assert any("1 annotation to be ignored in detection, which count as labels" in note for note in notes)


def test_confidences_of_yolo_are_said(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    put(tmp_path / "labels" / "train" / "a.txt", "1 0.5 0.5 0.2 0.3 0.04\n0 0.5 0.5 0.2 0.3 0.9\n")
    assert "boxes have confidences, the lowest 0.04, and all of them count as labels" in load(tmp_path).description.notes


def test_a_column_of_numbers_of_no_usual_name_is_a_question(tmp_path: Path) -> None:
    path = table(tmp_path, [12, 10, 12, 16, 10, 12], header="image,price")
    with pytest.raises(DataError, match=r"'price' holds numbers alone.*--label-column price, or .*--classes FILE"):
        load(path)
    assert labels(path, Reading(label_column="price"))[0] == ["12"]
    assert labels(table(tmp_path, [12, 10, 12], header="image,labels"))[0] == ["12"]
