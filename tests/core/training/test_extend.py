"""A class more for a trained model: the old ones stay as they are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sadcl_core.data.images import NamedImage
from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.rows import Record
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.load import load_trained
from sadcl_core.inference.split import open_split
from sadcl_core.runs.card import read_card
from sadcl_core.runs.run_directory import read_status
from sadcl_core.training.extend import Extension, extend
from sadcl_core.training.extended_data import with_class

PHOTOS = [f"my-coco/train2017/{number:03d}.png" for number in range(1, 8)]
OPTIONS = {"steps": 2, "device": "cpu", "workers": 0}


@pytest.fixture(scope="module")
def extended(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Extension:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        output = tmp_path_factory.mktemp("extended") / "run"
        return extend("runs/coco", PHOTOS, add="otter", output=output, **OPTIONS)  # type: ignore[arg-type]


def test_every_number_of_the_old_classes_stays_to_the_bit(trained: Path, extended: Extension) -> None:
    before, after = load_file(trained / "runs/coco/weights/best.safetensors"), load_file(extended.model)
    grown = {name for name in before if before[name].shape != after[name].shape}
    assert {"prototypes", "head.class_embedding", "head.weight", "head.bias"} <= grown
    assert all(torch.equal(before[name], after[name][: len(before[name])] if name in grown else after[name]) for name in before)
    old, new = read_card(trained / "runs/coco/weights/best.safetensors"), read_card(extended.model)
    assert new.classes == (*old.classes, "otter")
    assert new.thresholds == (*(old.thresholds or (0.5,) * 10), extended.threshold)
    assert new.first_weights == old.first_weights


def test_scores_of_the_old_classes_stay(trained: Path, extended: Extension) -> None:
    image = trained / PHOTOS[0]
    old, new = (load_trained(run, device="cpu").predict(image).scores for run in (trained / "runs/coco", extended.run))
    np.testing.assert_allclose(new[:10], old, atol=1e-6)


def test_the_card_says_what_the_class_was_made_of(extended: Extension) -> None:
    (facts,) = read_card(extended.model).trained["extended"]
    assert facts["name"] == "otter"
    assert (facts["photos"], facts["confirmed"]) == (7, False)
    assert facts["compared"] == 12
    assert facts["interval"][0] <= facts["ap_interpolated"] <= facts["interval"][1]


def test_the_class_is_unknown_but_in_its_photos(trained: Path, extended: Extension) -> None:
    manifest = load_manifest(Path(read_status(extended.run)["manifest"]))
    split = manifest.split("all")
    targets = dict(zip(split, split.all_targets()[:, 10].tolist(), strict=True))
    assert sorted(image for image, target in targets.items() if target == 1) == sorted(p.removeprefix("my-coco/") for p in PHOTOS)
    assert set(targets.values()) == {1, -1}
    opened = open_split(load_trained(extended.run, device="cpu"))
    assert not opened.changed
    assert opened.split.name == "val"


def test_photos_from_elsewhere_join_the_training_images(trained: Path, tmp_path: Path) -> None:
    photos = [shutil.copy(trained / "my-coco/val2017" / f"00{number}.png", tmp_path) for number in range(3)]
    shutil.copytree(trained / "my-coco/val2017", tmp_path / "without")
    made = extend(trained / "runs/coco", photos, add="otter", negatives=[tmp_path / "without"], output=tmp_path / "x", **OPTIONS)  # type: ignore[arg-type]
    assert made.confirmed
    assert np.isnan(made.interval[0])  # three photos cannot say
    train = load_manifest(tmp_path / "x/data").split("train")
    assert len(train) == 24 + 3 + 12
    assert train.all_targets()[24:, 10].tolist() == [0] * 12 + [1] * 3
    assert (train.all_targets()[24:, :10] == -1).all()


def test_a_photo_counts_once_and_never_as_an_image_without_the_class(trained: Path, tmp_path: Path) -> None:
    folder = trained / "my-coco/val2017"
    photos = [folder / f"00{number}.png" for number in (0, 1, 2, 0)]
    made = extend(trained / "runs/coco", photos, add="otter", negatives=[folder], output=tmp_path / "x", **OPTIONS)  # type: ignore[arg-type]
    assert (made.photos, made.others) == (3, 9)


def test_a_photo_whose_name_is_no_utf8_is_no_row() -> None:
    manifest = Manifest.from_records(Description("pets", Path("/pets"), ("cat",)), [Record("a.jpg", "test", (0,))])
    photos = [NamedImage(name, Path(f"/pets/{name}")) for name in ("b.jpg", os.fsdecode(b"\xff.jpg"))]
    assert list(with_class(manifest, "otter", photos).split("all")) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("work", ["reading images", "fitting the class"])
def test_an_interruption_leaves_no_run(trained: Path, tmp_path: Path, work: str) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == work:
            raise KeyboardInterrupt

    photos = [trained / photo for photo in PHOTOS]
    with pytest.raises(KeyboardInterrupt):
        extend(trained / "runs/coco", photos, add="otter", output=tmp_path / "x", progress=interrupt, **OPTIONS)  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_a_model_file_alone_needs_images_without_the_class(trained: Path, tmp_path: Path) -> None:
    alone = shutil.copy(trained / "runs/coco/weights/best.safetensors", tmp_path / "m.safetensors")
    with pytest.raises(UsageError, match="--negatives"):
        extend(alone, [trained / "my-coco/val2017"], add="otter", output=tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_added_is_refused(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    with pytest.raises(UsageError, match="already"):
        extend("runs/coco", PHOTOS, add=read_card(Path("runs/coco/weights/best.safetensors")).classes[0])
    with pytest.raises(UsageError, match="cannot be the name"):
        extend("runs/coco", PHOTOS, add=" \n")
    with pytest.raises(UsageError, match="too few"):
        extend("runs/coco", PHOTOS[:1], add="otter")
    with pytest.raises(UsageError, match="exists"):
        extend("runs/coco", PHOTOS, add="otter", output=Path("my-coco"))
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"Too few of the images can be read.*broken"):
        extend("runs/coco", [PHOTOS[0], tmp_path / "broken.png"], add="otter", output=tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()
