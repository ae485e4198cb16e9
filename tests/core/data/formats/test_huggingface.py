"""Parquet with images inside, as the Hugging Face hub has it: which column holds labels, and what its numbers are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sadcl_core.data.formats.source import Reading
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import load, put, rows
from tests.core.data.formats.samples_listing import content

NAMES = ["cat", "dog", "hot dog, big"]
CLASS = {"names": NAMES, "_type": "ClassLabel"}
IDS = [[0, 2], [1], []]
ACTIVE = [["cat", "hot dog, big"], ["dog"], []]


def write(folder: Path, columns: Mapping[str, Any], features: Mapping[str, Any] | None = None, name: str = "mine") -> Path:
    """Write a file of images with these columns, and names of classes in the metadata."""
    count = len(next(iter(columns.values())))
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": content(folder, f"{name}{k}"), "path": None} for k in range(count)]
    table = pa.table({"image": images, **columns})
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def active(path: Path, **options: Any) -> list[list[str]]:
    return [row[2] for row in rows(load(path, reading=Reading(**options)))]


@pytest.mark.parametrize(
    "feature", [{"feature": CLASS, "_type": "Sequence"}, {"feature": CLASS, "_type": "List"}, [CLASS]], ids=["old", "new", "list"]
)
@pytest.mark.parametrize("name", ["labels", "topics"])
def test_numbers_are_called_as_the_schema_says_whatever_the_column_is_called(tmp_path: Path, name: str, feature: Any) -> None:
    path = write(tmp_path, {name: pa.array(IDS, pa.list_(pa.int64()))}, {name: feature})
    manifest = load(path)
    assert manifest.classes == tuple(NAMES)
    assert manifest.description.interpretation is not None
    assert manifest.description.interpretation.files[0].values == {}  # 0 and 1 are classes, neither absent nor present
    assert active(path) == ACTIVE


def test_numbers_are_called_as_those_of_the_chosen_column(tmp_path: Path) -> None:
    others = {"names": ["x", "y", "z"], "_type": "ClassLabel"}
    columns = {"labels": IDS, "topics": IDS}
    path = write(tmp_path, columns, {"labels": [others], "topics": [CLASS]})
    assert active(path) == [["x", "z"], ["y"], []]
    assert active(path, label_column="topics") == ACTIVE


def test_one_label_an_image(tmp_path: Path) -> None:
    path = write(tmp_path, {"fine_label": [0, 2, 1], "coarse_label": [0, 1, 0]}, {"fine_label": CLASS, "coarse_label": CLASS})
    assert active(path, label_column="fine_label") == [["cat"], ["hot dog, big"], ["dog"]]
    with pytest.raises(DataError, match=r"columns fine_label, coarse_label may hold the labels. Say which: --label-column"):
        load(path)


def test_a_column_per_class_whose_numbers_have_names(tmp_path: Path) -> None:
    columns = {"cat": [1, 0, 0], "dog": [0, 0, 1]}
    no_yes = {"names": ["no", "yes"], "_type": "ClassLabel"}
    assert active(write(tmp_path, columns, dict.fromkeys(columns, no_yes))) == [["cat"], [], ["dog"]]
    upside_down = {"names": ["present", "gone"], "_type": "ClassLabel"}
    with pytest.raises(DataError, match=r"upside_down.parquet has no column of labels"):
        load(write(tmp_path, columns, dict.fromkeys(columns, upside_down), name="upside_down"))


@pytest.mark.parametrize("lists", [True, False], ids=["an object of lists", "a list of objects"])
def test_categories_of_objects(tmp_path: Path, lists: bool) -> None:
    objects = [
        {"bbox": [[1.0, 2.0, 3.0, 4.0]] * len(ids), "category": ids} if lists else [{"area": 1.0, "category": id} for id in ids]  # noqa: A001
        for ids in IDS
    ]
    inner = {"bbox": {"feature": {"dtype": "float32"}, "length": 4}, "category": CLASS}
    path = write(tmp_path, {"image_id": [7, 8, 9], "objects": objects}, {"objects": {"feature": inner, "_type": "Sequence"}})
    assert active(path) == ACTIVE


@pytest.mark.parametrize("secret", [[-1], None])
def test_images_whose_labels_are_kept_secret_are_left_out(tmp_path: Path, secret: Any) -> None:
    features = {"labels": {"feature": CLASS, "_type": "Sequence"}}
    for name, lists in (("train-00000-of-00001", IDS), ("test-00000-of-00001", [secret] * 2)):
        write(tmp_path / "data", {"labels": pa.array(lists, pa.list_(pa.int64()))}, features, name)
    manifest = load(tmp_path)
    assert manifest.split_sizes == {"train": 3}
    assert manifest.description.interpretation is not None
    assert [(left.count, left.reason) for left in manifest.description.interpretation.left_out] == [(2, "their labels are null")]


def test_the_folder_of_a_converted_data_set(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        for part in ("0000", "0001"):
            write(tmp_path / "default" / split, {"labels": [["cat"], ["dog"]]}, name=part)
    assert load(tmp_path).split_sizes == {"train": 4, "val": 4}


def test_other_pictures_are_not_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path, {"mask": [b"x", b"y"], "file_name": ["a.jpg", "b.jpg"], "labels": [["cat"], ["dog"]]})
    manifest = load(path)
    assert manifest.description.interpretation is not None
    assert [column.name for column in manifest.description.interpretation.files[0].columns] == ["image", "file_name", "labels"]
    pq.write_table(pa.table({"left": [b"x"], "right": [b"y"], "labels": [["cat"]]}), path)
    with pytest.raises(DataError, match=r"has the columns of images left, right. Say which: --image-column NAME"):
        load(path)
    pq.write_table(pa.table({"images": [[b"x"]], "labels": [["cat"]]}), path)
    with pytest.raises(DataError, match=r"has no column of one image a row"):
        load(path)


def test_files_of_several_data_sets_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"labels": IDS}, {"labels": [CLASS]}, "train-00000-of-00002")
    write(tmp_path, {"labels": IDS}, {"labels": [{**CLASS, "names": ["x", "y", "z"]}]}, "train-00001-of-00002")
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet lists other classes than the files before it"):
        load(tmp_path)
    write(tmp_path, {"tags": IDS}, None, "train-00001-of-00002")
    with pytest.raises(DataError, match=r"differ in the columns labels, tags. Give files with the same ones"):
        load(tmp_path)


def test_a_list_of_classes_beside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, {"labels": IDS})
    put(tmp_path / "classes.txt", "\n".join(NAMES))
    assert active(path) == ACTIVE


def test_captions_are_no_labels(tmp_path: Path) -> None:
    texts = ["a red bird, flying over the sea", "a dog sits on a sofa", "two cats, and then a dog", "a plane over the sea"]
    with pytest.raises(DataError, match=r"no label comes twice, and most are of several words"):
        load(write(tmp_path, {"text": texts}))
