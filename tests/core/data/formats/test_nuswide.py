from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.formats.nuswide import CLASSES
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import Writer, load, put, rows, write_nuswide, write_nuswide_per_class

LAYOUTS = pytest.mark.parametrize("write", [write_nuswide, write_nuswide_per_class])


@LAYOUTS
def test_both_layouts_of_the_labels(tmp_path: Path, write: Writer) -> None:
    manifest = load(write(tmp_path))
    assert manifest.classes == CLASSES
    assert rows(manifest) == [
        ("Flickr/actor/0001_2124494179.jpg", "train", ["dog", "sky"], []),
        ("Flickr/zoo/0002_1.jpg", "train", [], []),
        ("Flickr/zoo/0003_5.jpg", "test", ["zebra"], []),
    ]
    assert manifest.description.notes == ("left out 1 listed photo, not on the disk",)


@LAYOUTS
def test_photos_in_another_folder(tmp_path: Path, write: Writer) -> None:
    write(tmp_path)
    (tmp_path / "Flickr").rename(tmp_path / "images")
    assert rows(load(tmp_path))[0][0] == "images/actor/0001_2124494179.jpg"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Groundtruth/Labels_Train.txt", "0 1\n", r"Labels_Train.txt, row 1 has 2 flags where NUS-WIDE has 81 classes"),
        ("Groundtruth/Labels_Train.txt", "0 " * 81 + "\n", "has 1 rows where the list has 3 images"),
        ("Groundtruth/Labels_Train.txt", ("0 " * 81 + "\n") * 9, "row 4 has 81 flags where .* 3 images"),
        ("Groundtruth/Labels_Train.txt", "2 " * 81, "row 1 holds other things than 0 and 1"),
        ("ImageList/TrainImagelist.txt", "..\\..\\etc\\passwd\n\n", "has 81 flags where"),
    ],
)
def test_labels_that_do_not_fit_their_list(tmp_path: Path, file: str, content: str, message: str) -> None:
    write_nuswide(tmp_path)
    put(tmp_path / file, content)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("ImageList/TestImagelist.txt", r"lacks ImageList/TestImagelist.txt of NUS-WIDE. It needs"),
        ("TrainTestLabels/Labels_zebra_Test.txt", r"Labels_zebra_Test.txt is missing. Unpack all"),
        ("Flickr", "None of the 4 listed photos lies in"),
        ("TrainTestLabels", r"lacks Groundtruth/Labels_Train.txt and TrainTestLabels/"),
    ],
)
def test_a_part_that_is_missing(tmp_path: Path, gone: str, message: str) -> None:
    write_nuswide_per_class(tmp_path)
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_class_file_of_another_length(tmp_path: Path) -> None:
    write_nuswide_per_class(tmp_path)
    put(tmp_path / "TrainTestLabels" / "Labels_bear_Train.txt", "0\n")
    with pytest.raises(DataError, match=r"Labels_bear_Train.txt has 1 rows of one flag where the list has 3 images"):
        load(tmp_path)


def test_photos_without_the_folder_of_the_list(tmp_path: Path) -> None:
    before = rows(load(write_nuswide(tmp_path)))
    for path in [*(tmp_path / "Flickr").glob("*/*.jpg")]:
        path.rename(tmp_path / "Flickr" / path.name)
    assert [row[1:] for row in rows(load(tmp_path))] == [row[1:] for row in before]


def test_the_labels_of_all_images_where_there_are_no_lists_of_splits(tmp_path: Path) -> None:
    write_nuswide_per_class(tmp_path)
    folder = next(tmp_path.rglob("TrainTestLabels"))
    lists = [next(tmp_path.rglob(f"{word}Imagelist.txt")) for word in ("Train", "Test")]
    before = rows(load(tmp_path))
    put(tmp_path / "ImageList" / "Imagelist.txt", "".join(path.read_text() for path in lists))
    for path in [*folder.glob("*_Train.txt")]:
        name = path.name.removesuffix("_Train.txt")
        put(
            folder.parent / "AllLabels" / f"{name}.txt",
            "".join((folder / f"{name}_{word}.txt").read_text() for word in ("Train", "Test")),
        )
    for path in lists:
        path.unlink()
    assert rows(load(tmp_path)) == [(image, "", labels, []) for image, _, labels, _ in before]
