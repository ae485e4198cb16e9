from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.rows import Box, Record
from sadcl_core.data.shards import write_shards
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.evaluation.localise import LocalisationObserver, cannot_be_localised, upright_corners
from sadcl_core.metrics.localisation import box_cover, box_energy
from sadcl_core.model.classifier import Classifier, ClassifierOutput
from sadcl_core.runs.checkpoint import load_model

NOBODY = cast("Classifier", None)  # the observer does not look at the model itself
SIZE = (80, 40)  # of every image here, as stored
CLASSES = ("cat", "dog", "cow")


def split_of(folder: Path, records: Sequence[Record], orientations: Sequence[int] = ()) -> Split:
    """Images of SIZE with an EXIF orientation."""
    for number, record in enumerate(records):
        image = Image.new("RGB", SIZE)
        image.getexif()[0x0112] = orientations[number] if orientations else 1
        image.save(folder / record.image, exif=image.getexif())
    return Manifest.from_records(Description("farm", folder, CLASSES), records).split("val")


def observed(
    split: Split, attention: np.ndarray, *, tolerance: float = 0.0, targets: np.ndarray | None = None
) -> LocalisationObserver:
    """All images of a split in batches of two; attention is (N, K, h, w)."""
    observer = LocalisationObserver(split, tolerance=tolerance)
    known = np.stack([split.targets(i) for i in range(len(split))]) if targets is None else targets
    for start in range(0, len(split), 2):
        rows = slice(start, start + 2)
        nothing = torch.zeros(0)
        output = ClassifierOutput(nothing, nothing, torch.from_numpy(attention[rows]), image_features=nothing)
        observer(NOBODY, output, torch.from_numpy(known[rows]), torch.arange(len(split))[rows])
    observer.gather()
    return observer


def peaks(points: Sequence[tuple[int, int, int, int]], images: int, h: int = 4, w: int = 8) -> np.ndarray:
    """Maps (N, K, h, w) that are flat but for one high cell at (image, label, row, column)."""
    maps = np.full((images, len(CLASSES), h, w), 1.0)
    for image, label, row, column in points:
        maps[image, label, row, column] = 9.0
    maps /= maps.sum(axis=(2, 3), keepdims=True)
    return maps


def test_means_of_each_class_by_hand(tmp_path: Path) -> None:
    left, right = Box(0, 0, 0, 20, 40), Box(0, 60, 0, 20, 40)  # a quarter of the image each
    records = [
        Record("a.jpg", "val", (0, 1), boxes=(left, right, Box(1, 30, 10, 20, 20))),
        Record("b.jpg", "val", (0,), boxes=(right,)),
        Record("c.jpg", "val", (0, 2), boxes=None),
        Record("d.jpg", "val", (1,), boxes=()),
    ]
    maps = peaks([(0, 0, 3, 7), (0, 1, 0, 0), (1, 0, 0, 0)], 4)
    result = observed(split_of(tmp_path, records), maps).result()
    assert result.counts.tolist() == [2, 1, 0]
    np.testing.assert_allclose(result.pointing, [0.5, 0, np.nan])
    np.testing.assert_allclose(result.centre, [0, 1, np.nan])
    np.testing.assert_allclose(result.area, [(0.5 + 0.25) / 2, 1 / 8, np.nan])
    # 32 cells of 1 but for one of 9: 40 in all; a quarter of the image is 8 cells
    np.testing.assert_allclose(result.energy, [((16 + 8) / 40 + 8 / 40) / 2, 4 / 40, np.nan])
    means = result.means()
    assert means["pointing"] == pytest.approx(0.25)
    assert means["area"] == pytest.approx(0.25)
    assert list(means) == ["pointing", "centre", "energy", "area"]


@pytest.mark.parametrize("turned", range(1, 9))
def test_a_box_is_turned_as_its_image_is(tmp_path: Path, turned: int) -> None:
    box = Box(0, 10, 5, 25, 12)
    pixels = np.zeros((40, 80), np.uint8)
    pixels[5:17, 10:35] = 255
    stored = Image.fromarray(pixels)
    stored.getexif()[0x0112] = turned
    upright = np.asarray(ImageOps.exif_transpose(stored)) / 255
    h, w = upright.shape
    corners = upright_corners(box, SIZE, turned)
    np.testing.assert_allclose(box_cover([corners], h, w), upright, atol=1e-9)
    # and in the observer: attention on exactly the pixels that the model sees of the object
    split = split_of(tmp_path, [Record("a.jpg", "val", (0,), boxes=(box,))], [turned])
    result = observed(split, np.tile(upright / upright.sum(), (1, 3, 1, 1))).result()
    assert result.pointing[0] == 1
    assert result.energy[0] == pytest.approx(1)
    assert result.area[0] == pytest.approx(25 * 12 / 3200)


@pytest.mark.parametrize(("turned", "hit"), [(1, 1), (6, 0)])
def test_tolerance_is_in_pixels_of_the_image(tmp_path: Path, turned: int, hit: int) -> None:
    # the highest cell is centred on x = 1/16, y = 1/8 of the upright image; the box starts a tenth of the way down
    box = Box(0, 16, 0, 16, 40) if turned == 1 else Box(0, 0, 0, 80, 30)
    split = split_of(tmp_path, [Record("a.jpg", "val", (0,), boxes=(box,))], [turned])
    maps = peaks([(0, 0, 0, 0)], 1)
    assert observed(split, maps).result().pointing[0] == 0
    # upright 80 x 40: point at (5, 5), box from x = 16 on, 11 away; on its side 40 x 80: (2.5, 10), box from x = 10 on, 7.5 away
    assert observed(split, maps, tolerance=11.5).result().pointing[0] == 1
    assert observed(split, maps, tolerance=7).result().pointing[0] == 0
    assert observed(split, maps, tolerance=8).result().pointing[0] == 1 - hit


def test_only_active_labels_are_looked_at(tmp_path: Path) -> None:
    boxes = (Box(0, 0, 0, 40, 40), Box(1, 0, 0, 40, 40), Box(2, 0, 0, 40, 40))
    split = split_of(tmp_path, [Record("a.jpg", "val", (0,), (1,), boxes)])
    assert observed(split, peaks([], 1)).result().counts.tolist() == [1, 0, 0]
    nothing = observed(split, peaks([], 1), targets=np.full((1, 3), -1, np.int8)).result()
    assert np.isnan(nothing.pointing).all()
    assert np.isnan(list(nothing.means().values())).all()


def test_the_size_of_batches_and_their_order_change_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = []
    for number in range(7):
        corners = rng.uniform([0, 0, 1, 1], [60, 30, 20, 20], (3, 4))
        boxes = tuple(Box(int(rng.integers(3)), *map(float, sides)) for sides in corners)
        records.append(Record(f"{number}.jpg", "val", tuple({box.label for box in boxes}), boxes=boxes))
    split = split_of(tmp_path, records, [1, 6, 8, 3, 1, 5, 2])
    maps = rng.random((7, 3, 4, 4))
    expected = observed(split, maps).result()
    observer = LocalisationObserver(split)
    nothing, order = torch.zeros(0), torch.tensor([4, 2, 0, 6, 1, 5, 3])
    targets = torch.from_numpy(np.stack([split.targets(i) for i in order.tolist()]))
    output = ClassifierOutput(nothing, nothing, torch.from_numpy(maps)[order], image_features=nothing)
    observer(NOBODY, output, targets, order)
    for name in ("pointing", "centre", "energy", "area", "counts"):
        np.testing.assert_allclose(getattr(observer.result(), name), getattr(expected, name), atol=1e-12)


def test_a_trained_model_against_the_equations(trained: Path) -> None:
    model = load_model(trained / "runs" / "coco" / "weights" / "best.safetensors")
    split = load_manifest(trained / "prepared" / "coco").split("val")
    observer = LocalisationObserver(split)
    energies: dict[int, list[float]] = {}
    with torch.inference_mode():
        for images, targets, indices in make_loader(split, model.card.preprocessing.resize, batch_size=5, workers=0):
            output = model.classifier(model.card.preprocessing.normalise(images), need_attention=True)
            observer(model.classifier, output, targets, indices)
            assert output.attention is not None
            for row, index in enumerate(indices.tolist()):
                boxes = split.boxes(index) or []
                for label in {box.label for box in boxes}:  # images of 64 x 64 pixels, upright
                    own = [[b.x / 64, b.y / 64, (b.x + b.width) / 64, (b.y + b.height) / 64] for b in boxes if b.label == label]
                    energy = box_energy(output.attention[row, label].numpy(), box_cover(own, 4, 4))
                    energies.setdefault(label, []).append(energy)
    observer.gather()
    result = observer.result()
    assert result.counts.tolist() == [len(energies.get(k, [])) for k in range(10)]
    for label, values in energies.items():
        assert result.energy[label] == pytest.approx(np.mean(values), rel=1e-5)
    assert split.class_counts().tolist() == result.counts.tolist()


def test_what_cannot_be_measured_says_why(trained: Path, tmp_path: Path) -> None:
    manifest = load_manifest(trained / "prepared" / "coco")
    assert cannot_be_localised(manifest.split("val")) == ""
    write_shards(manifest, tmp_path / "shards")
    assert "shards" in cannot_be_localised(load_manifest(tmp_path / "shards").split("val"))
    for boxes in (None, ()):
        split = split_of(tmp_path, [Record("a.jpg", "val", (0,), boxes=boxes)])
        assert cannot_be_localised(split) == "farm has no boxes to compare attention with."


def test_an_image_that_is_gone(tmp_path: Path) -> None:
    split = split_of(tmp_path, [Record("a.jpg", "val", (0,), boxes=(Box(0, 1, 1, 5, 5),))])
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"a\.jpg: no such file"):
        observed(split, peaks([], 1))
