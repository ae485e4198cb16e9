from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.errors import DataError
from tests.core.data.formats.samples import draw, draw_all, load, put, rows

NAMES = ("1.jpg", "2.jpg")
SPLIT_TABLE = "image,labels,split\n1.jpg,cat,train\n2.jpg,dog,train\n1.jpg,dog,val\n2.jpg,cat,val\n"
SPLIT_LINES = (
    '{"image": "1.jpg", "labels": "cat", "split": "train"}\n{"image": "2.jpg", "labels": "dog", "split": "train"}\n'
    '{"image": "1.jpg", "labels": "dog", "split": "val"}\n{"image": "2.jpg", "labels": "cat", "split": "val"}\n'
)


@pytest.mark.parametrize(("name", "text"), [("labels.csv", SPLIT_TABLE), ("labels.jsonl", SPLIT_LINES)], ids=["csv", "jsonl"])
@pytest.mark.parametrize("folders", [("train", "val"), ("images/train", "images/val"), ("training", "valid")], ids="-".join)
def test_each_split_of_one_file_has_the_images_of_its_own_folder(
    tmp_path: Path, name: str, text: str, folders: tuple[str, str]
) -> None:
    for folder in folders:
        draw_all(tmp_path / folder, NAMES)
    assert rows(load(put(tmp_path / name, text))) == sorted(
        [
            (f"{folders[0]}/1.jpg", "train", ["cat"], []),
            (f"{folders[0]}/2.jpg", "train", ["dog"], []),
            (f"{folders[1]}/1.jpg", "val", ["dog"], []),
            (f"{folders[1]}/2.jpg", "val", ["cat"], []),
        ]
    )


def test_two_folders_with_images_of_the_same_names_are_not_chosen_from(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        draw_all(tmp_path / folder, NAMES)
    path = put(tmp_path / "labels.csv", "image,labels\n1.jpg,cat\n2.jpg,dog\n")
    with pytest.raises(DataError, match=r"1\.jpg and the other images are in a/ and in b/\. Say with --data DIR"):
        load(path)
    assert [row[0] for row in rows(load(path, data=tmp_path / "b"))] == ["1.jpg", "2.jpg"]
    put(path, "image,labels\nb/1.jpg,cat\nb/2.jpg,dog\n")
    assert [row[0] for row in rows(load(path))] == ["b/1.jpg", "b/2.jpg"]


def test_a_second_folder_that_lacks_an_image_is_no_rival(tmp_path: Path) -> None:
    draw_all(tmp_path / "a", NAMES[:1])
    draw_all(tmp_path / "b", NAMES)
    path = put(tmp_path / "labels.csv", "image,labels\n1.jpg,cat\n2.jpg,dog\n")
    assert [row[0] for row in rows(load(path))] == ["b/1.jpg", "b/2.jpg"]


def test_images_one_folder_up_from_a_file_are_found_where_nobody_said_where_they_are(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", NAMES)
    path = put(tmp_path / "lists" / "mine.csv", "image,labels\nimages/1.jpg,cat\nimages/2.jpg,dog\n")
    manifest = load(path)
    assert manifest.description.root == tmp_path.resolve()
    assert [row[0] for row in rows(manifest)] == ["images/1.jpg", "images/2.jpg"]


@pytest.mark.parametrize(("file", "folders"), [("train_labels.csv", ("train", "val")), ("labels.csv", ("images", "val"))])
def test_the_folder_of_the_split_comes_before_that_of_the_file(tmp_path: Path, file: str, folders: tuple[str, str]) -> None:
    for folder in folders:
        for n in range(3):
            draw(tmp_path / folder / f"{n}.png")
    lines = [f"{n}.png,cat,{split}" for split in ("train", "val") for n in range(3)]
    put(tmp_path / file, "\n".join(["image,labels,split", *lines]))
    found = {(split, image) for image, split, *_ in rows(load(tmp_path / file))}
    assert found == {
        (split, f"{folder}/{n}.png") for split, folder in zip(("train", "val"), folders, strict=True) for n in range(3)
    }
