"""Official lists of splits beside the labels are used, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.prepare import prepare
from tests.core.data.formats.samples import draw_all, put

NAMES = [f"{name}.jpg" for name in "abcdefgh"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    draw_all(folder / "photos", NAMES)
    put(
        folder / "labels.csv",
        "image,labels\n" + "".join(f"photos/{name},{'cat' if k % 2 else 'dog'}\n" for k, name in enumerate(NAMES)),
    )
    return folder


def split_of(manifest: Manifest) -> dict[str, str]:
    return {row["image"][-5:-4]: row["split"] for row in manifest.rows.to_pylist()}


@pytest.mark.parametrize(
    "lists",
    [
        {"train_val_list.txt": "a.jpg\nb.jpg\nc.jpg\nd.jpg\ne.jpg\n", "test_list.txt": "f.jpg\ng.jpg\nh.jpg\n"},
        {"train.txt": "photos/a\nphotos/b\nphotos/c\nphotos/d\nphotos/e\n", "test.txt": "photos/f\nphotos/g\nphotos/h\n"},
        {"splits/train.txt": "a\nb\nc\nd\ne\n", "splits/test.txt": "f\ng\nh\n"},
        {"list_eval_partition.txt": "".join(f"{name} {2 * (name > 'f')}\n" for name in NAMES)},
        {
            "list_eval_partition.txt": "8\nimage_name evaluation_status\n"
            + "".join(f"/x/{n}  {'test' if n > 'f' else 'train'}\n" for n in NAMES)
        },
        {"partition.csv": "image_id,partition\n" + "".join(f"{name},{2 * (name > 'f')}\n" for name in NAMES)},
        {"split.csv": "\ufefffilename,split\r\n" + "".join(f"{n},{'Test' if n > 'f' else 'training'}\r\n" for n in NAMES)},
        {"my.csv": "id,split,image\n" + "".join(f"1,{'test' if n > 'f' else 'train'},photos/{n}\n" for n in NAMES)},
        {"splits.json": '{"train": ["a.jpg", "b", "c", "d", "photos/e.jpg"], "test": ["f", "g", "h"]}'},
        {"ImageSets/Main/train.txt": "a\nb\nc\nd\ne\n", "ImageSets/Main/test.txt": "f\ng\nh\n"},
        {"train.txt": "\ufeff./photos/A.JPG\r\nb\r\nc\r\nd\r\ne\r\n", "test.txt": "f\r\ng\r\nh\r\n"},
    ],
)
def test_lists_that_name_every_image_once_are_the_splits(folder: Path, lists: dict[str, str]) -> None:
    for name, text in lists.items():
        put(folder / name, text)
    manifest = prepare(folder).manifest
    assert split_of(manifest) == {**dict.fromkeys("abcde", "train"), **dict.fromkeys("fgh", "test")}
    assert any(note.startswith("splits from ") for note in manifest.description.notes)
    assert {str(folder / name) for name in lists} < set(manifest.description.source["files"])


@pytest.mark.parametrize(
    ("train", "test", "options", "reason"),
    [
        ("abcde", "fg", {}, "they do not name 1 of the 8 images"),
        ("abcdef", "fgh", {}, "they name 1 image for several splits"),
        ("abcdefgh", "", {}, "they name one split only"),
        ("abcde", "fgh", {"split": "0.5,0.5"}, "--split divides the images"),
    ],
)
def test_lists_that_are_not_used_are_named_with_the_reason(
    folder: Path, train: str, test: str, options: dict[str, str], reason: str
) -> None:
    for split, names in (("train", train), ("test", test)):
        put(folder / f"{split}_list.txt", "".join(f"{name}.jpg\n" for name in names))
    manifest = prepare(folder, split=options.get("split", "")).manifest
    assert any(note.endswith(f"not used: {reason}") for note in manifest.description.notes)
    assert any("iterative stratification" in note for note in manifest.description.notes)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("class_names.txt", "cat\ndog\n", "a list of class names"),
        ("my_split.csv", "image_id,split\na.jpg,train\nb.jpg,train\n", "a list of splits"),
    ],
)
def test_lists_of_something_else_are_named_and_no_labels(folder: Path, name: str, text: str, kind: str) -> None:
    put(folder / name, text)
    notes = prepare(folder).manifest.description.notes
    assert f"{name} is {kind} and was not read as labels" in notes


def test_a_table_of_labels_by_number_is_no_list_of_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw_all(tmp_path / "mine", ["1.jpg", "2.jpg", "3.jpg"])
    put(tmp_path / "mine" / "labels.csv", "id,label\n1,cat\n2,dog\n3,cat\n")
    assert prepare("mine").manifest.classes == ("cat", "dog")


def test_names_that_differ_by_case_are_several_images(folder: Path) -> None:
    draw_all(folder / "photos", ["A.jpg"])
    put(folder / "labels.csv", (folder / "labels.csv").read_text() + "photos/A.jpg,cat\n")
    put(folder / "train.txt", "a\nb\nc\nd\n")
    put(folder / "test.txt", "A\ne\nf\ng\nh\n")
    assert prepare(folder).manifest.split_sizes == {"train": 4, "test": 5}


def test_the_union_of_two_lists_counts_for_nothing_beside_them(folder: Path) -> None:
    for split, names in {"train": "abcd", "val": "ef", "trainval": "abcdef", "test": "gh"}.items():
        put(folder / f"{split}.txt", "".join(f"{name}.jpg\n" for name in names))
    assert prepare(folder).manifest.split_sizes == {"train": 4, "val": 2, "test": 2}


def test_a_text_of_something_else_is_no_list(folder: Path) -> None:
    put(folder / "training notes.txt", "we trained for a week\nand then for another\n")
    put(folder / "test.txt", "nothing\nof\nthis\nis\nan\nimage\n")
    assert not any("used" in note or "splits from" in note for note in prepare(folder).manifest.description.notes)


def test_data_are_read_again_when_a_list_changes(folder: Path) -> None:
    put(folder / "train.txt", "".join(f"{name}\n" for name in NAMES[:6]))
    put(folder / "test.txt", "".join(f"{name}\n" for name in NAMES[6:]))
    first = prepare(folder).manifest
    put(folder / "train.txt", "".join(f"{name}\n" for name in NAMES[:5]))
    put(folder / "test.txt", "".join(f"{name}\n" for name in NAMES[5:]))
    assert (first.split_sizes, prepare(folder).manifest.split_sizes) == ({"train": 6, "test": 2}, {"train": 5, "test": 3})


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("images_tr", "images_test"), ("train2017/day", "val2017/day")])
def test_folders_called_after_splits(folder: Path, train: str, test: str) -> None:
    for k, name in enumerate(NAMES):
        path = folder / (train if k < 5 else test) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).rename(path)
    put(folder / "labels.csv", (folder / "labels.csv").read_text().replace("photos/", ""))
    manifest = prepare(str(folder)).manifest
    second = "val" if test.startswith("val") else "test"
    assert split_of(manifest) == {name[0]: "train" if k < 5 else second for k, name in enumerate(NAMES)}
    assert "splits from the names of the folders of images" in manifest.description.notes
    divided = prepare(str(folder), split="0.5,0.5", output="other").manifest
    assert "the names of the folders of images not used: --split divides the images" in divided.description.notes
