from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
import torch

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.manifest import Manifest, load_manifest
from sadcl_core.data.prepare.prepare import find_or_prepare, prepare
from sadcl_core.data.rows import Box
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.load import Model
from sadcl_core.inference.split import open_split
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.card import ModelCard
from sadcl_core.runs.run_directory import RunDirectory
from tests.core.data.formats.samples import SAMPLES, draw_all, put

LABELS = ("cat", "cat;dog", "dog;cow", "")
CLASSES = ("cat", "cow", "dog")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put_table(path: Path, labels: Mapping[int, str] | None = None, *, photos: str = "photos") -> Path:
    """A table of numbered images in photos/ beside it, or in another folder."""
    labels = labels or {k: LABELS[k % 4] for k in range(20)}
    draw_all(path.parent / photos if photos == "photos" else Path(photos), [f"{k}.png" for k in labels])
    start = "photos/" if photos == "photos" else ""
    return put(path, "image,labels\n" + "".join(f"{start}{k}.png,{text}\n" for k, text in labels.items()))


def model(classes: tuple[str, ...] = CLASSES, *, trained_on: Manifest | None = None, eval_split: str = "val") -> Model:
    """A model of which only what it says of itself is looked at, alone or in the folder of its run."""
    card = ModelCard(classes=classes, img_size=32, mean=(0.5,) * 3, std=(0.5,) * 3, model=ModelSection())
    run = None
    if trained_on is not None:
        assert trained_on.folder is not None
        run = RunDirectory(Path("runs/mine"))
        run.path.mkdir(parents=True)
        run.write_status(
            manifest=str(trained_on.folder.resolve()), eval_split=eval_split, data_fingerprint=trained_on.fingerprint()
        )
    return Model(cast(Classifier, None), card, Path("runs/mine/weights/best.safetensors"), run, device=torch.device("cpu"))


@pytest.fixture
def own() -> Manifest:
    """The data of a run: 20 images in pets/, divided."""
    return prepare(str(put_table(Path("pets/labels.csv")).parent)).manifest


def labels_of(split: Split) -> dict[str, list[str]]:
    return {image: [split.manifest.classes[k] for k in split.active(i)] for i, image in enumerate(split)}


# ---- which data are meant


def test_the_held_out_split_of_the_run_unless_another_is_said(own: Manifest) -> None:
    opened = model(trained_on=own)
    for data, request, name in ((None, None, "val"), ("pets", None, "val"), (None, "train", "train"), (None, "all", "all")):
        result = open_split(opened, data=data, split=request)
        assert result.split.name == name
        assert result.split.manifest.rows.equals(own.rows)
        assert result.split.manifest.description.name == "pets"
        assert not result.changed
        assert (result.seen > 0) == (name != "val")


def test_a_model_file_alone_needs_data() -> None:
    with pytest.raises(UsageError, match=r"does not say where its data lies\. Give --data"):
        open_split(model())


def test_another_folder_with_images_of_the_same_names_has_its_own_labels(own: Manifest) -> None:
    other = {k: LABELS[(k + 1) % 4] for k in range(20)}
    put_table(Path("others/labels.csv"), other)
    split = open_split(model(trained_on=own), data="others").split
    assert split.manifest.description.root == Path("others").resolve()
    assert labels_of(split) == {f"photos/{k}.png": sorted(filter(None, text.split(";"))) for k, text in other.items()}
    assert (split.manifest.description.name, split.name, len(split)) == ("others", "test", 20)


@pytest.mark.parametrize(
    "name", ["csv", "jsonl", "coco-official", "coco-single", "voc-own", "yolo", "captions", "imagefolder-jsonl"]
)
def test_data_of_the_run_that_moved_with_their_labels(name: str) -> None:
    path = SAMPLES[name](Path("mine"))
    folder = path if path.is_dir() else path.parent
    undivided = name in ("coco-single", "voc-own", "captions")
    own = prepare(str(folder), split="val" if undivided else "").manifest
    opened = model(own.classes, trained_on=own, eval_split=own.splits[-1])
    folder.rename("moved")
    split = open_split(opened, data="moved").split
    assert split.manifest.rows.equals(own.rows)
    assert all(split.path(i).is_relative_to(Path("moved").resolve()) and split.path(i).is_file() for i in range(len(split)))
    assert (split.manifest.description.name, split.name) == ("mine", own.splits[-1])
    assert [entry.name for entry in Path("prepared").iterdir()] == ["mine"]


def test_images_of_the_run_that_moved_without_the_labels() -> None:
    table = put_table(Path("lab/x.csv"), photos="imgs")
    own = prepare(str(table), data=Path("imgs")).manifest
    Path("imgs").rename("moved")
    opened = model(trained_on=own)
    split = open_split(opened, data="moved").split
    assert split.manifest.rows.equals(own.rows)
    assert (split.manifest.description.name, split.name) == ("x", "val")
    put_table(Path("moved/labels.csv"), dict.fromkeys(range(20), "cat;cow"), photos="moved")  # now they have labels of their own
    split = open_split(opened, data="moved").split
    assert set(map(tuple, labels_of(split).values())) == {("cat", "cow")}
    assert (split.manifest.description.name, split.name, len(split)) == ("moved", "test", 20)


def test_labels_that_were_edited_on_the_way_are_read(own: Manifest) -> None:
    opened = model(trained_on=own)
    Path("pets").rename("moved")
    put_table(Path("moved/labels.csv"), dict.fromkeys(range(20), "cow;dog"))
    split = open_split(opened, data="moved").split
    assert set(map(tuple, labels_of(split).values())) == {("cow", "dog")}


def test_data_can_be_said_although_those_of_the_run_are_gone(own: Manifest) -> None:
    opened = model(trained_on=own)
    shutil.rmtree("prepared")
    with pytest.raises(DataError, match="is not a prepared data set"):
        open_split(opened)
    split = open_split(opened, data="pets").split
    assert len(split) == 20
    assert [entry.name for entry in Path("prepared").iterdir()] == ["pets@test"]


# ---- label files that come without splits


def test_a_label_file_is_taken_whole_and_a_later_training_on_it_divides_it() -> None:
    put_table(Path("new.csv"))
    for name in ("new.csv", str(Path("new.csv").resolve())):
        split = open_split(model(), data=name).split
        assert (split.name, len(split)) == ("test", 20)
        assert split.manifest.description.name == "new"
        assert [entry.name for entry in Path("prepared").iterdir()] == ["new@test"]
    divided = find_or_prepare("new.csv")
    assert divided.manifest.split_sizes == {"train": 16, "val": 2, "test": 2}
    assert "divided by iterative stratification" in divided.manifest.description.notes[-1]
    assert load_manifest(Path("prepared/new@test")).split_sizes == {"test": 20}
    split = open_split(model(), data="new.csv").split  # once divided, only what is held out
    assert (split.name, len(split)) == ("val", 2)


def test_splits_that_a_label_file_has_are_kept() -> None:
    path = put_table(Path("new.csv"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},split", *(f"{line},{'ab'[k % 2]}" for k, line in enumerate(lines[1:]))]) + "\n")
    split = open_split(model(), data="new.csv", split="b").split
    assert (split.name, len(split)) == ("b", 10)
    assert open_split(model(), data="new.csv").split.name == "all"
    with pytest.raises(DataError, match=r"has no split 'c'\. It has: a, b"):
        open_split(model(), data="new.csv", split="c")


# ---- classes


@pytest.mark.parametrize("classes", [CLASSES, ("dog", "cow", "cat"), ("bird", "dog", "horse", "cat", "cow")])
def test_classes_are_numbered_as_the_model_has_them(classes: tuple[str, ...]) -> None:
    put_table(Path("new.csv"))
    result = open_split(model(classes), data="new.csv")
    split = result.split
    assert split.manifest.classes == classes
    assert labels_of(split) == {
        f"photos/{k}.png": sorted(filter(None, LABELS[k % 4].split(";")), key=classes.index) for k in range(20)
    }
    for i, image in enumerate(split):
        text = LABELS[int(Path(image).stem) % 4]
        assert split.targets(i).tolist() == [int(name in text.split(";")) for name in classes]
    assert result.labelled == 3


@pytest.mark.parametrize("classes", [("car", "dog"), ("dog", "car"), ("cat", "dog", "cow", "car")])
def test_boxes_and_unknown_labels_are_numbered_along(classes: tuple[str, ...]) -> None:
    path = SAMPLES["coco-single"](Path("mine"))
    document = json.loads(path.read_text())
    document["images"][2]["unknown_category_ids"] = [7]
    put(path, document)
    split = open_split(model(classes), data=str(path)).split
    car, dog = (classes.index(name) for name in ("car", "dog"))
    assert split.boxes(0) == [Box(dog, 1.0, 2.0, 3.0, 4.0), Box(car, 0.0, 0.0, 8.0, 8.0)]
    assert split.boxes(2) == []
    assert split.active(0) == sorted([car, dog])
    assert [k for k, value in enumerate(split.targets(2)) if value < 0] == [dog]
    assert load_manifest(Path("prepared/mine@test")).classes == ("car", "dog")


def test_classes_that_the_model_does_not_know_are_refused() -> None:
    put_table(Path("new.csv"), {0: "cat", 1: "unicorn;dog"})
    with pytest.raises(DataError, match="new has classes that the model does not know, such as 'unicorn'"):
        open_split(model(), data="new.csv")


def test_data_prepared_again_since_the_training(own: Manifest) -> None:
    opened = model(trained_on=own)
    put_table(Path("pets/labels.csv"), {k: "cow;dog" if k else "cat" for k in range(20)})
    prepare("pets")
    assert open_split(opened).changed
