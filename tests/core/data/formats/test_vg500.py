from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sadcl_core.errors import DataError
from tests.core.data.formats.samples import load, put, rows, write_vg500

INDEX = "vg_category_500_labels_index.json"


def test_lists_and_index(tmp_path: Path) -> None:
    manifest = load(write_vg500(tmp_path))
    assert len(manifest.classes) == 500
    assert rows(manifest) == [
        ("VG_100K/1.jpg", "train", ["category 12", "category 44", "category 260"], []),
        ("VG_100K/3.jpg", "test", ["category 499"], []),
        ("VG_100K_2/2.jpg", "train", [], []),
    ]


def test_a_list_of_names_beside_the_index(tmp_path: Path) -> None:
    write_vg500(tmp_path)
    put(tmp_path / "classes.txt", "".join(f"thing {k}\n" for k in range(500)))
    assert rows(load(tmp_path))[1][2] == ["thing 499"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"1.jpg": [500]}, "label 500, but there are 500 classes, counted from 0"),
        ({"1.jpg": [-1]}, "label -1, but there are 500 classes"),
        ({"1.jpg": 12}, r"the entry of 1.jpg is not a list of class numbers"),
        ({"1.jpg": None}, r"the entry of 1.jpg is not a list of class numbers"),
        ({"1.jpg": ["cat"]}, "'cat' is not one of the 500 classes"),
        ({"2.jpg": [1]}, f"train_list_500.txt, row 1: '1.jpg' is not in {INDEX}"),
        ([1], "is not an object of image and class numbers"),
        (None, "is not an object of image and class numbers"),
    ],
)
def test_a_damaged_index(tmp_path: Path, entries: Any, message: str) -> None:
    write_vg500(tmp_path)
    put(tmp_path / INDEX, entries) if entries is not None else put(tmp_path / INDEX, "null")
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_part_that_is_missing(tmp_path: Path) -> None:
    write_vg500(tmp_path)
    (tmp_path / "test_list_500.txt").unlink()
    with pytest.raises(DataError, match=r"lacks test_list_500.txt of VG500. Put them there"):
        load(tmp_path)
