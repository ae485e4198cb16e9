from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sadcl_core.data.formats.source import Reading
from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.prepare.reading_options import ReadingOptions
from sadcl_core.data.rows import Record
from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.scores_file import Matched, match_labels, read_scores, write_scores
from tests.conftest import make_coco, make_voc, voc_object

CLASSES = ("cat", "dog", "fish")
IMAGES = ("val/a.jpg", "val/b.jpg", "test/a.jpg")
TARGETS = np.array([[1, 0, -1], [0, 1, 0], [1, 1, 1]], np.int8)
SCORES = np.arange(9, dtype=np.float32).reshape(3, 3) / 16


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def label_csv(images: tuple[str, ...] = IMAGES, *, splits: tuple[str, ...] = (), name: str = "labels.csv") -> str:
    """Labels whose images are nowhere."""
    header = ",".join(["image", *CLASSES, *(["split"] if splits else [])])
    rows = [
        ",".join([image, *map(str, row), *splits[k : k + 1]]) for k, (image, row) in enumerate(zip(images, TARGETS, strict=True))
    ]
    Path(name).write_text("\n".join([header, *rows]))
    return name


def matched(
    labels: str | None,
    scores: npt.NDArray[np.floating[Any]] = SCORES,
    *,
    classes: tuple[str, ...] | None = CLASSES,
    images: tuple[str, ...] | None = IMAGES,
    split: str | None = None,
    options: ReadingOptions | None = None,
    by_order: bool = True,
) -> Matched:
    names = {"classes": classes, "images": images}
    arrays: dict[str, Any] = {name: np.array(value) for name, value in names.items() if value is not None}
    np.savez("s.npz", scores=scores, **arrays)
    return match_labels(read_scores(Path("s.npz")), labels, split=split, options=options or ReadingOptions(), by_order=by_order)


def test_by_path_and_name_without_any_image_on_the_disk() -> None:
    result = matched(label_csv())
    assert np.array_equal(result.scores, SCORES)
    assert np.array_equal(result.targets, TARGETS)
    assert (result.classes, result.images) == (CLASSES, IMAGES)
    assert result.split is not None
    assert tuple(result.split) == IMAGES
    assert result.description == "scores s.npz of 3 images and 3 classes, labels labels.csv; images by path; classes by name"
    assert sorted(path.name for path in Path().iterdir()) == ["labels.csv", "s.npz"]  # nothing is prepared


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.permutations(range(3)),
    columns=st.permutations(range(3)),
    before=st.sampled_from(["", "./", "/data/set/", "C:\\set\\"]),
)
def test_the_order_and_the_folder_do_not_matter(rows: list[int], columns: list[int], before: str) -> None:
    images = tuple(before + IMAGES[row] for row in rows)
    result = matched(label_csv(), SCORES[rows][:, columns], classes=tuple(CLASSES[k] for k in columns), images=images)
    assert np.array_equal(result.scores, SCORES)
    assert np.array_equal(result.targets, TARGETS)


def test_what_has_no_labels_is_left_out() -> None:
    more = np.hstack([np.full((3, 1), 640), SCORES])  # a width, which is no score
    more = np.vstack([more, np.full((1, 4), np.nan)])  # an image without scores, which has no labels either
    result = matched(label_csv(), more, classes=("width", *CLASSES), images=(*IMAGES, "val/c.jpg"))
    assert np.array_equal(result.scores, SCORES)
    assert "1 image without labels left out" in result.description
    assert "1 column left out: width" in result.description


@pytest.mark.parametrize("before", ["/home/someone/photos/", "../elsewhere/", "/mnt/disk/"])
def test_images_of_another_machine_are_known_by_their_names_and_never_opened(before: str) -> None:
    """Absolute paths, or such that climb out: only their names are of use here, and no picture is looked for there."""
    result = matched(label_csv(tuple(f"{before}{image}" for image in IMAGES)))
    assert np.array_equal(result.targets, TARGETS)
    assert np.array_equal(result.scores, SCORES)
    assert "the end of their path" in result.description
    assert result.split is None


def test_files_of_one_name_in_folders_that_differ() -> None:
    """`train/a.jpg` and `val/a.jpg` are two images, unless all of them are there."""
    labels = label_csv(("val/a.jpg", "val/b.jpg", "val/c.jpg"))
    assert "file name alone" in matched(labels, images=("other/c.jpg", "other/a.jpg", "other/b.jpg")).description
    scores = np.zeros((4, 3), np.float32)
    with pytest.raises(DataError, match="files of one name in different folders"):
        matched(labels, scores, images=("train/a.jpg", "train/b.jpg", "train/c.jpg", "train/d.jpg"))
    assert "1 image without labels" in matched(labels, scores, images=("a.jpg", "b.jpg", "c.jpg", "d.jpg")).description


@pytest.mark.parametrize(
    ("theirs", "how"),
    [
        (("a.jpg", "b.jpg", "c.jpg"), "the end of their path"),
        (("/x/val/a.jpg", "/x/val/b.jpg", "/x/val/c.jpg"), "the end of their path"),
        (("other/a.jpg", "other/b.jpg", "other/c.jpg"), "file name alone"),
        (("a", "b", "c"), "file name without its extension"),
        (("x/a.png", "x/b.png", "x/c.png"), "file name without its extension"),
    ],
)
def test_images_by_the_ends_of_their_paths(theirs: tuple[str, ...], how: str) -> None:
    result = matched(label_csv(("val/a.jpg", "val/b.jpg", "val/c.jpg")), SCORES[::-1].copy(), images=theirs[::-1])
    assert np.array_equal(result.scores, SCORES)
    assert f"images by {how}" in result.description


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (
            ("val/a.jpg", "val/b.jpg", "val/c.jpg"),
            r"s.npz has no scores of 'test/a.jpg' and 0 more of the 3 images of labels.csv",
        ),
        (("a.jpg", "b.jpg", "c.jpg"), r"the scores of 'a.jpg' would count for 'val/a.jpg' and 'test/a.jpg' of labels.csv"),
        (("1/val/a.jpg", "1/test/a.jpg", "2/val/a.jpg"), "has no scores of 'val/b.jpg'"),
        (("x", "y", "z"), r"None of the 3 images of labels.csv, such as 'val/a.jpg', is in s.npz, which has 'x'"),
    ],
)
def test_images_that_cannot_be_told(theirs: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        matched(label_csv(), images=theirs)


def test_several_images_that_may_be_meant() -> None:
    with pytest.raises(DataError, match=r"several of its images may be 'a\.jpg'"):
        matched(
            label_csv(("a.jpg", "b.jpg", "c.jpg")),
            np.tile(SCORES, (2, 1))[:4],
            images=("1/a.jpg", "2/a.jpg", "3/b.jpg", "3/c.jpg"),
        )


def test_row_by_row_where_nobody_names_images() -> None:
    for images in (None, ("0", "1", "2"), ("2", "1", "3")):
        result = matched(label_csv(), images=images)
        assert np.array_equal(result.scores, SCORES)
        assert result.images == IMAGES
        assert "images row by row" in result.description
    with pytest.raises(DataError, match=r"has scores of 2 images, but labels.csv has labels of 3. Name the image of each row"):
        matched(label_csv(), SCORES[:2], images=None)


def test_names_on_one_side_alone_are_no_order() -> None:
    with pytest.raises(UsageError, match=r"s\.npz does not name its images, and labels\.csv does.*--by-order"):
        matched(label_csv(), images=None, by_order=False)
    np.save("l.npy", TARGETS)
    with pytest.raises(UsageError, match=r"l\.npy does not name its images, and s\.npz does"):
        matched("l.npy", by_order=False)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(5), pa.dictionary(pa.int8(), pa.binary())], ids=str)
def test_names_of_parquet_are_names_however_they_are_stored(kind: pa.DataType) -> None:
    images = [b"a.jpg", b"b.jpg", b"c.jpg"]
    column = pa.array(images).dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else pa.array(images, kind)
    pq.write_table(pa.table({"image": column, "cat": [0.1, 0.2, 0.3]}), "s.parquet")
    assert read_scores(Path("s.parquet")).images == ("a.jpg", "b.jpg", "c.jpg")


def test_classes_by_position_number_and_synonym() -> None:
    assert "classes by position" in matched(label_csv(), classes=None).description
    numbered = matched(label_csv(), SCORES[:, ::-1].copy(), classes=("2", "1", "0"))
    assert np.array_equal(numbered.scores, SCORES)
    assert numbered.classes == CLASSES
    np.savez("l.npz", targets=TARGETS, classes=["tvmonitor", "dog", "Fish"])
    taken = matched("l.npz", classes=("dog", "fish", "tv"))
    assert np.array_equal(taken.scores, SCORES[:, [2, 0, 1]])
    assert "by synonym or spelling: tvmonitor from tv, Fish from fish" in taken.description


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("cat", "dog", "bird"), "has no scores of the class 'fish', which labels.csv has"),
        (("x", "y", "z"), "has no scores of the class 'cat' and 2 more"),
    ],
)
def test_classes_without_scores(classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        matched(label_csv(), classes=classes)


def test_classes_that_cannot_be_told() -> None:
    np.savez("l.npz", targets=TARGETS, classes=["cow", "cattle", "dog"])
    with pytest.raises(DataError, match="column 'cow' could be 'cow' or 'cattle'"):
        matched("l.npz", classes=("cow", "dog", "cat"))
    with pytest.raises(DataError, match=r"has scores of 2 classes, but labels\.csv has labels of 3"):
        matched(label_csv(), SCORES[:, :2], classes=None)


def test_arrays_of_labels() -> None:
    np.save("l.npy", TARGETS.astype(float))
    result = matched("l.npy")
    assert np.array_equal(result.targets, TARGETS)
    assert (result.classes, result.images) == (CLASSES, IMAGES)
    assert matched("l.npy", classes=None, images=None).classes == ("0", "1", "2")
    np.savez("l.npz", labels=TARGETS[::-1], images=IMAGES[::-1])
    result = matched("l.npz")
    assert np.array_equal(result.scores, SCORES[::-1])
    assert np.array_equal(result.targets, TARGETS[::-1])
    np.save("l.npy", np.array([[0.5]]))
    with pytest.raises(DataError, match=r"l.npy holds the label 0.5. Give 1 \(present\)"):
        matched("l.npy")
    with pytest.raises(UsageError, match="is an array and has no split"):
        matched("l.npy", split="val")


def test_what_the_numbers_of_an_array_mean_is_decided_as_in_a_table() -> None:
    signed = np.array([[1, -1, -1], [-1, 1, -1], [1, 1, -1]], np.int8)
    np.save("l.npy", signed)
    Path("l.csv").write_text(
        "\n".join(["image,cat,dog,fish", *(f"{i},{a},{b},{c}" for i, (a, b, c) in zip(IMAGES, signed, strict=True))])
    )
    np.savez("both.npz", scores=SCORES, labels=signed)
    for labels in ("l.npy", "l.csv"):
        result = matched(labels)
        assert np.array_equal(result.targets, np.maximum(signed, 0))
        assert result.interpretation is not None
        assert result.interpretation.files[0].values == {"-1": "absent", "1": "present"}
        assert np.array_equal(matched(labels, options=ReadingOptions(unknown="-1")).targets, signed)
    same = match_labels(read_scores(Path("both.npz"), reading=Reading(unknown=("-1",))))
    assert np.array_equal(same.targets, signed)
    difficult = np.array([[1, -1, -1], [0, 1, -1], [1, 1, -1]], np.int8)
    np.save("l.npy", difficult)
    with pytest.raises(DataError, match=r"l\.npy: 1, 0 and -1 occur 4, 1 and 4 times.*--absent 0 or --absent -1"):
        matched("l.npy")
    assert matched("l.npy", options=ReadingOptions(absent="-1")).targets.tolist() == [[1, 0, 0], [-1, 1, 0], [1, 1, 0]]
    assert matched("l.npy", classes=None, options=ReadingOptions(absent="0", classes="a,b,c")).classes == ("a", "b", "c")


@pytest.mark.parametrize("options", [ReadingOptions(delimiter=";"), ReadingOptions(long=True), ReadingOptions(encoding="cp1252")])
def test_an_option_of_reading_without_effect_is_refused(options: ReadingOptions) -> None:
    np.save("l.npy", TARGETS)
    with pytest.raises(UsageError, match=r"--(delimiter|long|encoding) has no effect on an array of labels"):
        matched("l.npy", options=options)
    records = [Record(image, "val", (k,)) for k, image in enumerate(IMAGES)]
    Manifest.from_records(Description("pets", Path("/gone"), CLASSES), records).save(Path("prepared/pets"))
    with pytest.raises(UsageError, match="has no effect on labels that were prepared before"):
        matched("pets", options=options)


def test_a_label_file_is_read_with_the_options_that_prepare_data_takes() -> None:
    rows = [f"{image};{cell};x" for image, cell in zip(IMAGES, ("Bär,dog", "dog", "Bär"), strict=True)]
    Path("l.csv").write_bytes("\n".join(["image;what;label", *rows]).encode("cp1252"))
    options = ReadingOptions(label_column="what", encoding="cp1252", delimiter=",")
    result = matched("l.csv", SCORES[:, :2], classes=("dog", "Bär"), options=options)
    assert result.targets.tolist() == [[1, 1], [0, 1], [1, 0]]
    Path("l.csv").write_text("image;cat;dog\n" + "".join(f"{image};0,7;0,2\n" for image in IMAGES))
    with pytest.raises(DataError, match=r"0,7 is a fraction.*--label-threshold"):
        matched("l.csv", SCORES[:, :2], classes=("cat", "dog"), options=ReadingOptions(decimal=","))
    result = matched("l.csv", SCORES[:, :2], classes=("cat", "dog"), options=ReadingOptions(decimal=",", threshold=0.5))
    assert result.targets.tolist() == [[1, 0]] * 3


def test_labels_in_the_same_file() -> None:
    np.savez("both.npz", scores=SCORES, labels=TARGETS)
    result = match_labels(read_scores(Path("both.npz")))
    assert np.array_equal(result.targets, TARGETS)
    assert result.classes == ("0", "1", "2")
    with pytest.raises(UsageError, match="Give the labels with --labels FILE"):
        matched(None)


def test_which_split_is_meant() -> None:
    labels = label_csv(("a.jpg", "b.jpg", "c.jpg"), splits=("train", "val", "train"))
    whole = matched(labels, images=("a.jpg", "b.jpg", "c.jpg"))
    assert whole.images == ("b.jpg",)
    assert "labels labels.csv, split val; images by path; 2 images without labels left out" in whole.description
    assert matched(labels, images=None).images == ("a.jpg", "b.jpg", "c.jpg")  # as many rows as all splits together
    assert matched(labels, SCORES[:2], images=None).images == ("a.jpg", "c.jpg")  # as many as in train
    assert matched(labels, SCORES[:2], images=("a.jpg", "c.jpg")).images == ("a.jpg", "c.jpg")
    assert matched(labels, images=("a.jpg", "b.jpg", "c.jpg"), split="train").images == ("a.jpg", "c.jpg")
    with pytest.raises(DataError, match="has no split 'test'"):
        matched(labels, split="test")


def test_an_image_in_several_splits() -> None:
    Path("labels.csv").write_text("image,cat,split\na.jpg,1,x\na.jpg,0,y\nb.jpg,1,y\n")
    with pytest.raises(DataError, match=r"'a\.jpg', which is in several splits, of labels\.csv"):
        matched("labels.csv", SCORES[:, :1], classes=("cat",), images=("a.jpg", "b.jpg", "c.jpg"), split="all")


def test_prepared_data_whose_images_are_gone() -> None:
    records = [Record(image, "val", (k,)) for k, image in enumerate(IMAGES)]
    Manifest.from_records(Description("pets", Path("/gone"), CLASSES), records).save(Path("prepared/pets"))
    for labels in ("pets", "prepared/pets"):
        result = matched(labels)
        assert np.array_equal(result.targets, np.eye(3))
        assert "labels prepared/pets, split val" in result.description


def test_labels_of_other_formats_without_their_images(tmp_path: Path) -> None:
    coco = make_coco(tmp_path / "coco", train=2, val=3)
    document = json.loads((coco / "annotations/instances_val2017.json").read_text())
    images = [image["file_name"] for image in document["images"]]
    for path in (coco / "val2017").iterdir():
        path.unlink()
    names = tuple(entry["name"] for entry in document["categories"])
    scores = np.random.default_rng(0).random((3, 10)).astype(np.float32)
    for labels in (coco, coco / "annotations/instances_val2017.json"):
        result = matched(str(labels), scores[::-1].copy(), classes=names, images=tuple(images[::-1]))
        assert np.array_equal(result.scores, scores)
        numbers = {entry["id"]: k for k, entry in enumerate(document["categories"])}
        expected = np.zeros((3, 10))
        for entry in document["annotations"]:
            expected[entry["image_id"], numbers[entry["category_id"]]] = 1
        assert np.array_equal(result.targets, expected)


def test_voc_by_the_names_of_its_images(tmp_path: Path) -> None:
    objects = {"000001": [voc_object("dog")], "000002": [voc_object("cat", difficult=1)]}
    folder = make_voc(tmp_path / "voc", {"test": objects})
    for path in folder.rglob("*.jpg"):
        path.unlink()
    result = matched(str(folder), SCORES[:2, :2], classes=("dog", "cat"), images=("000002", "000001"))
    assert result.targets[:, [result.classes.index("dog"), result.classes.index("cat")]].tolist() == [[1, 0], [0, -1]]
    assert result.scores[:, result.classes.index("dog")].tolist() == [SCORES[1, 0], SCORES[0, 0]]


def test_scores_that_are_written_are_matched_to_the_last_bit() -> None:
    labels = label_csv()
    for suffix in (".npz", ".parquet"):
        write_scores(Path(f"w{suffix}"), SCORES[::-1].copy(), CLASSES, IMAGES[::-1])
        assert match_labels(read_scores(Path(f"w{suffix}")), labels).scores.tobytes() == SCORES.tobytes()
