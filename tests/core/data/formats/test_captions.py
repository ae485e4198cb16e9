from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.errors import DataError
from tests.core.data.formats.samples import draw, load, put, rows, write_captions


def test_tags_between_commas_beside_each_image(tmp_path: Path) -> None:
    manifest = load(write_captions(tmp_path))
    assert manifest.classes == ("cat", "dog", "photo", "sitting on a sofa")
    assert rows(manifest) == [
        ("a.jpg", "", ["cat", "photo", "sitting on a sofa"], []),
        ("b.jpg", "", ["dog", "photo"], []),
        ("c.jpg", "", [], []),
        ("d.jpg", "", [], []),
    ]
    assert manifest.description.notes == ("1 image without a text beside it, so without labels",)


def test_folders_called_after_splits(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_captions(tmp_path / split)
    assert load(tmp_path).split_sizes == {"train": 4, "val": 4}


def test_an_empty_text_first_says_nothing_of_the_format(tmp_path: Path) -> None:
    draw(tmp_path / "0.jpg")
    put(tmp_path / "0.txt", "")
    assert "a.jpg" in [row[0] for row in rows(load(write_captions(tmp_path)))]


def test_one_tag_per_line_and_tags_that_come_twice(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    put(tmp_path / "a.txt", "cat,\ndog\r\ncat, ,")
    assert rows(load(tmp_path)) == [("a.jpg", "", ["cat", "dog"], [])]


def test_images_without_any_text(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"has no image with a text beside it. Write the tags of a.jpg into a.txt"):
        load(tmp_path, expected="captions")


def test_texts_called_caption(tmp_path: Path) -> None:
    for name in "ab":
        draw(tmp_path / f"{name}.jpg")
    put(tmp_path / "a.caption", "cat, dog\n")
    put(tmp_path / "b.caption", "nothing of this\n")
    put(tmp_path / "b.txt", "dog\n")
    assert [row[2] for row in rows(load(tmp_path))] == [["cat", "dog"], ["dog"]]


@pytest.mark.parametrize("place", ["{}.jpg.txt", "{}.caption", "../captions/{}.txt"])
def test_texts_of_other_names_and_in_a_folder_beside(tmp_path: Path, place: str) -> None:
    for name, text in {"a": "1girl, long_hair", "b": "long_hair"}.items():
        draw(tmp_path / "images" / f"{name}.jpg")
        put(tmp_path / "images" / place.format(name), text)
    assert [row[2] for row in rows(load(tmp_path))] == [["1girl", "long_hair"], ["long_hair"]]


def test_a_second_text_of_an_image_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    put(tmp_path / "a.txt", "cat, dog")
    put(tmp_path / "a.caption", "A cat and a dog.")
    assert load(tmp_path).description.notes == ("1 image with several texts: a.txt was read, a.caption was not",)


@pytest.mark.parametrize(
    ("texts", "first"),
    [
        (["cat; dog", "dog; bird", "cat"], ["cat", "dog"]),
        (["1girl solo hat", "solo 1girl", "hat solo", "1girl hat smile", "smile"], ["1girl", "hat", "solo"]),
    ],
)
def test_what_stands_between_tags_is_found_as_in_tables(tmp_path: Path, texts: list[str], first: list[str]) -> None:
    for k, text in enumerate(texts):
        draw(tmp_path / f"{k}.jpg")
        put(tmp_path / f"{k}.txt", text)
    assert rows(load(tmp_path))[0][2] == first


def test_words_that_may_be_one_tag_or_several(tmp_path: Path) -> None:
    for k, text in enumerate(["a cat on a sofa", "a dog on a lawn"]):
        draw(tmp_path / f"{k}.jpg")
        put(tmp_path / f"{k}.txt", text)
    with pytest.raises(DataError, match=r"may be one label of several words, or several labels. Say --delimiter none, or"):
        load(tmp_path)
