from __future__ import annotations

import io
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sadcl_core.data.batches import read_batches
from sadcl_core.data.formats.coco import read
from sadcl_core.data.formats.source import Source
from sadcl_core.data.images import ImageSource, read_image, read_pixels
from sadcl_core.data.loader import loader_workers, make_loader
from sadcl_core.data.transforms import Preprocessing, augmentation
from sadcl_core.errors import DataError

RESIZE = Preprocessing(img_size=32, mean=(0, 0, 0), std=(1, 1, 1)).resize


def test_batches_hold_every_image_once_in_order(coco: Path) -> None:
    split = read(Source("coco", coco)).split("train")
    images, targets, indices = zip(*make_loader(split, RESIZE, batch_size=7, workers=0), strict=True)
    assert torch.cat(indices).tolist() == list(range(len(split)))
    assert [len(batch) for batch in images] == [7, 7, 7, 3]
    assert images[0].dtype == torch.uint8
    stacked = torch.cat(targets)
    assert all(stacked[i].tolist() == split.targets(i).tolist() for i in range(len(split)))


def test_views_are_transformed_one_by_one(coco: Path) -> None:
    split = read(Source("coco", coco)).split("train")
    images, targets, _ = next(iter(make_loader(split, augmentation("shift-and-turn", 32), views=2, batch_size=4, workers=0)))
    assert images.shape == (4, 2, 3, 32, 32)
    assert targets.shape == (4, 10)
    assert not torch.equal(images[:, 0], images[:, 1])
    same, _, _ = next(iter(make_loader(split, RESIZE, views=2, batch_size=4, workers=0)))
    assert torch.equal(same[:, 0], same[:, 1])


def test_workers_give_the_same_batches(coco: Path) -> None:
    split = read(Source("coco", coco)).split("train")
    alone, helped = (list(make_loader(split, RESIZE, batch_size=7, workers=count)) for count in (0, 2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(alone, helped, strict=True))


def test_shuffled_by_seed_and_differently_each_epoch(coco: Path) -> None:
    split = read(Source("coco", coco)).split("train")

    def epochs(seed: int) -> list[list[int]]:
        loader = make_loader(split, RESIZE, batch_size=24, workers=0, shuffle_seed=seed)
        return [next(loader.epoch(number))[0].flatten(1).sum(1).tolist() for number in (1, 2)]

    assert epochs(1) == epochs(1)
    first, second = epochs(1)
    assert first != second
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize(("limit", "batches"), [(9, 1), (10, 2), (1, 1)])
def test_a_last_batch_of_one_is_left_out_of_training(coco: Path, limit: int, batches: int) -> None:
    split = read(Source("coco", coco)).split("train")
    assert len(list(make_loader(split, RESIZE, limit=limit, batch_size=8, workers=0, shuffle_seed=0))) == batches
    assert sum(len(images) for images, *_ in make_loader(split, RESIZE, limit=limit, batch_size=8, workers=0)) == limit


@pytest.mark.parametrize("workers", [0, 1])
def test_a_vanished_image_is_one_sentence_with_or_without_workers(coco: Path, workers: int) -> None:
    split = read(Source("coco", coco)).split("train")
    split.path(5).unlink()
    with pytest.raises(DataError) as caught:
        list(make_loader(split, RESIZE, batch_size=4, workers=workers))
    assert str(caught.value) == f"{split.path(5)}: no such file."
    assert not multiprocessing.active_children()


def test_processes_take_batches_in_turn(coco: Path) -> None:
    split = read(Source("coco", coco)).split("train")

    def indices(process: tuple[int, int]) -> list[list[int]]:
        return [batch[2].tolist() for batch in make_loader(split, RESIZE, batch_size=7, workers=0, process=process)]

    whole = indices((0, 1))
    assert [indices((rank, 3)) for rank in range(3)] == [[whole[0], whole[3]], [whole[1]], [whole[2]]]


def test_number_of_workers() -> None:
    assert loader_workers(3, 10) == 3
    assert loader_workers(0, 10**6) == 0
    assert loader_workers(None, 10) == 0
    assert [loader_workers(None, 10**6, processors=count) for count in (1, 2, 64)] == [0, 1, 8]
    assert 0 <= loader_workers(None, 10**6) <= 8


def forms(number: int) -> list[ImageSource]:
    """One picture in every form that can be read."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    content = io.BytesIO()
    picture.save(content, "PNG")
    return [content.getvalue(), picture, pixels, torch.from_numpy(pixels).permute(2, 0, 1)]


@pytest.mark.parametrize("workers", [0, 1, 3, None])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_images_of_every_form_are_read_in_order(workers: int | None, batch_size: int) -> None:
    images = [form for number in range(5) for form in forms(number)]
    batches = list(read_batches(iter(images), read_pixels, batch_size=batch_size, workers=workers))
    assert [len(batch.indices) for batch in batches] == [min(batch_size, 20 - start) for start in range(0, 20, batch_size)]
    assert [index for batch in batches for index in batch.indices] == list(range(20))
    assert not any(batch.errors for batch in batches)
    read_in_order = [pixels for batch in batches for pixels in batch.images]
    for number, pixels in enumerate(read_in_order):
        np.testing.assert_array_equal(pixels, forms(number // 4)[2])
        np.testing.assert_array_equal(pixels, read_image(images[number]).numpy().transpose(1, 2, 0))


@pytest.mark.parametrize("workers", [0, 3])
def test_broken_images_are_reported_and_end_nothing(tmp_path: Path, workers: int) -> None:
    good = np.zeros((4, 4, 3), np.uint8)
    images: list[ImageSource] = [b"no image", tmp_path / "none.jpg", good, good, str(tmp_path), good[..., 0]]
    (tmp_path / "b.jpg").write_bytes(b"")
    images += [tmp_path / "b.jpg", good]
    batches = list(read_batches(images, read_pixels, batch_size=2, workers=workers))
    assert [batch.indices for batch in batches] == [[], [2, 3], [], [7]]
    assert [len(batch.images) for batch in batches] == [0, 2, 0, 1]
    errors = {index: message for batch in batches for index, message in batch.errors.items()}
    assert errors == {
        0: "image 0: not an image.",
        1: f"{tmp_path / 'none.jpg'}: no such file.",
        4: f"{tmp_path}: a folder, not an image.",
        5: "image 5: (4, 4) values of type uint8. Give pixels as uint8, an array of shape (height, width, 3) or a tensor of "
        "shape (3, height, width).",
        6: f"{tmp_path / 'b.jpg'}: not an image.",
    }
