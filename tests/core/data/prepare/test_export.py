from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.prepare.export import EXPORTS, check_exports, write_labels
from sadcl_core.data.prepare.prepare import find_or_prepare, prepare
from sadcl_core.data.rows import Box, Record
from sadcl_core.errors import DataError, UsageError
from tests.conftest import make_coco

PLAIN = ("cat", "dog", "car", "tree")
AWKWARD = (
    *("traffic light", "a, b", 'so "called"', "über Größe 犬", "x|y", "1;2", "it's", "[list]", "['a']", "# no", "$5_000"),
    *("none", "1", "0", "nan", "-1", "?", "true", "back\\slash", "tab\there", "{}", "ends]", "image", "labels", "🐈"),
)
NUMBERS = ("10", "9", "0", "1", "2")
NAMES = [
    *("a.jpg", "sub/b c.png", "sub/ü 犬.jpg", "d,e.png", "f'g\"h.jpg", "i#j%20.png", "k;l|m.jpg", "n (1).png", "o.jpg", "p.png"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def draw(root: Path, names: Sequence[str]) -> None:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 30 + seed, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)


def manifest_of(classes: Sequence[str], splits: Sequence[str] = ("train", "val", "test"), boxes: bool = True) -> Manifest:
    """Images of many labels, of one and of none, unknown labels, and a class that is never active."""
    root = Path("my photos").resolve()
    draw(root, NAMES)
    rng = np.random.default_rng(0)
    records = []
    for i, name in enumerate(NAMES):
        active = tuple(k for k in range(len(classes) - 1) if rng.random() < 0.3) if i % 4 else ()
        unknown = tuple(k for k in range(len(classes)) if k not in active and rng.random() < 0.1)
        own = tuple(Box(k, 1.5, 2.25, 3 + k % 5, 4) for k in (*active[1:], *active[1:2]))  # the first label has no box
        records.append(Record(name, splits[i * len(splits) // len(NAMES)], active, unknown, own if boxes else None))
    return Manifest.from_records(Description("some", root, tuple(classes)), records)


def held(manifest: Manifest) -> list[dict[str, Any]]:
    """All rows but for the boxes, which only COCO keeps."""
    return [{key: row[key] for key in ("image", "split", "active", "unknown")} for row in manifest.rows.to_pylist()]


def boxes_of(manifest: Manifest) -> list[list[tuple[float, ...]]]:
    return [sorted(tuple(box.values()) for box in row["boxes"] or ()) for row in manifest.rows.to_pylist()]


def read_back(manifest: Manifest, form: str, *dataset: str) -> Manifest:
    back = prepare(dataset or f"out/{form}", data=manifest.description.root, output=Path("back"), name="back").manifest
    assert back.description.root == manifest.description.root
    return back


@pytest.mark.parametrize("form", EXPORTS)
@pytest.mark.parametrize("classes", [PLAIN, AWKWARD, NUMBERS, ("only one",), ("z", "a", "m")])
def test_what_was_written_is_read_back_the_same(form: str, classes: Sequence[str]) -> None:
    manifest = manifest_of(classes)
    paths = write_labels(manifest, form, Path("out") / form)
    assert all(path.is_file() for path in paths)
    back = read_back(manifest, form)
    assert back.classes == manifest.classes
    assert held(back) == held(manifest)
    if form == "coco":
        assert boxes_of(back) == boxes_of(manifest)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_the_file_alone_says_it_all(form: str) -> None:
    manifest = manifest_of(AWKWARD)
    path = write_labels(manifest, form, Path("out"))[0]
    back = read_back(manifest, form, str(path))
    assert held(back) == held(manifest)
    assert back.classes == manifest.classes


@pytest.mark.parametrize("form", EXPORTS)
@pytest.mark.parametrize(
    "records",
    [
        [Record(name, "train", (0,) if name == NAMES[3] else ()) for name in NAMES],
        [Record(name, "test", ()) for name in NAMES],
        [Record(name, split, (0,)) for split in ("train", "test") for name in NAMES[:2]],
    ],
    ids=["one label", "no label", "images of two splits"],
)
def test_a_manifest_without_boxes(form: str, records: list[Record]) -> None:
    root = Path("my photos").resolve()
    draw(root, NAMES)
    manifest = Manifest.from_records(Description("some", root, ("one", "two")), records)
    write_labels(manifest, form, Path("out") / form)
    assert held(read_back(manifest, form)) == held(manifest)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_splits_of_other_names_come_back(form: str) -> None:
    manifest = manifest_of(PLAIN, ("fold 1", "fold/2", "../../fold 3"))
    write_labels(manifest, form, Path("out") / form)
    assert held(read_back(manifest, form)) == held(manifest)


def test_a_split_is_no_path_that_coco_files_are_written_to() -> None:
    manifest = manifest_of(PLAIN, ("fold 1", "fold/1", "a/../../../../x"))
    before = {path for path in Path().rglob("*") if path.is_file()}
    paths = write_labels(manifest, "coco", Path("deep/er/out"))
    assert {path.parent for path in paths} == {Path("deep/er/out/annotations")}
    assert {path for path in Path().rglob("*") if path.is_file()} - before == set(paths)
    assert len(paths) == 1  # the images say which split they are in
    assert held(read_back(manifest, "coco", str(paths[0]))) == held(manifest)


def test_coco_is_what_its_own_tools_read(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = manifest_of(AWKWARD)
    paths = write_labels(manifest, "coco", Path("out"))
    assert [path.name for path in paths] == [f"instances_{split}.json" for split in ("train", "val", "test")]
    for path in paths:
        coco = COCO(path)
        document = json.loads(path.read_text(encoding="utf-8"))
        assert [category["name"] for category in coco.loadCats(sorted(coco.getCatIds()))] == list(AWKWARD)
        assert len({annotation["id"] for annotation in document["annotations"]}) == len(document["annotations"])
        for image in document["images"]:
            with Image.open(manifest.description.root / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
    capsys.readouterr()


def test_superclasses_are_kept_by_coco() -> None:
    manifest = manifest_of(PLAIN)
    manifest.description = Description("some", manifest.description.root, PLAIN, ("animal", "animal", "vehicle", "plant"))
    write_labels(manifest, "coco", Path("out/coco"))
    assert read_back(manifest, "coco").description.superclasses == ("animal", "animal", "vehicle", "plant")


def test_plain_names_make_a_plain_table() -> None:
    manifest = manifest_of(PLAIN)
    with write_labels(manifest, "csv", Path("out"))[0].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == NAMES
    for row, stored in zip(rows, held(manifest), strict=True):
        assert row["labels"] == "|".join(PLAIN[k] for k in stored["active"])
        assert row["unknown"] == "|".join(PLAIN[k] for k in stored["unknown"])
        assert row["split"] == stored["split"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_class_name_of_two_lines_is_refused(form: str) -> None:
    manifest = manifest_of(("cat", "two\nlines", "dog"))
    with pytest.raises(DataError, match=r"some: the class name 'two\\nlines' has a line break.*export as coco"):
        write_labels(manifest, form, Path("out"))
    assert not Path("out").exists()
    write_labels(manifest, "coco", Path("out/coco"))
    assert read_back(manifest, "coco").classes == manifest.classes


def test_an_image_that_is_gone_is_named() -> None:
    manifest = manifest_of(PLAIN)
    (manifest.description.root / NAMES[0]).unlink()
    with pytest.raises(DataError, match=r"a\.jpg: no such file"):
        write_labels(manifest, "coco", Path("out"))
    assert not [path for path in Path("out").rglob("*") if path.is_file()]
    write_labels(manifest, "csv", Path("out"))


@pytest.mark.parametrize("name", ["yolo", "CSV", "", "jsonl "])
def test_a_format_that_is_not_written_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="Labels cannot be written as"):
        check_exports(["csv", name])


@pytest.mark.parametrize("form", EXPORTS)
def test_a_place_that_cannot_be_written_is_said(form: str) -> None:
    Path("out").write_text("mine")
    with pytest.raises(UsageError, match="cannot be written"):
        write_labels(manifest_of(PLAIN), form, Path("out"))
    assert Path("out").read_text() == "mine"


@pytest.mark.parametrize("form", EXPORTS)
def test_one_form_goes_to_another_and_back(form: str) -> None:
    """From COCO, of which the pictures are scaled, to a form and back."""
    make_coco(Path("my-coco").resolve())
    manifest = prepare("my-coco", resize=32).manifest
    write_labels(manifest, form, Path("out") / form)
    back = read_back(manifest, form)
    assert held(back) == held(manifest)
    assert back.classes == manifest.classes
    if form == "coco":
        assert boxes_of(back) == boxes_of(manifest)
    assert find_or_prepare("my-coco").kind == "before"
