from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.data.formats import digits
from sadcl_core.data.formats.source import Source
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError


def draw(folder: Path) -> Manifest:
    return digits.read(Source("digits", folder), scenes={"train": 12, "test": 8})


def test_same_files_every_time(tmp_path: Path) -> None:
    first, second = (draw(tmp_path / name) for name in ("a", "b"))
    assert first.rows.equals(second.rows)
    for split in ("train", "test"):
        for i in range(len(first.split(split))):
            assert first.split(split).path(i).read_bytes() == second.split(split).path(i).read_bytes()


def test_scenes_are_as_described(tmp_path: Path) -> None:
    train = draw(tmp_path).split("train")
    for i in range(len(train)):
        with Image.open(train.path(i)) as image:
            assert image.size == (64, 64)
        boxes = train.boxes(i)
        assert boxes
        assert len(boxes) <= 4
        assert {box.label for box in boxes} == set(train.active(i))
        for box in boxes:
            assert 16 <= box.height <= 26
            assert box.x >= 0
            assert box.x + box.width <= 64


def test_train_and_test_come_from_different_originals() -> None:
    originals = digits.originals()
    assert len(originals["train"]) + len(originals["test"]) == 1797
    seen = {strokes.tobytes() for _, strokes in originals["train"]}
    assert not any(strokes.tobytes() in seen for _, strokes in originals["test"])


def test_is_drawn_once(tmp_path: Path) -> None:
    train = draw(tmp_path).split("train")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(train.path(0))
    draw(tmp_path)
    with Image.open(train.path(0)) as image:
        assert not np.asarray(image).any()


def test_half_drawn_or_damaged_folder(tmp_path: Path) -> None:
    draw(tmp_path)
    listing = tmp_path / "digits.json"
    listing.write_text(listing.read_text().replace('"version": 1', '"version": 0'))
    with pytest.raises(DataError, match="another version"):
        draw(tmp_path)
    listing.write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        draw(tmp_path)
    listing.unlink()
    with pytest.raises(DataError, match="not drawn completely"):
        draw(tmp_path)
