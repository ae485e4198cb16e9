"""WebDataset shards made by others: what lies beside an image, under which names, and in which order."""

from __future__ import annotations

import bz2
import io
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sadcl_core.data.formats.source import Reading
from sadcl_core.data.tables import read_as
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import all_images_are_there, load, put, rows
from tests.core.data.formats.samples_listing import content, write_tar


def write(folder: Path, files: dict[str, Any], name: str = "mine.tar") -> Path:
    """Write a shard; a file is an image where it is None, else bytes, a text, or what JSON is written of."""
    folder.mkdir(parents=True, exist_ok=True)
    stored: dict[str, bytes] = {}
    for k, (path, value) in enumerate(files.items()):
        text = value if isinstance(value, str | bytes) else json.dumps(value)
        stored[path] = content(folder, f"picture{k}") if value is None else text.encode() if isinstance(text, str) else text
    return write_tar(folder / name, stored)


def texts(*values: str | bytes | list[Any], extension: str = "cls") -> dict[str, Any]:
    return {name: value for k, text in enumerate(values) for name, value in ((f"{k}.jpg", None), (f"{k}.{extension}", text))}


def active(path: Path, **options: Any) -> list[list[str]]:
    manifest = load(path, reading=Reading(**options))
    assert all_images_are_there(manifest)
    return [row[2] for row in rows(manifest)]


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (texts("0,2", "1\n", "", "[0, 1]"), [["0", "2"], ["1"], [], ["0", "1"]]),
        (texts("0 2", "1", "2", "0 1", extension="txt"), [["0", "2"], ["1"], ["2"], ["0", "1"]]),
        (texts("cat;dog", "dog", "cat;dog", extension="txt"), [["cat", "dog"], ["dog"], ["cat", "dog"]]),
        (texts("cat", b"\xef\xbb\xbfdog, cat\r\n"), [["cat"], ["cat", "dog"]]),
        (texts(["cat"], [], extension="json"), [["cat"], []]),
        ({"img.1.jpg": None, "img.1.json": ["cat"], "img.2.jpg": None, "img.2.json": ["dog"]}, [["cat"], ["dog"]]),
        ({"1.jpg": None, "2.jpg": None, "1.json": ["cat"], "2.json": ["dog"]}, [["cat"], ["dog"]]),
        (
            {"1.image.jpg": None, "1.mask.png": None, "1.labels.json": ["cat"], "2.image.jpg": None, "2.cls": "dog"},
            [["cat"], ["dog"]],
        ),
        ({"1.left.jpg": None, "1.right.jpg": None, "1.json": ["cat"]}, [["cat"], ["cat"]]),
        ({"1.jpg": None, "1.seg.png": None, "1.json": ["cat"]}, [["cat"]]),
        ({"./a/._1.jpg": b"\0", "./a/1.JPG": None, "./a/1.json": {"label": "cat"}}, [["cat"]]),
    ],
)
def test_files_beside_an_image(tmp_path: Path, files: dict[str, Any], labels: list[list[str]]) -> None:
    assert active(write(tmp_path, files)) == labels


def test_vectors_of_numpy_need_names(tmp_path: Path) -> None:
    def stored(values: list[float]) -> bytes:
        file = io.BytesIO()
        np.save(file, np.array(values, np.float32))
        return file.getvalue()

    path = write(tmp_path, texts(stored([1, 0, 0]), stored([0, 1, 1]), stored([0, 0, 0]), extension="npy"))
    with pytest.raises(DataError, match=r"a 0/1 vector of length 3. Give the 3 names of the classes"):
        load(path)
    assert active(path, classes=("cat", "dog", "car")) == [["cat"], ["dog", "car"], []]
    put(tmp_path / "classes.txt", "cat\ndog\ncar\n")
    assert active(tmp_path) == [["cat"], ["dog", "car"], []]


def test_numbers_are_called_as_a_list_beside_the_shards_says(tmp_path: Path) -> None:
    put(tmp_path / "classes.txt", "cat\ndog\n")
    write(tmp_path, texts("1", "0"))
    assert load(tmp_path).classes == ("cat", "dog")
    assert active(tmp_path) == [["dog"], ["cat"]]


def test_folders_called_after_splits_inside_a_shard_and_above_shards_of_one_name(tmp_path: Path) -> None:
    both = {f"{split}/1.{kind}": None if kind == "jpg" else [split] for split in ("train", "test") for kind in ("jpg", "json")}
    assert load(write(tmp_path / "one", both)).split_sizes == {"train": 1, "test": 1}
    for split in ("train", "test"):
        write(tmp_path / "two" / split, {"1.jpg": None, "1.json": [split]}, "00000.tar")
    manifest = load(tmp_path / "two")
    assert rows(manifest) == [("test/00000/1.jpg", "test", ["test"], []), ("train/00000/1.jpg", "train", ["train"], [])]


def test_options_of_tables_apply(tmp_path: Path) -> None:
    assert active(write(tmp_path, texts("cat;dog, big", "dog, big")), delimiter=";") == [["cat", "dog, big"], ["dog, big"]]
    path = write(tmp_path, texts("Löwe".encode("cp1252")), "old.tar")
    with pytest.raises(DataError, match=r"its labels cannot be read .* or name its --encoding: cp1252"):
        load(path)
    with read_as("cp1252"):
        assert active(path) == [["Löwe"]]


def test_images_without_labels_are_left_out_where_others_have_some(tmp_path: Path) -> None:
    manifest = load(write(tmp_path, {"1.jpg": None, "2.jpg": None, "2.json": ["cat"]}))
    assert len(manifest) == 1
    assert any("left out 1 image without labels, such as" in note for note in manifest.description.notes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mine/labels.csv": "image,labels\n", "mine/images/a.jpg": None}, "If it is an archive of a folder, unpack it and name"),
        (
            {"1.jpg": None, "1.pyd": b"\x80\4N."},
            "Those in .pyd files are Python objects, which are not read: write them as .json",
        ),
        ({"1.json": ["cat"]}, "holds no image. Name the file with the images"),
    ],
)
def test_shards_without_labels(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, files))


@pytest.mark.parametrize(("suffix", "module"), [("bz2", bz2), ("xz", lzma)])
def test_other_compressions(tmp_path: Path, suffix: str, module: Any) -> None:
    plain = write(tmp_path, texts("cat"), "plain.tar")
    path = tmp_path / f"train.tar.{suffix}"
    path.write_bytes(module.compress(plain.read_bytes()))
    plain.unlink()
    assert active(tmp_path) == [["cat"]]
