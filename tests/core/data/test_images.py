from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.data.dataset import read_image
from sadcl_core.data.images import open_image
from sadcl_core.errors import DataError


def save(path: Path, mode: str, **options: object) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (10, 14, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").convert(mode).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "jpg"), ("L", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "jpg"), ("1", "png")]
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    pixels = read_image(save(tmp_path / f"a.{suffix}", mode))
    assert pixels.shape == (3, 10, 14)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    assert open_image(save(tmp_path / "a.jpg", "RGB", exif=exif)).size == (10, 14)


def test_truncated_missing_and_other_files(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", "RGB")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.jpg: broken image"):
        open_image(path)
    with pytest.raises(DataError, match=r"none\.jpg: no such file"):
        open_image(tmp_path / "none.jpg")
    for content in (b"", b"hello", b"\x00" * 100):
        (tmp_path / "b.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"b\.jpg: not an image"):
            open_image(tmp_path / "b.jpg")
    with pytest.raises(DataError, match="a folder, not an image"):
        open_image(tmp_path)


@pytest.mark.parametrize("limit", [50, 100])  # more than twice as many pixels, and less than that
def test_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match="more pixels"):
        open_image(save(tmp_path / "a.png", "RGB"))
