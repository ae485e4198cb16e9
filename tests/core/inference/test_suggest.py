"""Which images to label next, and the files in which people do."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from sadcl_core.data.image_stream import open_images
from sadcl_core.data.images import NamedImage
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.labelling_tasks import check_tasks, write_tasks
from sadcl_core.inference.load import load_trained
from sadcl_core.inference.suggest import Suggestions, choose, suggest
from sadcl_core.registry import TASKS


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images, and one that cannot be read."""
    photos = Path(shutil.copytree(trained / "my-coco/val2017", tmp_path_factory.mktemp("to-label") / "photos"))
    (photos / "zz.png").write_bytes(b"no image")
    return photos


@pytest.fixture(scope="module")
def suggestions(trained: Path, folder: Path) -> Suggestions:
    return suggest(load_trained(trained / "runs/coco", device="cpu"), open_images([folder]), count=5, batch_size=4, workers=0)


def test_the_least_sure_and_unlike_images_come_first() -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(6, 8)), 5, axis=0) + rng.normal(0, 0.01, (30, 8))  # six looks, five images of each
    uncertainty = np.repeat([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 5) + rng.random(30)
    chosen = choose(uncertainty, features, count=4)
    assert chosen[0] == uncertainty.argmax()
    assert len({int(index) // 5 for index in chosen}) == 4
    assert choose(uncertainty, features, count=99).tolist() != []
    assert sorted(choose(uncertainty, features, count=99).tolist()) == list(range(30))


def test_far_from_the_prototype_counts() -> None:
    distance = np.array([0.1, 1.5, 0.2])
    assert choose(np.ones(3), np.eye(3), distance, count=1).tolist() == [1]


def test_images_are_ranked_and_broken_ones_named(suggestions: Suggestions) -> None:
    assert suggestions.seen == 13
    assert len({one.image.name for one in suggestions.chosen}) == 5
    assert len(suggestions.errors) == 1
    assert "zz.png" in suggestions.errors[0]
    for one in suggestions.chosen:
        assert one.labels
        assert 0 < one.uncertainty <= 10
        assert one.distance is not None
        assert 0 <= one.distance <= 2


def test_nothing_to_choose_from(trained: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="zz"):
        suggest(load_trained(trained / "runs/coco", device="cpu"), open_images([folder / "zz.png"]), workers=0)


def test_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(UsageError, match="exist-ok"):
        check_tasks("csv", tmp_path / "a.csv", exist_ok=False)
    with pytest.raises(UsageError, match="cvat"):
        check_tasks("cvta", None, exist_ok=False)
    assert check_tasks("cvat", None, exist_ok=False) == Path("to-label.xml")


def read_back(path: Path, images: Path, output: Path) -> Manifest:
    return prepare([str(path)], data=images, output=output, split="train").manifest


def first_confirmed(suggestions: Suggestions, form: str, path: Path) -> None:
    """Write the file as it is when a person has confirmed class 3 alone in the first image, and touched no other."""
    write_tasks(suggestions, form, path)
    name = suggestions.classes[3]
    if form == "csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        rows[0] |= {"labels": name, "unknown": ""}
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif form == "labelstudio":
        tasks = json.loads(path.read_text())
        result = tasks[0]["predictions"][0]["result"][0] | {"value": {"choices": [name]}}
        tasks[0]["annotations"] = [{"result": [result]}]
        path.write_text(json.dumps(tasks))
    elif form == "cvat":
        tree = ET.parse(path)
        image = tree.getroot().find("image")
        assert image is not None
        for tag in list(image):
            image.remove(tag)
        ET.SubElement(image, "tag", label=name, source="manual")
        tree.write(path)
    else:
        document = json.loads(path.read_text())
        document["samples"][0]["ground_truth"] = {"_cls": "Classifications", "classifications": [{"label": name}]}
        path.write_text(json.dumps(document))


@pytest.mark.parametrize("form", TASKS)
def test_what_nobody_confirmed_is_unknown(suggestions: Suggestions, folder: Path, tmp_path: Path, form: str) -> None:
    path = check_tasks(form, None, exist_ok=False).name
    first_confirmed(suggestions, form, tmp_path / path)
    manifest = read_back(tmp_path / path, folder, tmp_path / "prepared")
    name, first = suggestions.classes[3], Path(suggestions.chosen[0].image.name).name
    split = manifest.split("all")
    targets = {Path(image).name: split.targets(number) for number, image in enumerate(split)}
    assert targets[first][manifest.classes.index(name)] == 1
    assert (targets.pop(first) == 0).sum() == len(manifest.classes) - 1
    assert all((row == -1).all() for row in targets.values())  # or the image is left out
    assert len(targets) == (4 if form in ("csv", "cvat") else 0)


@pytest.mark.parametrize("form", TASKS)
def test_a_name_that_is_no_utf8_is_written_by_its_bytes(
    suggestions: Suggestions, folder: Path, tmp_path: Path, form: str
) -> None:
    path = tmp_path / os.fsdecode(b"\xff.png")
    path.write_bytes((folder / suggestions.chosen[0].image.name).read_bytes())
    first = replace(suggestions.chosen[0], image=NamedImage(str(path), path))
    write_tasks(replace(suggestions, chosen=(first,)), form, tmp_path / "tasks")
    assert "\\xff.png" in (tmp_path / "tasks").read_text(encoding="utf-8").replace("\\\\", "\\")


@pytest.mark.parametrize("form", ["labelstudio", "fiftyone"])
def test_suggestions_alone_are_no_labels(suggestions: Suggestions, folder: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / check_tasks(form, None, exist_ok=False).name
    write_tasks(suggestions, form, path)
    with pytest.raises(DataError):
        read_back(path, folder, tmp_path / "prepared")
    if form == "fiftyone":  # unless they are named as the labels
        named = prepare([str(path)], data=folder, output=tmp_path / "named", split="train", label_column="predictions").manifest
        assert len(named) == 5
