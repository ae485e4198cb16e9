from __future__ import annotations

import json
import tempfile
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadcl_core.data.formats.locate import Images
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


# ---- images that lie elsewhere than a rule for all of them says


@pytest.mark.parametrize(
    ("references", "files"),
    [
        (["1.jpg", "2.jpg", "3.jpg"], ["a/images/1.jpg", "b/images/2.jpg", "c/3.jpg"]),
        (["1.jpg", "2.JPG", "3.jpg"], ["photos/1.JPG", "photos/2.jpg", "photos/3.jpg"]),
        (["1", "2", "3"], ["photos/1.jpg", "photos/2.png", "photos/3.tiff"]),
        (["1.dcm", "2.dcm"], ["png/1.png", "png/2.png"]),
        (["x/in\\a\\1.jpg", "x/in\\b\\2.jpg"], ["x/in/a/1.jpg", "x/in/b/2.jpg"]),
        (["Ko\u0308ln.jpg", "Bu\u0308hl.jpg"], ["photos/K\u00f6ln.jpg", "photos/B\u00fchl.jpg"]),
        (["K\u00f6ln.jpg"], ["photos/Ko\u0308ln.jpg"]),
        (["old/set/train/1.jpg", "old/set/val/1.jpg"], ["train/1.jpg", "val/1.jpg"]),
        (["/home/me/set/a/1.jpg", "/home/me/set/2.jpg"], ["pictures/a/1.jpg", "pictures/2.jpg"]),
        (["gs://bucket/set/1.jpg", "s3://other/2.jpg"], ["img/1.jpg", "img/2.jpg"]),
        (["https://host/set/1%20a.jpg"], ["img/1 a.jpg"]),
    ],
)
def test_images_are_found_by_name(tmp_path: Path, references: list[str], files: list[str]) -> None:
    for name in files:
        draw(tmp_path / name)
    lines = [f"{reference},cat" for reference in references]
    manifest = load(put(tmp_path / "labels.csv", "\n".join(["image,labels", *lines])))
    assert manifest.rows["image"].to_pylist() == files
    assert manifest.description.interpretation is not None
    assert sum(place.images for place in manifest.description.interpretation.places) == len(files)


@pytest.mark.parametrize(
    ("references", "files"),
    [
        (["train/1.jpg", "val/1.jpg"], ["train/1.jpg"]),
        (["1.jpg,cat,train", "2.jpg,cat,train"], ["train/1.jpg", "val2017/2.jpg"]),
        (["a/1.jpg", "b/2.jpg"], ["a/1.jpg", "a/2.jpg"]),
        (["1.jpg", "2.jpg"], ["1.jpg", "1.png", "2.png"]),
    ],
)
def test_another_image_is_not_taken_for_one_that_is_missing(tmp_path: Path, references: list[str], files: list[str]) -> None:
    for name in files:
        draw(tmp_path / name)
    header = "image,labels,split" if references[0].endswith("train") else "image,labels"
    lines = [line if "," in line else f"{line},cat" for line in references]
    manifest = load(put(tmp_path / "labels.csv", "\n".join([header, *lines])))
    there = [(manifest.description.root / image).is_file() for image in manifest.rows["image"].to_pylist()]
    assert there == [True, False]


def test_an_image_that_may_be_one_of_several_is_a_question(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg"):
        draw(tmp_path / name)
    path = put(tmp_path / "labels.csv", "image,labels\n1.jpg,cat\n3.jpg,cat\n")
    with pytest.raises(DataError, match=r"1\.jpg may be in a/ and in b/\. Say with --data DIR"):
        load(path)


STEMS = st.lists(st.sampled_from(["a", "B", "ö", "o\u0308", "_", "7", " ", "é"]), min_size=1, max_size=6).map("".join)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_layouts_are_found_or_left_missing(data: st.DataObject) -> None:
    """Whatever folder, case, Unicode form, extension and prefix: an image that is found is the one that was meant."""
    stems = data.draw(st.lists(STEMS, min_size=1, max_size=8))
    names = [f"{k}-{stem}-" for k, stem in enumerate(stems)]
    prefix = data.draw(st.sampled_from(["", "old/", "/home/me/", "gs://bucket/", "C:\\data\\"]))
    listed = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        files, references = [], []
        for name in names:
            folder = data.draw(st.sampled_from(["", "photos/", "more/of them/"]))
            extension = data.draw(st.sampled_from([".jpg", ".JPG", ".png", ".tif"]))
            files.append(f"{folder}{data.draw(st.sampled_from([name, name.swapcase(), normalize('NFD', name)]))}{extension}")
            references.append(f"{prefix}{name}{extension.lower() if listed else ''}")
            draw(root / files[-1])
        lines = [json.dumps({"image": reference, "labels": ["cat"]}) for reference in references]
        manifest = load(put(root / "labels.jsonl", "\n".join(lines)))
        assert manifest.rows["image"].to_pylist() == files


def test_absolute_paths_that_are_there_need_no_folder(tmp_path: Path) -> None:
    for k, place in enumerate(("photos/one", "photos/two")):
        draw(tmp_path / place / f"{k}.jpg")
    lines = [f"{tmp_path}/photos/one/0.jpg,cat", f"{tmp_path}/photos/two/1.jpg,dog"]
    table = put(tmp_path / "elsewhere" / "lists" / "labels.csv", "\n".join(["image,labels", *lines]) + "\n")
    for named in (table, table.parent):
        manifest = load(named)
        assert manifest.description.root == tmp_path / "photos"
        assert [row[0] for row in rows(manifest)] == ["one/0.jpg", "two/1.jpg"]
    put(table, "\n".join(["image,labels", *lines, "/nowhere/2.jpg,cat"]) + "\n")
    assert [row[0] for row in rows(load(table))] == ["nowhere/2.jpg", "one/0.jpg", "two/1.jpg"]
    draw(table.parent / "near" / "3.jpg")
    put(table, "\n".join(["image,labels", *lines, f"{table.parent}/near/3.jpg,cat"]) + "\n")
    assert [row[0] for row in rows(load(table))] == ["elsewhere/lists/near/3.jpg", "photos/one/0.jpg", "photos/two/1.jpg"]


@pytest.mark.parametrize(
    ("references", "files"),
    [
        (["1", "12"], ["images/00001.png", "images/00012.png"]),
        (["1.jpg", "12.jpg"], ["0001.jpg", "0012.jpg"]),
        (["7.0", "8.0"], ["images/7.jpg", "images/8.jpg"]),
        (["x/a%20b.jpg", "x/c.jpg"], ["x/a b.jpg", "x/c.jpg"]),
    ],
)
def test_numbers_and_signs_that_programs_rewrote_are_undone(tmp_path: Path, references: list[str], files: list[str]) -> None:
    draw_all(tmp_path, files)
    manifest = load(put(tmp_path / "labels.csv", "id,labels\n" + "".join(f"{name},cat\n" for name in references)))
    assert manifest.rows["image"].to_pylist() == files
    by_number = "%" not in references[0]
    assert any("found by their numbers" in note for note in manifest.description.notes) == by_number


def test_numbers_are_no_names_where_some_are_not_there(tmp_path: Path) -> None:
    draw_all(tmp_path, ["001.jpg", "002.jpg"])
    manifest = load(put(tmp_path / "labels.csv", "id,labels\n1,cat\n2,dog\n3,cat\n"))
    assert manifest.rows["image"].to_pylist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("reference", "there", "expected"),
    [
        ("a.heic", ["sub/A.jpg", "b.heic"], "sub/A.jpg"),
        ("IMG_11.jpg", ["IMG_12.jpg", "IMG_0011.jpg"], "IMG_0011.jpg"),
        ("cat-7.jpg", ["cat_7.jpg", "cat_8.jpg"], "cat_7.jpg"),
        ("000000000009.jpg", ["000000000008.jpg"], ""),
    ],
)
def test_the_nearest_name_holds_the_same_numbers(tmp_path: Path, reference: str, there: list[str], expected: str) -> None:
    for name in there:
        put(tmp_path / name, "x")
    assert Images(tmp_path).nearest(reference) == expected


def test_the_account_says_where_images_of_several_machines_were_found(tmp_path: Path) -> None:
    draw_all(tmp_path / "train", NAMES)
    lines = "/kaggle/input/pets/train/1.jpg,cat\nfile:///home/anna/train/2.jpg,dog\n"
    account = load(put(tmp_path / "labels.csv", f"image,labels\n{lines}")).description.interpretation
    assert account is not None
    assert {place.dropped for place in account.places} == {"/kaggle/input/pets/train", "home/anna/train"}


def test_images_beside_the_folder_of_the_labels_are_found_there(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", NAMES)
    account = load(put(tmp_path / "lists" / "a.csv", "image,labels\n../images/1.jpg,cat\n../images/2.jpg,dog\n"))
    assert account.description.interpretation is not None
    assert [place.folder for place in account.description.interpretation.places] == [""]


@pytest.mark.parametrize("reference", ["scan", "scan.png"])
def test_dicom_is_found_where_no_image_has_its_name(tmp_path: Path, reference: str) -> None:
    put(tmp_path / "sub" / "scan.dcm", "x")
    path = put(tmp_path / "labels.csv", f"image,labels\n{reference},cat\n")
    assert load(path).rows["image"].to_pylist() == ["sub/scan.dcm"]
    draw(tmp_path / "sub" / "scan.jpg")
    assert load(path).rows["image"].to_pylist() == ["sub/scan.jpg"]
