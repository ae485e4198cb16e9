from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sadcl_core.data.formats.source import Reading
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import (
    Writer,
    draw_all,
    load,
    put,
    put_lines,
    rows,
    write_azure,
    write_imagefolder_jsonl,
    write_jsonl,
    write_vertex,
)


def test_images_under_a_key_of_ones_own(tmp_path: Path) -> None:
    draw_all(tmp_path, ["a.jpg", "b.jpg"])
    path = put_lines(tmp_path / "mine.jsonl", [{"foto": "a", "labels": ["cat"]}, {"foto": "b", "labels": ["dog"]}])
    with pytest.raises(DataError, match=r"has no column of images \(foto, labels\)\. Say which it is: --image-column NAME"):
        load(path, expected="jsonl")
    assert [row[0] for row in rows(load(path, reading=Reading(image_column="foto")))] == ["a.jpg", "b.jpg"]


def test_labels_as_list_text_and_object(tmp_path: Path) -> None:
    manifest = load(write_jsonl(tmp_path))
    assert manifest.classes == ("car", "cat", "dog")
    assert rows(manifest) == [
        ("photos/a.jpg", "train", ["cat", "dog"], ["car"]),
        ("photos/b.jpg", "train", ["dog"], []),
        ("photos/c.jpg", "val", [], []),
        ("photos/d.jpg", "test", ["cat"], ["car"]),
    ]


@pytest.mark.parametrize(("write", "splits"), [(write_azure, [""] * 4), (write_vertex, ["train", "train", "val", "test"])])
def test_addresses_in_a_bucket_are_looked_for_by_their_last_parts(tmp_path: Path, write: Writer, splits: list[str]) -> None:
    manifest = load(write(tmp_path))
    assert manifest.classes == ("cat", "dog")
    assert [row[0] for row in rows(manifest)] == [f"photos/{name}.jpg" for name in "abcd"]
    assert [row[1] for row in rows(manifest)] == splits
    assert [row[2] for row in rows(manifest)] == [["cat", "dog"], ["dog"], [], ["cat"]]


def test_addresses_of_different_depth(tmp_path: Path) -> None:
    entries = [
        {"imageGcsUri": f"gs://bucket/{place}.jpg", "classificationAnnotations": [{"displayName": "cat"}]}
        for place in ("mine/a", "mine/b", "c")
    ]
    for name in "abc":
        put(tmp_path / f"{name}.jpg", "")
    assert [row[0] for row in rows(load(put_lines(tmp_path / "mine.jsonl", entries)))] == ["a.jpg", "b.jpg", "c.jpg"]


def test_two_addresses_of_one_image(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", "")
    entries = [{"image_url": f"gs://{bucket}/{bucket}/a.jpg", "label": "cat"} for bucket in ("one", "two")]
    with pytest.raises(DataError, match=r"a.jpg is listed twice, in two files or spellings, first in .*Remove one row"):
        load(put_lines(tmp_path / "mine.jsonl", entries))


def test_an_imagefolder_with_metadata_in_each_split(tmp_path: Path) -> None:
    assert rows(load(write_imagefolder_jsonl(tmp_path))) == [
        ("test/c.jpg", "test", [], []),
        ("train/a.jpg", "train", ["cat", "dog"], []),
        ("train/b.jpg", "train", ["dog"], []),
    ]


def test_labels_that_are_null_are_left_out_and_counted(tmp_path: Path) -> None:
    path = put_lines(tmp_path / "mine.jsonl", [{"image": "a.jpg", "labels": ["cat"]}, {"image": "b.jpg", "labels": None}])
    manifest = load(path)
    assert [row[0] for row in rows(manifest)] == ["a.jpg"]
    assert manifest.description.interpretation is not None
    (left_out,) = manifest.description.interpretation.left_out
    assert (left_out.what, left_out.count, left_out.reason) == ("row", 1, "their labels are null")


@pytest.mark.parametrize(
    ("value", "active", "unknown"),
    [
        ({"name": 1, "tag": 0}, ["name"], []),
        ({"label": 1, "name": None, "tag": "?"}, ["label"], ["name", "tag"]),
        ({"name": "cat"}, ["cat"], []),
        ([{"name": "cat"}, {"name": "dog"}], ["cat", "dog"], []),
        ("hot dog", ["hot dog"], []),
        ("", [], []),
        ("  ", [], []),
    ],
)
def test_what_labels_may_be(tmp_path: Path, value: Any, active: list[str], unknown: list[str]) -> None:
    manifest = load(put_lines(tmp_path / "mine.jsonl", [{"image": "a.jpg", "labels": value}, {"image": "b.jpg", "labels": "x"}]))
    assert rows(manifest) == [("a.jpg", "", active, unknown), ("b.jpg", "", ["x"], [])]


@pytest.mark.parametrize("text", ["cat, dog", "hot dog|cat"])
def test_a_text_that_may_be_several_labels_is_a_question(tmp_path: Path, text: str) -> None:
    path = put_lines(tmp_path / "mine.jsonl", [{"image": "a.jpg", "labels": text}, {"image": "b.jpg", "labels": "x"}])
    with pytest.raises(DataError, match=r"may be one label, or several\. Say --delimiter none, or --delimiter '[,|]'"):
        load(path)
    assert rows(load(path, reading=Reading(delimiter="none")))[0][2] == [text]
    assert len(rows(load(path, reading=Reading(delimiter="," if "," in text else "|")))[0][2]) == 2


def test_tags_between_spaces_are_a_question_in_json_too(tmp_path: Path) -> None:
    tags = ["1girl solo", "1girl hat solo", "hat", "solo hat", "1girl"] * 2
    path = put_lines(tmp_path / "mine.jsonl", [{"image": f"{k}.jpg", "tags": text} for k, text in enumerate(tags)])
    with pytest.raises(DataError, match="--delimiter ' '"):
        load(path)
    assert load(path, reading=Reading(delimiter=" ")).classes == ("1girl", "hat", "solo")


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_of_objects_in_json(tmp_path: Path, indent: int | None) -> None:
    entries = [{"image": "a.jpg", "labels": ["cat"]}, {"image": "b.jpg", "labels": {"cat": 0, "dog": 1}}]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(entries, indent=indent))
    assert rows(load(path)) == [("a.jpg", "", ["cat"], []), ("b.jpg", "", ["dog"], [])]
    path.write_text(json.dumps([*entries, 5]))
    with pytest.raises(DataError, match="row 3 is not a JSON object"):
        load(path)


def test_a_json_suffix_will_do(tmp_path: Path) -> None:
    assert len(load(put_lines(tmp_path / "mine.json", [{"image": "a.jpg", "labels": ["cat"]}]))) == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": "b.jpg"}, r"row 2 names no labels. Write"),
        ({"labels": ["cat"]}, r"row 2 names no image. Write"),
        ({"image": None, "labels": ["cat"]}, "row 2: the image is missing, not a path. Give the path"),
        ({"image": {"bytes": "x"}, "labels": ["cat"]}, "row 2: the image is dict, not a path"),
        ({"image": True, "labels": ["cat"]}, "row 2: the image is bool, not a path"),
        ({"image": "  ", "labels": ["cat"]}, "row 2: the image has no name"),
        ({"image": "https://x.org/b.jpg", "labels": ["cat"]}, "row 2: https://x.org/b.jpg is an address. Fetch the images"),
        ({"image": "\ud800.jpg", "labels": ["cat"]}, "row 2: .* is not a path"),
        ({"image": "b.jpg", "labels": ["\ud800"]}, "row 2: a label is empty or not text"),
        ({"image": "b.jpg", "labels": [""]}, "row 2: a label is empty"),
        ({"image": "b.jpg", "labels": [1.5]}, "row 2: the labels are not a list of names"),
        ({"image": "b.jpg", "labels": [float("nan")]}, "row 2: the labels are not a list of names"),
        ({"image": "b.jpg", "labels": [None]}, "row 2: the labels are not a list of names"),
        ({"image": "b.jpg", "labels": [["cat"]]}, "row 2: the labels are not a list of names"),
        ({"image": "b.jpg", "labels": [{"score": 1}]}, "row 2: the labels are not a list of names"),
        ({"image": "b.jpg", "labels": True}, "row 2: the labels are not a list of names"),
        ({"image": "b.jpg", "labels": {"cat": 7}}, "row 2, column 'cat': '7' is not 1, 0, or unknown"),
        ({"image": "b.jpg", "labels": ["cat"], "split": "\ud800"}, "row 2: .* would be split 2"),
        ({"image": "b.jpg", "labels": ["cat"], "split": ["train"]}, "row 2: the split is not text"),
        ([], "row 2 is not a JSON object. Write one object per image"),
        (None, "row 2 is not a JSON object"),
    ],
)
def test_a_row_that_is_none(tmp_path: Path, entry: Any, message: str) -> None:
    path = put_lines(tmp_path / "mine.jsonl", [{"image": "a.jpg", "labels": ["cat"]}, entry])
    with pytest.raises(DataError, match=message):
        load(path)


def test_text_labels_are_taken_apart_when_a_person_says_so(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.jsonl", '{"image": "a.jpg", "labels": "cat, dog"}\n')
    assert rows(load(path, reading=Reading(delimiter=","))) == [("a.jpg", "", ["cat", "dog"], [])]


def test_a_key_that_only_late_rows_have_is_not_passed_over(tmp_path: Path) -> None:
    lines: list[Any] = [{"image": f"{k}.jpg", "labels": ["cat"]} for k in range(10_001)]
    lines[-1]["split"] = "train"
    with pytest.raises(DataError, match=r"row 10001 has the key 'split', which none of the first 10,000 rows has"):
        load(put_lines(tmp_path / "mine.jsonl", lines))


@pytest.mark.parametrize(
    "content",
    [
        {"a.jpg": {"labels": ["cat"], "split": "train"}, "b.jpg": {"labels": ["dog"], "split": "train"}},
        {
            "image": {"0": "a.jpg", "1": "b.jpg"},
            "cat": {"0": 1, "1": 0},
            "dog": {"0": 0, "1": 1},
            "split": {"0": "train", "1": "train"},
        },
        [{"image": "a.jpg", "cat": 1, "dog": 0, "split": "train"}, {"image": "b.jpg", "cat": 0, "dog": 1, "split": "train"}],
    ],
)
def test_one_object_of_images_or_of_columns_and_a_list_of_flags(tmp_path: Path, content: Any) -> None:
    assert rows(load(put(tmp_path / "mine.json", content))) == [("a.jpg", "train", ["cat"], []), ("b.jpg", "train", ["dog"], [])]


def test_a_vector_as_a_text(tmp_path: Path) -> None:
    path = put_lines(tmp_path / "mine.jsonl", [{"image": "a.jpg", "labels": "0 1 0"}, {"image": "b.jpg", "labels": "1 1 0"}])
    assert [row[2] for row in rows(load(path, reading=Reading(classes=("x", "y", "z"))))] == [["y"], ["x", "y"]]
