from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.data.images import open_image
from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.rows import Record
from sadcl_core.data.shards import write_shards
from sadcl_core.data.split import Split
from sadcl_core.inference.attention import attention_maps
from sadcl_core.inference.load import Model, load_trained
from sadcl_core.inference.thumbnails import draw_thumbnails
from sadcl_core.plots.overlay import attention_over

PAIRS = [(3, 1), (0, 2), (3, 5), (3, 1), (7, 0)]


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_trained(trained / "runs" / "coco" / "weights" / "best.safetensors")


@pytest.fixture(scope="module")
def split(trained: Path) -> Split:
    return load_manifest(trained / "prepared" / "coco").split("val")


def photos(folder: Path, sizes: dict[str, tuple[int, int]]) -> Split:
    """Images of one colour; no size for a file that is none."""
    folder.mkdir()
    for name, size in sizes.items():
        if size == (0, 0):
            (folder / name).write_bytes(b"no image")
        else:
            Image.new("RGB", size, (30, 90, 160)).save(folder / name)
    description = Description(name="photos", root=folder, classes=tuple("abcdefghij"))
    return Manifest.from_records(description, [Record(name, "val", ()) for name in sizes]).split("val")


def opened(content: bytes | None) -> Image.Image:
    assert content is not None
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "JPEG"
        return picture.convert("RGB")


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean())


def test_each_label_has_its_own_map_over_the_photo(model: Model, split: Split) -> None:
    calls: list[tuple[int, int]] = []
    drawn = draw_thumbnails(model, split, PAIRS, size=48, batch_size=2, progress=lambda done, total: calls.append((done, total)))
    assert drawn.notes == ()
    assert set(drawn.pictures) == set(PAIRS)
    assert calls == [(2, 3), (3, 3)]
    for (i, k), thumbnail in drawn.pictures.items():
        image = open_image(split.path(i))
        small = image.copy()
        small.thumbnail((48, 48))
        assert (thumbnail.width, thumbnail.height) == small.size == opened(thumbnail.overlay).size
        assert difference(opened(thumbnail.photo), small) < 12  # of JPEG
        ((_, _, expected),) = attention_maps(model.forward, model.card, image, labels=[model.card.classes[k]])
        assert difference(opened(thumbnail.overlay), attention_over(small, expected)) < 12
    assert drawn.pictures[3, 1].photo == drawn.pictures[3, 5].photo
    assert drawn.pictures[3, 1].overlay != drawn.pictures[3, 5].overlay


def test_batches_change_nothing(model: Model, split: Split) -> None:
    one, all_ = (draw_thumbnails(model, split, PAIRS, batch_size=size) for size in (1, 16))
    for key, thumbnail in one.pictures.items():
        assert thumbnail.photo == all_.pictures[key].photo
        assert difference(opened(thumbnail.overlay), opened(all_.pictures[key].overlay)) < 1


def test_images_in_shards(model: Model, split: Split, tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    from_files = draw_thumbnails(model, split, PAIRS)
    folder = write_shards(split.manifest, tmp_path / "shards")
    shards = load_manifest(folder).split("val")
    assert draw_thumbnails(model, shards, PAIRS) == from_files
    needed = {f"val-{i:06d}.tar" for i, _ in PAIRS}  # of one image each
    for path in folder.glob("*.tar"):
        if path.name not in needed:
            path.unlink()
    assert draw_thumbnails(None, shards, PAIRS).notes == ()
    (folder / "val-000003.tar").write_bytes(b"no shard")
    drawn = draw_thumbnails(None, shards, PAIRS)
    assert set(drawn.pictures) == {(0, 2), (7, 0)}
    assert "val-000003.tar" in drawn.notes[0]


def test_without_a_model(split: Split) -> None:
    drawn = draw_thumbnails(None, split, PAIRS, size=32)
    assert set(drawn.pictures) == set(PAIRS)
    assert all(thumbnail.overlay is None for thumbnail in drawn.pictures.values())
    assert opened(drawn.pictures[0, 2].photo).size == (32, 32)
    assert draw_thumbnails(None, split, []).pictures == {}


def test_the_shape_is_kept_and_what_is_broken_left_out(model: Model, tmp_path: Path) -> None:
    sizes = {"wide.png": (640, 160), "thin.png": (1, 900), "small.png": (20, 10), "broken.png": (0, 0), "gone.png": (9, 9)}
    split = photos(tmp_path / "images", sizes)
    split.path(4).unlink()
    pairs = [(i, 0) for i in range(5)]
    for drawn in (draw_thumbnails(None, split, pairs), draw_thumbnails(model, split, pairs, batch_size=3)):
        shapes = {i: (thumbnail.width, thumbnail.height) for (i, _), thumbnail in drawn.pictures.items()}
        assert shapes == {0: (160, 40), 1: (1, 160), 2: (20, 10)}
        assert [note.split(": ")[1] for note in drawn.notes] == ["not an image.", "no such file."]
    shutil.rmtree(tmp_path / "images")
    nothing = draw_thumbnails(model, split, pairs)
    assert (nothing.pictures, len(nothing.notes)) == ({}, 5)
