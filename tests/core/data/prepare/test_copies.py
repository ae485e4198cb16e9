from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.data.images import open_image
from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.prepare.copies import compact, copy_name, originals
from sadcl_core.data.prepare.prepare import find_or_prepare, prepare
from sadcl_core.data.rows import Box, Record
from sadcl_core.errors import DataError, UsageError
from tests.conftest import make_coco
from tests.core.data.test_images import STORED, save_turned
from tests.core.data.tiff import write_png


def manifest_of(root: Path, images: Sequence[str | Record]) -> Manifest:
    records = (image if isinstance(image, Record) else Record(image, "train", (0,)) for image in images)
    return Manifest.from_records(Description("some", root, ("cat", "dog"), notes=("a note",)), records)


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Smooth colours with edges and a little noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse).astype(float)
    pixels[size[1] // 3 : size[1] // 2, size[0] // 4 : size[0] // 2] = 230, 60, 30
    noisy = pixels + rng.normal(0, 2, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def put(path: Path, size: tuple[int, int] = (40, 30), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(size, seed).save(path)
    return path


def paths_of(manifest: Manifest) -> list[Path]:
    return [manifest.description.root / image for image in manifest.rows["image"].to_pylist()]


@pytest.mark.parametrize("short_side", [16, 97, 224])
@pytest.mark.parametrize("size", [(640, 480), (333, 500), (1000, 229), (225, 224), (224, 224), (301, 300)])
def test_the_short_side_is_exact_and_the_aspect_kept(tmp_path: Path, size: tuple[int, int], short_side: int) -> None:
    put(tmp_path / "in" / "a.png", size)
    [path] = paths_of(compact(manifest_of(tmp_path / "in", ["a.png"]), tmp_path / "out", short_side=short_side))
    with Image.open(path) as copy:
        assert copy.format == "JPEG"
        assert min(copy.size) == short_side
        assert abs(max(copy.size) - max(size) * short_side / min(size)) <= 0.5
        assert (copy.width > copy.height) == (size[0] > size[1]) or copy.width == copy.height


def test_a_copy_of_dim_colours_of_16_bits_is_stretched(tmp_path: Path) -> None:
    values = np.linspace(400, 1400, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint16)
    write_png(tmp_path / "a.png", values)
    [path] = paths_of(compact(manifest_of(tmp_path, ["a.png"]), tmp_path / "out", short_side=32))
    assert np.abs(np.asarray(open_image(path)).astype(float) - np.asarray(open_image(tmp_path / "a.png"))).max() < 30


def test_the_originals_of_copies_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a.jpg", "b.png", "c.png"]
    for k, name in enumerate(names):
        put(tmp_path / "in" / name, seed=k)
    table = tmp_path / "in" / "labels.csv"
    table.write_text("image,labels\n" + "".join(f"{name},cat\n" for name in names))
    copies = prepare(table, resize=16, split="test").manifest
    assert copies.description.root != tmp_path / "in"
    assert originals(copies.description.root, copies.rows["image"].to_pylist()) == [tmp_path / "in" / name for name in names]
    (tmp_path / "in" / "b.png").unlink()
    assert originals(copies.description.root, ["b.png.jpg"]) == [copies.description.root / "b.png.jpg"]
    assert originals(tmp_path / "in", ["a.jpg"]) == [tmp_path / "in" / "a.jpg"]


@pytest.mark.parametrize("size", [(50, 40), (40, 50), (1, 1), (300, 3), (64, 64)])
def test_nothing_is_enlarged(tmp_path: Path, size: tuple[int, int]) -> None:
    put(tmp_path / "in" / "a.png", size)
    box = Box(0, 1, 2, 3, 4)
    copies = compact(manifest_of(tmp_path / "in", [Record("a.png", "train", (0,), (), (box,))]), tmp_path / "out", short_side=64)
    assert open_image(paths_of(copies)[0]).size == size
    assert copies.split("train").boxes(0) == [box]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("short_side", [60, 500])
@pytest.mark.parametrize("orientation", STORED)
def test_boxes_are_scaled_and_turned_with_their_image(tmp_path: Path, orientation: int, short_side: int, suffix: str) -> None:
    """A box of the file as stored; its region is painted red before the file is said to be turned."""
    stored = np.full((120, 160, 3), 90, np.uint8)
    stored[14:54, 100:120] = 255, 0, 0
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "in").mkdir()
    Image.fromarray(stored).save(tmp_path / "in" / f"a.{suffix}", exif=exif)
    record = Record(f"a.{suffix}", "train", (1,), (), (Box(1, 100, 14, 20, 40),))
    copies = compact(manifest_of(tmp_path / "in", [record]), tmp_path / "out", short_side=short_side)
    pixels = np.asarray(open_image(paths_of(copies)[0])).astype(int)
    with Image.open(paths_of(copies)[0]) as copy:
        assert copy.getexif().get(0x0112, 1) == 1
    assert pixels.shape[:2] == tuple(side * min(120, short_side) // 120 for side in ((120, 160), (160, 120))[orientation > 4])
    boxes = copies.split("train").boxes(0)
    assert boxes is not None
    assert boxes[0].label == 1
    red = pixels[..., 0] - pixels[..., 1] > 80
    ys, xs = np.nonzero(red)
    found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    said = np.array([boxes[0].x, boxes[0].y, boxes[0].x + boxes[0].width, boxes[0].y + boxes[0].height])
    assert np.abs(found - said).max() <= 1
    assert red.sum() == pytest.approx(boxes[0].width * boxes[0].height, rel=0.15)


@pytest.mark.parametrize("orientation", STORED)
def test_copies_are_upright(tmp_path: Path, orientation: int) -> None:
    (tmp_path / "in").mkdir()
    save_turned(tmp_path / "in" / "a.jpg", photo((80, 60)), orientation, quality=95)
    [path] = paths_of(compact(manifest_of(tmp_path / "in", ["a.jpg"]), tmp_path / "out", short_side=500))
    assert np.abs(np.asarray(open_image(path)).astype(int) - np.asarray(photo((80, 60)))).mean() < 6


def test_images_that_share_a_name_but_for_their_ending_stay_apart(tmp_path: Path) -> None:
    names = ["a.png", "a.jpg", "a.JPG", "a.jpeg", "a.bmp", "a.png.jpg", "a.png.jpg.jpg", "sub/a.png", "b c é.png"]
    for seed, name in enumerate(names):
        put(tmp_path / "in" / name, seed=seed)
    copies = compact(manifest_of(tmp_path / "in", names), tmp_path / "out", short_side=64)
    assert len(set(paths_of(copies))) == len(names)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in paths_of(copies)] == [
        *("a.png.jpg.jpg.jpg", "a.jpg", "a.JPG", "a.jpeg", "a.bmp.jpg", "a.png.jpg", "a.png.jpg.jpg", "sub/a.png.jpg"),
        "b c é.png.jpg",
    ]
    for name, path in zip(names, paths_of(copies), strict=True):
        original = np.asarray(open_image(tmp_path / "in" / name)).astype(int)
        assert np.abs(np.asarray(open_image(path)).astype(int) - original).mean() < 8
    assert copy_name("a.png") == "a.png.jpg"


def test_an_image_in_two_splits_is_copied_once(tmp_path: Path) -> None:
    names = [put(tmp_path / "in" / f"{k}.png", (400, 300), k).name for k in range(12)]
    records = [Record(name, split, (0,)) for name in names for split in ("train", "val", "test")]
    copies = compact(manifest_of(tmp_path / "in", records), tmp_path / "out", short_side=64)
    assert copies.split_sizes == {"train": 12, "val": 12, "test": 12}
    assert len(list((tmp_path / "out").iterdir())) == 12


def test_labels_splits_and_what_has_no_boxes_stay(tmp_path: Path) -> None:
    records = [
        Record("a.png", "train", (0,), (1,), None),
        Record("b.png", "val", (), (), ()),
        Record("c.png", "train", (0, 1), (), (Box(0, 1, 1, 2, 2), Box(1, 4, 4, 8, 6))),
    ]
    for record in records:
        put(tmp_path / "in" / record.image, (40, 30))
    manifest = manifest_of(tmp_path / "in", records)
    copies = compact(manifest, tmp_path / "out", short_side=15)
    for column in ("split", "active", "unknown"):
        assert copies.rows[column].to_pylist() == manifest.rows[column].to_pylist()
    boxes = copies.rows["boxes"].to_pylist()
    assert boxes[:2] == [None, []]
    assert boxes[2][1] == {"label": 1, "x": 2, "y": 2, "width": 4, "height": 3}
    assert copies.classes == manifest.classes
    assert copies.description.root == (tmp_path / "out").resolve()
    assert copies.description.notes[0] == "a note"
    assert str(tmp_path / "in") in copies.description.notes[-1]


def test_originals_are_not_touched(tmp_path: Path) -> None:
    names = ["a.jpg", "b.png", "sub/c.webp"]
    for name in names:
        put(tmp_path / "in" / name)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "in").rglob("*.*")}
    compact(manifest_of(tmp_path / "in", names), tmp_path / "out", short_side=16)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "in").rglob("*.*")} == before


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    names = [put(tmp_path / "in" / f"{k}.png", seed=k).name for k in range(6)]
    whole = tmp_path / "in" / "3.png"
    kept = whole.read_bytes()
    whole.write_bytes(kept[:100])
    manifest = manifest_of(tmp_path / "in", names)
    with pytest.raises(DataError, match=r"3\.png: broken image"):
        compact(manifest, tmp_path / "out", short_side=16)
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix != ".jpg"]
    whole.write_bytes(kept)
    compact(manifest, tmp_path / "out", short_side=16)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    os.utime(tmp_path / "in" / "2.png", ns=(2 * 10**18, 2 * 10**18))  # edited later than its copy
    seen: list[tuple[int, int]] = []
    compact(manifest, tmp_path / "out", short_side=16, progress=lambda done, total: seen.append((done, total)))
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"2.png.jpg"}
    assert seen[-1] == (6, 6)


def test_an_original_that_an_older_file_took_the_place_of_is_copied_again(tmp_path: Path) -> None:
    path = put(tmp_path / "in" / "a.png")
    manifest = manifest_of(tmp_path / "in", ["a.png"])
    [copy] = paths_of(compact(manifest, tmp_path / "out", short_side=30))
    put(path, seed=1)
    os.utime(path, ns=(10**18, 10**18))
    compact(manifest, tmp_path / "out", short_side=30)
    assert np.abs(np.asarray(open_image(copy)).astype(int) - np.asarray(photo((40, 30), 1))).mean() < 6


def test_boxes_of_copies_that_are_there_already_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_turned(tmp_path / "in" / "a.jpg", photo((160, 120)), 6)
    manifest = manifest_of(tmp_path / "in", [Record("a.jpg", "train", (0,), (), (Box(0, 10, 20, 30, 40),))])
    first, again = (compact(manifest, tmp_path / "out", short_side=60) for _ in range(2))
    assert first.split("train").boxes(0) == again.split("train").boxes(0) == [Box(0, 50, 5, 20, 15)]


def test_an_image_that_is_no_photo_of_8_bits_comes_out_as_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "in" / "deep.png")
    photo((64, 64)).convert("CMYK").save(tmp_path / "in" / "cmyk.jpg", quality=95)
    photo((64, 64)).convert("P").save(tmp_path / "in" / "palette.gif")
    names = ["deep.png", "cmyk.jpg", "palette.gif"]
    copies = compact(manifest_of(tmp_path / "in", names), tmp_path / "out", short_side=64)
    for name, path in zip(names, paths_of(copies), strict=True):
        with Image.open(path) as copy:
            assert copy.mode == "RGB"
        original = np.asarray(open_image(tmp_path / "in" / name)).astype(int)
        assert np.abs(np.asarray(open_image(path)).astype(int) - original).mean() < 4


def test_next_to_nothing_is_lost_where_nothing_is_scaled(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", (400, 300))
    [path] = paths_of(compact(manifest_of(tmp_path / "in", ["a.png"]), tmp_path / "out", short_side=300))
    difference = np.asarray(open_image(path)).astype(float) - np.asarray(open_image(tmp_path / "in" / "a.png"))
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 38


def test_copies_can_be_trained_on_instead_of_the_originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_coco(tmp_path / "my-coco")
    plain = prepare("my-coco", output=Path("plain")).manifest
    prepared = prepare("my-coco", resize=16).manifest
    folder = (tmp_path / "prepared" / "my-coco" / "images-16").resolve()
    assert prepared.description.root == folder
    assert len(list(folder.rglob("*.jpg"))) == 36
    assert {open_image(path).size for path in paths_of(prepared)} == {(16, 16)}
    for split in ("train", "val"):
        for i in range(len(plain.split(split))):
            scaled = [Box(b.label, b.x / 4, b.y / 4, b.width / 4, b.height / 4) for b in plain.split(split).boxes(i) or []]
            assert prepared.split(split).boxes(i) == scaled
            assert (prepared.split(split).targets(i) == plain.split(split).targets(i)).all()
    origin = find_or_prepare("my-coco")
    assert origin.kind == "before"
    assert origin.manifest.description.root == folder


def test_copies_are_made_again_when_the_labels_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_coco(tmp_path / "my-coco")
    prepare("my-coco", resize=16, split="")
    shutil.rmtree("my-coco")
    make_coco(tmp_path / "my-coco", train=10)
    origin = find_or_prepare("my-coco")
    manifest = origin.manifest
    assert origin.kind == "now"
    assert manifest.split_sizes == {"train": 10, "val": 12}
    assert manifest.description.root.name == "images-16"
    assert {open_image(path).size for path in paths_of(manifest)} == {(16, 16)}
    assert find_or_prepare("my-coco").kind == "before"
    assert prepare("my-coco", resize=32).manifest.description.root.name == "images-32"
    assert prepare("my-coco").manifest.description.root.name == "my-coco"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot be written"):
        compact(manifest_of(tmp_path / "in", ["a.png"]), tmp_path / "file" / "images", short_side=16)
    with pytest.raises(DataError, match=r"b\.png: no such file"):
        compact(manifest_of(tmp_path / "in", ["b.png"]), tmp_path / "out", short_side=16)
