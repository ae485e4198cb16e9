from __future__ import annotations

import re
from pathlib import Path

import pytest

from sadcl_core.data.formats.detect import detect
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DataError, UsageError
from tests.core.data.formats.samples import FORMAT, SAMPLES, all_images_are_there, draw, load, put, rows, write_yolo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_detected_as_what_it_is_and_its_images_are_found(folder: Path, name: str) -> None:
    path = SAMPLES[name](folder)
    assert detect(path).format == FORMAT[name]
    assert detect(path, expected=FORMAT[name]).format == FORMAT[name]
    assert all_images_are_there(load(path))


@pytest.mark.parametrize("name", SAMPLES)
def test_the_folder_says_as_much_as_the_file_in_it(folder: Path, name: str) -> None:
    path = SAMPLES[name](folder)
    assert rows(load(path if path.is_dir() else path.parent)) == rows(load(path))


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_of_the_users_is_touched(folder: Path, name: str) -> None:
    path = SAMPLES[name](folder)
    before = {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")}
    load(path)
    assert {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")} == before


@pytest.mark.parametrize("name", ["csv", "yolo", "coco-roboflow", "labelstudio"])
def test_prepared_from_the_path_a_person_names(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    prepared = prepare(str(SAMPLES[name](folder)), split="train" if name == "labelstudio" else "")
    assert f"read as {FORMAT[name]}" in prepared.manifest.description.notes


def test_texts_that_only_speak_of_images_are_not_labels(folder: Path) -> None:
    put(folder / "README.txt", "image tags of ours\n\nfile, name, and path are told in the paper\n")
    put(folder / "classes.txt", "image quality\ncat\n")
    put(folder / "train.txt", "images/a.jpg\nimages/b.jpg\n")
    with pytest.raises(DataError, match="holds no labels in a known format"):
        detect(folder)


def test_a_json_line_of_something_else_is_not_labels(folder: Path) -> None:
    put(folder / "package.json", {"name": "mine", "version": "1"})
    with pytest.raises(DataError, match="holds no labels in a known format"):
        detect(folder)


def test_lists_of_images_do_not_hide_yolo(folder: Path) -> None:
    SAMPLES["yolo"](folder)
    put(folder / "train.txt", "./images/train/a.jpg\nimages/train/b.jpg\n")
    put(folder / "val.txt", f"{folder}/images/val/c.jpg\n")
    put(folder / "data.yaml", "train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    assert [row[:2] for row in rows(load(folder))] == [
        ("images/train/a.jpg", "train"),
        ("images/train/b.jpg", "train"),
        ("images/val/c.jpg", "val"),
    ]


def test_several_files_of_labels_are_not_chosen_from(folder: Path) -> None:
    for name in ("first.csv", "second.csv"):
        put(folder / name, "image,labels\na.jpg,cat\n")
    with pytest.raises(DataError, match=r"several files of labels: first.csv, second.csv. Name the one"):
        detect(folder)


def test_a_second_format_is_said_to_be_there(folder: Path) -> None:
    put(folder / "labels.csv", "image,labels\na.jpg,cat\n")
    put(folder / "labels.jsonl", '{"image": "a.jpg", "labels": ["cat"]}\n')
    assert "also there, and not read: csv (labels.csv)" in detect(folder).notes[0]
    assert detect(folder, expected="csv").format == "csv"


def test_the_texts_and_tables_beside_files_of_another_program_are_said_to_be_there(folder: Path) -> None:
    write_yolo(folder)
    xml = "<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>"
    put(folder / "annotations" / "a.xml", xml)
    put(folder / "labels.csv", "image,labels\na.jpg,cat\n")
    (note,) = detect(folder).notes
    assert note.startswith("read as labelimg; also there, and not read: yolo (the folder), csv (labels.csv)")
    assert detect(folder, expected="yolo").format == "yolo"


def test_one_file_per_split(folder: Path) -> None:
    for name in ("a", "b"):
        draw(folder / f"{name}.jpg")
        put(folder / f"{name}.csv", f"image,labels\n{name}.jpg,cat\n")
    assert rows(load(f"train={folder / 'a.csv'}", f"valid={folder / 'b.csv'}")) == [
        ("a.jpg", "train", ["cat"], []),
        ("b.jpg", "val", ["cat"], []),
    ]
    put(folder / "c.jsonl", '{"image": "a.jpg", "labels": ["cat"]}\n')
    with pytest.raises(DataError, match=r"of several formats: csv, jsonl. Give files of one format"):
        load(f"train={folder / 'a.csv'}", f"test={folder / 'c.jsonl'}")
    with pytest.raises(DataError, match=r"is a folder. Give one label file per split"):
        load(f"train={folder / 'a.csv'}", f"test={SAMPLES['yolo'](folder / 'yolo')}")


@pytest.mark.parametrize("name", ["train.csv", "trainval.csv", "train_labels.csv"])
def test_a_single_file_that_is_called_train_is_all_there_is(folder: Path, name: str) -> None:
    path = put(folder / name, "image,labels\na.jpg,cat\n")
    assert load(path).splits == load(folder).splits == [""]
    assert load(f"train={path}").splits == ["train"]
    put(folder / "val.csv", "image,labels\nb.jpg,cat\n")
    assert load(folder).splits == ["train", "val"]


def test_one_coco_file_that_is_called_train_is_all_there_is(folder: Path) -> None:
    SAMPLES["coco-official"](folder)
    path = folder / "annotations" / "instances_train2017.json"
    assert load(path, data=folder).splits == [""]
    assert all_images_are_there(load(path, data=folder))
    assert load(folder).splits == ["train", "val"]


def test_the_name_of_a_project_is_no_split(folder: Path) -> None:
    path = put(folder / "my_test_project" / "labels.csv", "image,labels\na.jpg,cat\n")
    assert load(path).splits == [""]
    assert load(put(folder / "valid" / "labels.csv", "image,labels\na.jpg,cat\n")).splits == ["val"]


def test_a_format_that_is_none(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no format called 'coko'. Did you mean 'coco'"):
        detect(folder, expected="coko")


def test_the_folder_of_which_a_file_or_folder_is_a_part_is_named(folder: Path) -> None:
    write_yolo(folder)
    for part in ("labels", "labels/train/a.txt"):
        with pytest.raises(DataError, match=rf"alone holds no labels in a known format, but {folder} does \(yolo\)"):
            detect(folder / part)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"shapes": [], "version": 1}', "a.json holds an object with the keys shapes, version"),
        ("a.json", "[1, 2]", "a.json holds a list of int"),
        ("a.txt", "nothing of this\n", "a.txt holds lines such as 'nothing of this'"),
        ("a.npy", "\0", "a.npy holds no text"),
    ],
)
def test_what_was_looked_at_is_said(folder: Path, name: str, content: str, message: str) -> None:
    put(folder / name, content)
    with pytest.raises(DataError, match=rf"holds no labels in a known format \({re.escape(message)}\)"):
        detect(folder)


def test_files_of_single_images_are_not_label_files(folder: Path) -> None:
    for name in ("a", "b"):
        draw(folder / f"{name}.jpg")
        put(folder / f"{name}.json", {"tags": ["cat"], "rating": "s"})
        put(folder / f"{name}.txt", "cat, dog\n")
    assert detect(folder).format == "captions"
