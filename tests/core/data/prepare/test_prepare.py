from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sadcl_core.data.formats import digits
from sadcl_core.data.formats.source import Source
from sadcl_core.data.images import open_image
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.prepare.prepare import find_or_prepare, prepare
from sadcl_core.errors import DataError, UsageError
from tests.conftest import make_coco, make_voc, voc_object
from tests.core.data.formats.samples import SAMPLES, draw_all, put

PETS = ("cat", "dog", "cat;bird")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def test_label_files_are_given_one_per_split() -> None:
    draw_all(Path("mine"), [f"{k}.jpg" for k in range(4)])
    train = put(Path("mine/a.csv"), "image,labels\n0.jpg,cat\n1.jpg,dog\n")
    test = put(Path("mine/b.csv"), "image,labels\n2.jpg,cat\n3.jpg,dog\n")
    prepared = prepare([f"train={train}", f"test={test}"], export=["csv", "jsonl"])
    assert prepared.manifest.split_sizes == {"train": 2, "test": 2}
    assert [file.name for file in prepared.files] == ["report.json", "labels.csv", "classes.txt", "labels.jsonl", "classes.txt"]
    assert all(file.is_file() for file in prepared.files)


def test_counts_what_is_there(coco: Path) -> None:
    seen: list[tuple[int, int]] = []
    prepared = prepare("coco", data=coco, progress=lambda what, done, total: seen.append((done, total)))
    assert seen[-1] == (36, 36)
    train, val = prepared.report.splits
    assert (train.images, val.images) == (24, 12)
    assert train.without_labels == val.without_labels == 1
    split = prepared.manifest.split("train")
    assert train.class_counts == tuple(split.class_counts())
    assert train.labels_per_image == pytest.approx(sum(train.class_counts) / 24)
    assert sorted(path.name for path in Path("prepared/coco").iterdir()) == ["dataset.json", "manifest.arrow", "report.json"]


def test_nothing_of_the_users_is_touched(coco: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in coco.rglob("*")}
    prepare("coco", data=coco)
    assert {path: path.stat().st_mtime_ns for path in coco.rglob("*")} == before


def test_broken_images_are_an_error_that_names_and_counts_them(coco: Path) -> None:
    truncate(coco / "train2017" / "003.png")
    (coco / "val2017" / "001.png").unlink()
    with pytest.raises(
        DataError, match=r"2 of 36 images cannot be read.*003\.png: broken image.*001\.png: no such file.*--skip-broken"
    ):
        prepare("coco", data=coco)
    assert not Path("prepared").exists()


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (["photos/9.jpg"], "2 of 3 images .* where no name is like theirs, but photos/9.jpg is there"),
        (["photos/A.png"], "2 of 3 images .* where photos/a.jpg is like photos/A.png"),
    ],
)
def test_missing_images_are_counted_and_compared_by_name(there: list[str], message: str) -> None:
    draw_all(Path("mine"), [*there, "photos/x1.jpg"])
    put(Path("mine/labels.csv"), "image,labels\nphotos/x1.jpg,cat\nphotos/a.jpg,dog\nphotos/b.jpg,dog\n")
    with pytest.raises(DataError, match=message):
        prepare("mine")


def test_archives_have_to_be_unpacked() -> None:
    put(Path("mine/labels.csv"), "image,labels\n1.jpg,cat\n2.jpg,dog\n")
    put(Path("mine/images.zip"), "PK")
    with pytest.raises(DataError, match=r"which hold no image\. Unpack images\.zip first"):
        prepare("mine")


def test_of_images_by_absolute_paths_those_that_are_missing_are_named(tmp_path: Path) -> None:
    draw_all(tmp_path / "far", ["a/1.jpg", "b/2.jpg"])
    lines = [f"{tmp_path}/far/{name},cat\n" for name in ("a/1.jpg", "b/2.jpg", "b/3.jpg")]
    put(Path("mine/labels.csv"), "image,labels\n" + "".join(lines))
    with pytest.raises(DataError, match=f"1 of 3 images cannot be read. {tmp_path}/far/b/3.jpg: no such file"):
        prepare("mine")


def test_broken_images_can_be_left_out(coco: Path) -> None:
    truncate(coco / "train2017" / "003.png")
    prepared = prepare("coco", data=coco, skip_broken=True)
    assert [problem.image for problem in prepared.problems] == ["train2017/003.png"]
    assert prepared.report.splits[0].images == 23
    assert "train2017/003.png" not in list(prepared.manifest.split("train"))
    assert "left out 1 image that could not be read" in find_or_prepare("coco", data=coco).manifest.description.notes[-1]


def test_without_decoding_only_missing_files_are_found(coco: Path) -> None:
    truncate(coco / "train2017" / "003.png")
    prepare("coco", data=coco, fast=True)
    (coco / "val2017" / "001.png").unlink()
    with pytest.raises(DataError, match="1 of 36 images"):
        prepare("coco", data=coco, fast=True)


def test_annotations_whose_images_are_all_gone(coco: Path) -> None:
    for path in coco.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="none of the 36 images"):
        prepare("coco", data=coco, skip_broken=True)


def test_prepared_once_and_again_when_the_annotations_change(coco: Path) -> None:
    assert find_or_prepare("coco", data=coco).kind == "now"
    assert find_or_prepare("coco", data=coco).kind == "before"
    assert find_or_prepare("coco").kind == "before"
    assert find_or_prepare("prepared/coco").kind == "folder"
    shutil.rmtree(coco)
    make_coco(coco, train=10)
    origin = find_or_prepare("coco")
    assert origin.kind == "now"
    assert len(origin.manifest.split("train")) == 10


def test_another_folder_does_not_overwrite_a_manifest(coco: Path) -> None:
    prepare("coco", data=coco)
    other = make_coco(Path("other"))
    for command in (prepare, find_or_prepare):
        with pytest.raises(UsageError, match=r"prepared/coco is the manifest of coco in .*my-coco, not of coco in other.*-o"):
            command("coco", data=other)
    assert prepare("coco", data=other, output=Path("second")).manifest.folder == Path("second")


def test_another_data_set_in_the_same_folder_does_not_overwrite_a_manifest(coco: Path) -> None:
    prepare("coco", data=coco, output=Path("mine"))
    with pytest.raises(UsageError, match=r"mine is the manifest of coco in .*, not of coco2017"):
        prepare("coco2017", data=coco, output=Path("mine"))


def put_pets(name: str, numbers: range) -> Path:
    """A table of images of a cat or a dog, and of a bird on every third."""
    draw_all(Path("pets"), [f"{k}.jpg" for k in numbers])
    return put(Path("pets") / name, "image,labels\n" + "".join(f"{k}.jpg,{PETS[k % 3]}\n" for k in numbers))


@pytest.mark.parametrize(("prepared", "named"), [("pets/labels.csv", "pets"), ("pets", "pets/labels.csv")])
def test_the_same_labels_in_other_words_are_the_data_that_were_prepared(tmp_path: Path, prepared: str, named: str) -> None:
    put_pets("labels.csv", range(8))
    prepare(prepared, drop=["bird"])
    origin = find_or_prepare(named)
    assert (origin.kind, origin.source) == ("before", str(tmp_path / prepared))
    put_pets("labels.csv", range(12))
    origin = find_or_prepare(named)
    assert (origin.kind, len(origin.manifest), origin.manifest.classes) == ("now", 12, ("cat", "dog"))
    assert prepare(named).manifest.classes == ("bird", "cat", "dog")


def test_a_table_that_was_chosen_among_several_is_the_data_of_its_folder() -> None:
    prepare(put_pets("labels.csv", range(8)))
    put_pets("metadata.csv", range(8))
    assert find_or_prepare("pets").kind == "before"


def test_a_part_of_the_labels_in_a_folder_is_not_taken_for_all() -> None:
    prepare(put_pets("train.csv", range(8)))
    put_pets("test.csv", range(8, 12))
    with pytest.raises(UsageError, match=r"prepared/pets is the manifest of .*train\.csv .*Train with prepared/pets as it is"):
        find_or_prepare("pets")


def test_a_public_data_set_may_be_prepared_by_its_path(tmp_path: Path) -> None:
    splits = {"trainval": {"000001": [voc_object("dog")]}, "test": {"000002": [voc_object("dog")]}}
    prepare(make_voc(tmp_path / "place/voc2007", splits))
    origin = find_or_prepare("voc2007")
    assert (origin.kind, origin.source) == ("before", str(tmp_path / "place/voc2007"))


def test_an_edited_voc_annotation_is_noticed(tmp_path: Path) -> None:
    splits = {"trainval": {"000001": [voc_object("dog")]}, "test": {"000002": [voc_object("dog")]}}
    voc = make_voc(tmp_path / "voc", splits)
    find_or_prepare("voc2007", data=voc)
    assert find_or_prepare("voc2007").kind == "before"
    (voc / "VOCdevkit/VOC2007/Annotations/000001.xml").write_text(f"<annotation>{voc_object('cat')}</annotation>")
    origin = find_or_prepare("voc2007")
    assert origin.kind == "now"
    assert origin.manifest.split("train").active(0) == [7]


@pytest.mark.parametrize("content", ["{", '{"schema_version": 99}'])
def test_a_damaged_description_is_written_anew(coco: Path, content: str) -> None:
    prepare("coco", data=coco)
    Path("prepared/coco/dataset.json").write_text(content)
    prepare("coco", data=coco)
    assert find_or_prepare("coco").manifest.splits == ["train", "val"]


@pytest.mark.parametrize("output", ["file", "file/inside"])
def test_a_manifest_cannot_be_written_over_a_file(coco: Path, output: str) -> None:
    Path("file").write_text("mine")
    with pytest.raises(UsageError, match="cannot be written"):
        prepare("coco", data=coco, output=Path(output))
    assert Path("file").read_text() == "mine"


def test_a_folder_with_other_files_is_not_written_to(coco: Path) -> None:
    with pytest.raises(UsageError, match="holds other files"):
        prepare("coco", data=coco, output=coco)


def test_what_is_not_there() -> None:
    Path("file").write_text("")
    with pytest.raises(DataError, match="file is not a folder"):
        prepare("digits", data=Path("file"))
    with pytest.raises(DataError, match=r"nowhere does not exist. Check --data"):
        prepare("coco", data=Path("nowhere"))
    with pytest.raises(
        DataError, match=r"data/voc2007 does not exist. Fetch it: sadcl prepare-data voc2007 --download. Or say where"
    ):
        find_or_prepare("voc2007")
    with pytest.raises(UsageError, match="Did you mean 'voc2007'"):
        find_or_prepare("voc207")
    Path("folder").mkdir()
    with pytest.raises(DataError, match="folder holds no labels in a known format"):
        find_or_prepare("folder")


def test_a_suggested_command_can_be_typed(coco: Path) -> None:
    spaced = coco.rename(coco.with_name("my photos"))
    prepare("coco", data=make_coco(Path("first")))
    with pytest.raises(UsageError, match=r"sadcl prepare-data coco --data '.*my photos' -o prepared/coco-2"):
        prepare("coco", data=spaced)


# ---- labels that changed


def active(manifest: Manifest) -> dict[tuple[str, str], list[str]]:
    """The labels of every image by its split and path."""
    return {(row["split"], row["image"]): [manifest.classes[k] for k in row["active"]] for row in manifest.rows.to_pylist()}


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def swapped(first: Path, second: Path) -> None:
    """Two files change their names; none is written."""
    between = first.with_name("between")
    first.rename(between)
    second.rename(first)
    between.rename(second)


def rewritten_with_an_old_time(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(10**18, 10**18))


def with_lists(folder: Path) -> Path:
    """YOLO whose description names lists of images."""
    path = SAMPLES["yolo"](folder)
    put(path / "train.txt", "images/train/a.jpg\n")
    put(path / "val.txt", "images/val/c.jpg\n")
    return put(path / "data.yaml", "train: train.txt\nval: val.txt\nnames: [cat, dog]\n").parent


def with_one_table(folder: Path, name: str = "train.csv") -> Path:
    draw_all(folder, [f"{k}.jpg" for k in range(12)])
    return put(folder / name, "image,labels\n" + "".join(f"{k}.jpg,{'cat' if k % 2 else 'dog'}\n" for k in range(10))).parent


TAGS = "photo\ncat\nsitting on a sofa\ndog"
NUSWIDE_TRAIN = "Groundtruth/Labels_Train.txt"


@pytest.mark.parametrize(
    ("write", "change"),
    [
        (with_lists, lambda folder: put(folder / "train.txt", "images/train/b.jpg\n")),
        (with_lists, lambda folder: put(folder / "labels/train/a.txt", "0 0.5 0.5 0.25 0.5\n")),
        (SAMPLES["yolo"], lambda folder: swapped(folder / "labels/train/a.txt", folder / "labels/train/b.txt")),
        (SAMPLES["yolo"], lambda folder: rewritten_with_an_old_time(folder / "labels/train/a.txt", "0 0.5 0.5 0.25 0.5\n")),
        (SAMPLES["yolo"], lambda folder: (folder / "labels/train/a.txt").unlink()),
        (SAMPLES["yolo"], lambda folder: draw_all(folder / "images/train", ["new.jpg"])),
        (SAMPLES["captions"], lambda folder: swapped(folder / "a.txt", folder / "b.txt")),
        (SAMPLES["captions"], lambda folder: rewritten_with_an_old_time(folder / "b.txt", "photo, cat")),
        (SAMPLES["captions"], lambda folder: put(folder / "d.txt", "cat")),
        (SAMPLES["voc-own"], lambda folder: swapped(*(folder / f"Annotations/00000{k}.xml" for k in (5, 7)))),
        (SAMPLES["nuswide"], lambda folder: replaced(folder / NUSWIDE_TRAIN, "0 0 0", "1 0 0")),
        (
            SAMPLES["nuswide"],
            lambda folder: replaced(folder / "ImageList/TrainImagelist.txt", "zoo\\gone.jpg", "zoo\\0003_5.jpg"),
        ),
        (SAMPLES["nuswide-per-class"], lambda folder: replaced(folder / "TrainTestLabels/Labels_airport_Train.txt", "0", "1")),
        (SAMPLES["vg500"], lambda folder: replaced(folder / "vg_category_500_labels_index.json", "260", "261")),
        (SAMPLES["vg500"], lambda folder: replaced(folder / "train_list_500.txt", "2.jpg\n", "")),
        (with_one_table, lambda folder: put(folder / "val.csv", "image,labels\n10.jpg,cat\n11.jpg,dog\n")),
        (with_one_table, lambda folder: put(folder / "classes.txt", "dog\ncow\ncat\n")),
        (SAMPLES["vg500"], lambda folder: put(folder / "classes.txt", "".join(f"thing {k}\n" for k in range(500)))),
        (SAMPLES["captions"], lambda folder: put(folder / "classes.txt", f"{TAGS}\nmore\n")),
        (SAMPLES["voc-own"], lambda folder: put(folder / "classes.txt", "my dog\nmy cow\nmy cat\n")),
        (
            with_one_table,
            lambda folder: rewritten_with_an_old_time(folder / "train.csv", "image,labels\n1.jpg,cat\n2.jpg,dog\n3.jpg,\n"),
        ),
    ],
)
def test_labels_that_changed_are_noticed(write: Callable[[Path], Path], change: Callable[[Path], object]) -> None:
    folder = write(Path("mine"))
    find_or_prepare(str(folder), whole=True)
    first = find_or_prepare(str(folder), whole=True)
    assert first.kind == "before"
    change(folder)
    second = find_or_prepare(str(folder), whole=True)
    assert second.kind == "now"
    shutil.rmtree("prepared")
    fresh = find_or_prepare(str(folder), whole=True).manifest
    assert (second.manifest.classes, second.manifest.rows) == (fresh.classes, fresh.rows)
    assert (active(second.manifest), second.manifest.classes) != (active(first.manifest), first.manifest.classes)
    assert find_or_prepare(str(folder), whole=True).kind == "before"


@pytest.mark.parametrize("name", ["csv", "coco-single", "jsonl", "vg500", "nuswide", "openmmlab"])
def test_labels_that_were_only_touched_are_not_read_again(name: str) -> None:
    path = SAMPLES[name](Path("mine"))
    find_or_prepare(str(path), whole=True)
    folder = path if path.is_dir() else path.parent
    for file in folder.rglob("*"):
        if file.suffix in (".csv", ".json", ".jsonl", ".txt"):
            os.utime(file, ns=(10**18, 10**18))
    assert find_or_prepare(str(path), whole=True).kind == "before"


def test_the_list_of_classes_that_was_said_is_a_label_file_too() -> None:
    folder = with_one_table(Path("mine"))
    put(Path("order.txt"), "dog\ncat\n")
    prepare(str(folder), classes=Path("order.txt"))
    assert find_or_prepare(str(folder)).kind == "before"
    put(Path("order.txt"), "dog\ncow\ncat\n")
    taken = find_or_prepare(str(folder))
    assert taken.kind == "now"
    assert taken.manifest.classes == ("dog", "cow", "cat")


def test_the_first_of_several_lists_of_classes_is_the_one() -> None:
    folder = with_one_table(Path("mine"), "labels.csv")
    (folder / "annotations").mkdir()
    (folder / "labels.csv").rename(folder / "annotations/labels.csv")
    put(folder / "classes.txt", "cow\ncat\ndog\n")
    put(folder / "annotations/classes.txt", "dog\ncat\n")
    assert prepare(str(folder)).manifest.classes == ("dog", "cat")
    assert find_or_prepare(str(folder)).kind == "before"


# ---- what was said when data were prepared


def test_options_are_those_of_the_first_time() -> None:
    folder = SAMPLES["voc-own"](Path("mine"))
    options: dict[str, Any] = {"split": "0.5,0.25,0.25", "seed": 5, "difficult": "positive", "resize": 4, "skip_broken": True}
    first = prepare(str(folder), fast=True, **options).manifest
    replaced(folder / "Annotations/000007.xml", "my cat", "my cow")
    taken = find_or_prepare(str(folder))
    assert taken.kind == "now"
    assert taken.manifest.description.options.items() >= {**options, "decode": False}.items()
    assert taken.manifest.description.root == first.description.root
    assert "my cow" in taken.manifest.classes


@pytest.mark.parametrize("given", ["lab/x.csv", "lab"])
def test_images_are_where_they_were_said_to_be(given: str) -> None:
    draw_all(Path("imgs"), [f"{k}.jpg" for k in range(12)])
    put(Path("lab/x.csv"), "image,labels\n" + "".join(f"{k}.jpg,{'cat' if k % 2 else 'dog'}\n" for k in range(10)))
    prepared = prepare(given, data=Path("imgs")).manifest
    again = find_or_prepare(given)
    assert again.kind == "before"
    assert again.manifest.description.root == prepared.description.root == Path("imgs").resolve()
    put(Path("lab/x.csv"), "image,labels\n" + "".join(f"{k}.jpg,{'cat' if k % 3 else 'dog'}\n" for k in range(10)))
    changed = find_or_prepare(given)
    assert changed.kind == "now"
    assert changed.manifest.description.root == Path("imgs").resolve()
    shutil.copytree("imgs", "other")
    assert find_or_prepare(given, data=Path("other")).manifest.description.root == Path("other").resolve()


def test_a_known_data_set_is_found_where_it_moved_to() -> None:
    splits = {"trainval": {"000001": [voc_object("dog")]}, "test": {"000002": [voc_object("cat")]}}
    find_or_prepare("voc2007", data=make_voc(Path("voc"), splits))
    Path("data").mkdir()
    Path("voc").rename("data/voc2007")
    manifest = find_or_prepare("voc2007").manifest
    assert manifest.description.root == Path("data/voc2007").resolve()
    assert all(manifest.split("all").path(i).is_file() for i in range(2))
    assert find_or_prepare("voc2007").kind == "before"


def test_a_prepared_data_set_is_found_by_its_name() -> None:
    prepare(str(with_one_table(Path("sets/mine"))))
    assert not find_or_prepare("mine").newer
    put(Path("sets/mine/train.csv"), "image,labels\n1.jpg,cat\n")
    assert find_or_prepare("mine").newer.endswith("train.csv")


# ---- where a manifest may go


def test_a_folder_with_a_description_of_something_else_is_not_written_to() -> None:
    put(Path("theirs/dataset.json"), {"title": "mine"})
    before = Path("theirs/dataset.json").read_text()
    with pytest.raises(UsageError, match=r"theirs holds other files\. Choose another place for the manifest with -o"):
        prepare(str(with_one_table(Path("mine"))), output=Path("theirs"))
    assert [path.name for path in Path("theirs").iterdir()] == ["dataset.json"]
    assert Path("theirs/dataset.json").read_text() == before


def test_a_manifest_may_be_written_where_one_was_with_all_that_lies_beside_it() -> None:
    folder = with_one_table(Path("mine"))
    prepare(str(folder), output=Path("out"), resize=4)
    put(Path("out/report.png"), b"")
    put(Path("out/export/csv/labels.csv"), "")
    put(Path("out/.manifest.arrow.1.2.tmp"), "")
    assert prepare(str(folder), output=Path("out")).manifest.description.root == folder.resolve()
    put(Path("out/mine.txt"), "mine")
    assert prepare(str(folder), output=Path("out")).manifest.folder == Path("out")
    assert Path("out/mine.txt").read_text() == "mine"
    Path("out/manifest.arrow").unlink()
    with pytest.raises(UsageError, match="out holds other files"):
        prepare(str(folder), output=Path("out"))


# ---- images that cannot be used


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_whose_images_are_all_broken_is_left_out(coco: Path, split: str) -> None:
    for path in (coco / f"{split}2017").iterdir():
        truncate(path)
    prepared = prepare("coco", data=coco, skip_broken=True)
    other = "val" if split == "train" else "train"
    assert list(prepared.manifest.split_sizes) == [other]
    assert [entry.name for entry in prepared.report.splits] == [other]
    assert f"{len(prepared.problems)} images that could not be read" in prepared.manifest.description.notes[-1]


def test_drawn_scenes_whose_list_leads_out_of_the_folder_are_not_copied() -> None:
    digits.read(Source("digits", Path("scenes")), scenes={"train": 4, "test": 4})
    prepare("digits", data=Path("scenes"), output=Path("first"))
    draw_all(Path(), ["outside.jpg"])
    for image in ("../outside.jpg", "images/../../outside.jpg", str(Path("outside.jpg").resolve())):
        document = json.loads(Path("scenes/digits.json").read_text())
        document["scenes"][0]["image"] = image
        put(Path("scenes/digits.json"), document)
        before = set(Path().rglob("*"))
        with pytest.raises(DataError, match=r"outside\.jpg lies outside"):
            prepare("digits", data=Path("scenes"), output=Path("second"), resize=8)
        assert set(Path().rglob("*")) == before


# ---- copies that were interrupted


def coloured(folder: Path, colour: tuple[int, int, int]) -> Path:
    """Images that only their colour tells from those of another folder of this kind, of the same time."""
    for number in range(40):
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((20, 20, 3), colour, np.uint8)
        pixels[0, 0] = number
        Image.fromarray(pixels).save(folder / f"{number}.png")
        os.utime(folder / f"{number}.png", ns=(10**18, 10**18))
    put(folder / "labels.csv", "image,labels\n" + "".join(f"{k}.png,{'cat' if k % 2 else 'dog'}\n" for k in range(40)))
    return folder


def interrupted(folder: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "writing copies":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(str(folder), resize=10, progress=interrupt)


def test_interrupted_copies_are_not_taken_for_those_of_other_data_of_the_same_name() -> None:
    interrupted(coloured(Path("one/pets"), (250, 0, 0)))
    assert list(Path("prepared/pets/.images-10").glob("*.jpg"))
    manifest = prepare(str(coloured(Path("two/pets"), (0, 0, 250))), resize=10).manifest
    for number in range(40):
        red, _, blue = open_image(manifest.split("all").path(number)).getpixel((9, 9))  # type: ignore[misc]
        assert blue > 200 > 50 > red
    assert not Path("prepared/pets/.images-10").exists()


def test_finished_copies_are_not_taken_for_those_of_another_folder_of_images() -> None:
    coloured(Path("red"), (250, 0, 0)).joinpath("labels.csv").rename("x.csv")
    coloured(Path("blue"), (0, 0, 250))
    prepare("x.csv", data=Path("red"), resize=10)
    prepare("x.csv", data=Path("blue"))  # the copies stay, and are not those of these
    for folder, channel in (("blue", 2), ("red", 0)):
        manifest = prepare("x.csv", data=Path(folder), resize=10).manifest
        assert manifest.description.root == Path("prepared/x/images-10").resolve()
        pixels = [np.asarray(open_image(manifest.split("all").path(number)))[9, 9] for number in range(40)]
        assert all(pixel[channel] > 200 > 50 > pixel[2 - channel] for pixel in pixels)


def test_interrupted_copies_of_the_same_data_are_gone_on_with() -> None:
    folder = coloured(Path("one/pets"), (250, 0, 0))
    interrupted(folder)
    assert [path.name for path in Path("prepared/pets").iterdir()] == [".images-10"]
    kept = {path.name: path.stat().st_ctime_ns for path in Path("prepared/pets/.images-10").glob("*.jpg")}
    assert kept
    manifest = prepare(str(folder), resize=10).manifest
    assert manifest.description.root == Path("prepared/pets/images-10").resolve()
    assert not Path("prepared/pets/.images-10").exists()
    now = {path.name: path.stat().st_ctime_ns for path in manifest.description.root.glob("*.jpg")}
    assert len(now) == 40
    assert {name: now[name] for name in kept} == kept
    assert find_or_prepare(str(folder)).kind == "before"


def test_a_project_that_was_copied_finds_its_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, copied = make_project(tmp_path / "project"), tmp_path / "elsewhere" / "copy"
    monkeypatch.chdir(project)
    first = prepare("pets", split="0.5,0.5").manifest
    shutil.copytree(project, copied)
    monkeypatch.chdir(copied)
    assert load_manifest(Path("prepared/pets")).description.root == copied / "pets"
    (copied / "pets").rename("away")
    assert load_manifest(Path("prepared/pets")).description.root == project / "pets"
    Path("away").rename("pets")
    again = find_or_prepare("pets")
    assert again.manifest.description.root == copied / "pets"
    assert again.manifest.rows.equals(first.rows)


def make_project(folder: Path) -> Path:
    draw_all(folder / "pets", [f"{k}.png" for k in range(8)])
    put(folder / "pets" / "labels.csv", "image,labels\n" + "".join(f"{k}.png,{'cat' if k % 2 else 'dog'}\n" for k in range(8)))
    return folder


def test_another_encoding_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    labels = "image,labels\n" + "".join(f"{k}.png,{'Bär' if k % 2 else 'Hund'}\n" for k in range(8))
    put(tmp_path / "pets" / "labels.csv", labels.encode("cp1252"))
    with pytest.raises(DataError, match=r"is not UTF-8 text .* or name its --encoding: cp1252"):
        prepare("pets")
    assert prepare("pets", encoding="cp1252").manifest.classes == ("Bär", "Hund")
    assert find_or_prepare("pets").kind == "before"
    for name in ("cp9999", "base64", "\udcff", "a\0"):
        with pytest.raises(UsageError, match=r"no encoding called .*\. Write one such as cp1252"):
            prepare("pets", encoding=name)


def test_decimal_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    rows = (f"{k}.png;{'0,75' if k % 2 else '0,25'};{'1,0' if k % 3 else '0,0'}\n" for k in range(8))
    put(tmp_path / "pets" / "labels.csv", "image;cat;dog\n" + "".join(rows))
    manifest = prepare("pets", decimal=",", threshold=0.5, split="all").manifest
    assert manifest.classes == ("cat", "dog")
    assert manifest.split("all").class_counts().tolist() == [4, 5]


def test_a_list_of_classes_to_keep_that_changed_is_noticed() -> None:
    draw_all(Path("mine"), [f"{k}.jpg" for k in range(12)])
    put(Path("mine/a.csv"), "image,labels\n" + "".join(f"{k}.jpg,{PETS[k % 3]}\n" for k in range(12)))
    names = put(Path("names.txt"), "cat\n")
    assert prepare("mine", keep=names).manifest.classes == ("cat",)
    assert find_or_prepare("mine").kind == "before"
    put(names, "cat\nbird\n")
    again = find_or_prepare("mine")
    assert (again.kind, again.manifest.classes) == ("now", ("bird", "cat"))
