from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from sadcl_core.data.images import image_size, open_image, read_image
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.errors import DataError
from tests.core.data.tiff import write_bands, write_png

ORIENTATION = 0x0112
# what a camera did to the upright picture, so that the EXIF orientation undoes it
STORED: dict[int, tuple[Image.Transpose, ...]] = {
    1: (),
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_90,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_270,),
}
RAMP = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
GREY = (RAMP / 257).round()


def save(path: Path, mode: str, **options: object) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (10, 14, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").convert(mode).save(path, **options)  # type: ignore[arg-type]
    return path


def save_turned(path: Path, upright: Image.Image, orientation: int, **options: Any) -> tuple[int, int]:
    """Store a picture as a turned camera does; returns the size it is stored in."""
    stored = upright
    for method in STORED[orientation]:
        stored = stored.transpose(method)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(path, exif=exif, **options)
    return stored.size


def claim(path: Path, width: int, height: int) -> Path:
    """A PNG that says how large it is and holds next to nothing."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts))
    return path


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def grey(path: Path) -> npt.NDArray[np.int64]:
    """The one channel of an image that is grey."""
    pixels = np.asarray(open_image(path)).astype(np.int64)
    assert (pixels == pixels[..., :1]).all()
    return np.asarray(pixels[..., 0])


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(("RGB", "jpg"), ("L", "png"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("CMYK", "jpg"), ("1", "png")),
        *(("LAB", "tif"), ("YCbCr", "tif"), ("CMYK", "tif"), ("P", "gif"), ("RGBA", "webp"), ("RGB", "bmp")),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    pixels = read_image(save(tmp_path / f"a.{suffix}", mode))
    assert pixels.shape == (3, 10, 14)


@pytest.mark.parametrize(
    ("suffix", "dtype", "times"),
    [*(("png", "<u2", 1), ("tif", "<u2", 1), ("tif", ">u2", 1), ("tif", "<i4", 1), ("tif", "<i4", 30_000))],
)
def test_more_than_8_bits_are_scaled_and_not_clipped(tmp_path: Path, suffix: str, dtype: str, times: int) -> None:
    Image.fromarray((RAMP * times).astype(dtype)).save(tmp_path / f"a.{suffix}")
    assert np.abs(grey(tmp_path / f"a.{suffix}") - GREY).max() <= 1


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_dim_pixels_of_16_bits_are_stretched(tmp_path: Path, bands: int) -> None:
    """2000 to 9000 of 65535, as satellites give, would be nearly black."""
    values = np.linspace(2000, 9000, 32 * 32 * bands).reshape(32, 32, bands).astype(np.uint16)
    pixels = np.asarray(open_image(write_bands(tmp_path / "a.tif", values) if bands > 1 else deep(tmp_path, values[..., 0])))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert 110 < pixels.mean() < 145


def test_one_bright_pixel_leaves_no_picture_black(tmp_path: Path) -> None:
    values = np.linspace(400, 3000, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint16)
    values[0, 0] = 65535
    for path in (write_bands(tmp_path / "a.tif", values), write_png(tmp_path / "b.png", values), deep(tmp_path, values[..., 0])):
        image = open_image(path)
        assert 110 < np.asarray(image).mean() < 145
        assert image.info["stretched"]


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("photometric", [1, 2])
@pytest.mark.parametrize("turn", [1, 6])
def test_dim_pixels_of_16_bits_keep_their_low_bytes(tmp_path: Path, bands: int, photometric: int, turn: int) -> None:
    """There are a thousand values, four to a high byte, in colours as in grey."""
    values = np.linspace(400, 1400, 40 * 25 * bands).reshape(40, 25, bands).astype(np.uint16)
    path = write_bands(tmp_path / "a.tif", values, photometric=photometric if bands > 1 else 1, orientation=turn)
    expected = np.asarray(((values - np.percentile(values[..., :3], 1)) / np.ptp(values) * 1.02 * 255).clip(0, 255))[..., :3]
    pixels = np.asarray(open_image(path)).astype(float)
    assert np.abs(pixels - (np.rot90(expected, -1) if turn == 6 else expected)).max() < 8
    with Image.open(io.BytesIO(path.read_bytes())) as opened:
        assert np.array_equal(np.asarray(open_image(opened)), pixels)


def test_values_of_8_bits_in_16_stay_as_they_are(tmp_path: Path) -> None:
    values = np.arange(192, dtype=np.uint16).reshape(8, 8, 3)
    assert np.array_equal(np.asarray(open_image(write_bands(tmp_path / "a.tif", values))), values)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 8, 2), {"photometric": 1}, "an image of 2 bands of 16 bits, which is not read"),
        ((8, 8, 3), {"planar": 2}, "an image of 3 bands of 16 bits in separate planes, which is not read: save it as RGB"),
        ((8, 8, 3), {"floating": True}, "an image of 3 bands of 16 bits, which is not read: save it as RGB"),
    ],
)
def test_other_tiffs_are_called_what_they_are(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_image(write_bands(tmp_path / "a.tif", np.zeros(shape, np.uint16), **options))


def deep(folder: Path, values: npt.NDArray[np.uint16]) -> Path:
    Image.fromarray(values).save(folder / "a.png")
    return folder / "a.png"


def test_bright_pixels_of_16_bits_in_colour_stay_as_they_are(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint16)
    assert np.array_equal(np.asarray(open_image(write_bands(tmp_path / "a.tif", values))), values >> 8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.dcm", b"\0" * 128 + b"DICM" + b"\0" * 100, "DICOM, which is not supported: convert it to PNG"),
        ("a.png", b"\0" * 128 + b"DICM" + b"\0" * 100, "DICOM, which is not supported: convert it to PNG"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        ("a.jpg", b"\n<!DOCTYPE html><html>404</html>", "a web page or another text, not an image: fetch it again"),
        ("a.nef", b"MM\0*", "a raw photograph, which is not supported"),
        ("a.jpg", b"what", "not an image"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {message}"):
        open_image(tmp_path / name)


def test_more_bands_than_colours_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_bands(tmp_path / "a.tif", np.zeros((8, 8, 13), np.uint16))
    with pytest.raises(DataError, match=r"a\.tif: an image of 13 bands, which is not read: save three of them as RGB"):
        open_image(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("first", "dtype"), [(-5, np.int32), (0, np.uint16)])
def test_negative_numbers_are_black_and_few_grey_values_stay_as_they_are(tmp_path: Path, first: int, dtype: type) -> None:
    Image.fromarray(np.array([[first, 1], [100, 255]], dtype)).save(tmp_path / "a.tif")
    assert grey(tmp_path / "a.tif").tolist() == [[0, 1], [100, 255]]


@pytest.mark.parametrize("largest", [1.0, 255.0, 70_000.0])
def test_floating_point_is_scaled(tmp_path: Path, largest: float) -> None:
    Image.fromarray((RAMP / 65535 * largest).astype(np.float32)).save(tmp_path / "a.tif")
    assert np.abs(grey(tmp_path / "a.tif") - GREY).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[np.nan, 0.5], [0.0, 1.0]], [[0, 128], [0, 255]]),
        ([[np.nan, 100.0], [0.0, 255.0]], [[0, 100], [0, 255]]),
        ([[np.inf, -np.inf], [0.0, 1.0]], [[255, 0], [0, 255]]),
        ([[np.inf, np.nan], [np.nan, np.inf]], [[255, 0], [0, 255]]),
        ([[np.nan, np.nan], [np.nan, np.nan]], [[0, 0], [0, 0]]),
        ([[-1.0, 0.0], [0.0, 1.0]], [[0, 128], [128, 255]]),
        ([[3e38, 0.0], [0.0, 3e38]], [[255, 0], [0, 255]]),
    ],
)
def test_what_is_not_finite_leaves_the_others_as_they_are(
    tmp_path: Path, values: list[list[float]], expected: list[list[int]]
) -> None:
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "a.tif")
    assert grey(tmp_path / "a.tif").tolist() == expected


def test_an_image_is_the_same_wherever_it_is(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8))
    save_turned(tmp_path / "a.png", picture, 6)
    content = (tmp_path / "a.png").read_bytes()
    expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), content, picture, np.asarray(picture), expected):
        assert torch.equal(read_image(source), expected)
    with Image.open(tmp_path / "a.png") as opened:
        assert torch.equal(read_image(opened), expected)


@pytest.mark.parametrize("turn", STORED)
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        *(("RGB", {"subsampling": kind}) for kind in (0, 1, 2)),
        *(("RGB", {"keep_rgb": True}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {})),
    ],
)
def test_a_jpeg_has_the_pixels_that_pillow_gives_it(tmp_path: Path, mode: str, options: dict[str, Any], turn: int) -> None:
    picture = Image.fromarray(np.random.default_rng(turn).integers(0, 256, (33, 47, 3), dtype=np.uint8)).convert(mode)
    save_turned(tmp_path / "a.jpg", picture, turn, **options)
    content = (tmp_path / "a.jpg").read_bytes() + b"more"
    for source in (tmp_path / "a.jpg", content):
        expected = np.array(open_image(source))
        assert expected.shape == (33, 47, 3)
        assert np.array_equal(read_image(source).permute(1, 2, 0), expected)


def test_a_jpeg_that_only_pillow_reads_is_read(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", "RGB")
    content = (tmp_path / "a.jpg").read_bytes()
    start = content.index(b"\xff\xdb")
    odd = content[:start] + bytes(9) + content[start:]  # between two segments
    assert np.array_equal(read_image(odd).permute(1, 2, 0), np.array(open_image(content)))


@pytest.mark.parametrize("turn", STORED)
def test_a_large_jpeg_is_made_smaller_while_it_is_decoded(tmp_path: Path, turn: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((600, 800), Image.Resampling.BICUBIC)
    save_turned(tmp_path / "a.jpg", picture, turn, quality=95)
    whole, small = read_image(tmp_path / "a.jpg"), read_image(tmp_path / "a.jpg", at_least=150)
    assert whole.shape == (3, 800, 600)
    assert 150 <= min(small.shape[1:]) < 200
    resize = Preprocessing(img_size=64, mean=(0, 0, 0), std=(1, 1, 1)).resize
    assert (resize(whole).float() - resize(small).float()).abs().mean() < 0.5  # of 255
    assert torch.equal(read_image(tmp_path / "a.jpg", at_least=301), whole)


def test_pixels_of_an_array_are_copied() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    image = read_image(pixels)
    pixels[:] = 9
    assert not image.any()
    assert image.is_contiguous()


@pytest.mark.parametrize(
    "source",
    [
        *(
            np.zeros((3, 4, 4), np.uint8),
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 4), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
        ),
        *(np.zeros((4, 4, 3), np.float32), np.zeros((1, 4, 4, 3), np.uint8)),
        *(torch.zeros(4, 4, 3, dtype=torch.uint8), torch.zeros(3, 4, 4), torch.zeros(3, 4, 0, dtype=torch.uint8)),
    ],
)
def test_arrays_of_another_form_are_refused(source: npt.NDArray[np.uint8] | torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"photo: .* of type .*\. Give pixels as uint8, an array of shape"):
        read_image(source, name="photo")


def test_bytes_that_are_no_image_are_named() -> None:
    with pytest.raises(DataError, match=r"^image: not an image\.$"):
        read_image(b"hello")
    with pytest.raises(DataError, match=r"^a\.jpg: not an image\.$"):
        read_image(b"hello", name="a.jpg")


def test_alpha_is_left_out_and_the_colours_stay(tmp_path: Path) -> None:
    Image.new("RGBA", (9, 9), (200, 100, 50, 7)).save(tmp_path / "a.png")
    Image.new("LA", (9, 9), (200, 0)).save(tmp_path / "b.png")
    assert open_image(tmp_path / "a.png").getpixel((4, 4)) == (200, 100, 50)
    assert open_image(tmp_path / "b.png").getpixel((4, 4)) == (200, 200, 200)


@pytest.mark.parametrize(("mode", "transparency"), [("P", b"\x00\x10\x80"), ("P", 3), ("L", 3), ("1", 1), ("RGB", (1, 2, 3))])
def test_transparent_colours_do_not_matter(tmp_path: Path, mode: str, transparency: object) -> None:
    plain = open_image(save(tmp_path / "a.png", mode))
    transparent = open_image(save(tmp_path / "b.png", mode, transparency=transparency))
    assert np.array_equal(np.asarray(transparent), np.asarray(plain))


def test_a_jpeg_in_cmyk_has_the_colours_that_people_see(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = np.asarray(open_image(tmp_path / "a.jpg"))[8, 8].astype(int)
    assert red > 230
    assert max(green, blue) < 30


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientations_are_undone(tmp_path: Path, suffix: str, orientation: int) -> None:
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :16] = 255, 0, 0
    pixels[:16, 32:] = 0, 255, 0
    pixels[16:, :16] = 0, 0, 255
    path = tmp_path / f"a.{suffix}"
    stored = save_turned(path, Image.fromarray(pixels), orientation)
    assert np.abs(np.asarray(open_image(path)).astype(int) - pixels).mean() < 12
    assert image_size(path) == stored


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_not_changes_nothing(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert open_image(save(tmp_path / "a.jpg", "RGB", exif=exif)).size == (14, 10)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_of_several_frames_is_read(tmp_path: Path, suffix: str) -> None:
    first, *others = (Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue"))
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=others, **options)
    assert open_image(tmp_path / f"a.{suffix}").getpixel((3, 3)) == (255, 0, 0)


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == (1, 2, 3)


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
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    with pytest.raises(DataError, match=r"circle\.jpg: "):
        open_image(tmp_path / "circle.jpg")


def error_of(path: Path) -> str:
    """What is wrong with an image; nothing when it can be read."""
    try:
        open_image(path)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp"])
def test_whatever_is_damaged_is_an_error_of_the_data(tmp_path: Path, suffix: str) -> None:
    first, *others = (Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue"))
    several: dict[str, Any] = {"save_all": True, "append_images": others} if suffix not in ("jpg", "bmp") else {}
    first.save(tmp_path / f"a.{suffix}", **several)
    whole, chance = (tmp_path / f"a.{suffix}").read_bytes(), random.Random(suffix)
    path = tmp_path / f"b.{suffix}"
    for _ in range(150):
        damaged = bytearray(whole[: chance.choice((len(whole), chance.randrange(len(whole))))])
        for _ in range(chance.choice((0, 1, 5))):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # PIL's, of damaged tags
            error = error_of(path)
        assert error == "" or error.startswith(f"{path}: ")


class Failing(Image.Image):
    """An image whose decoder raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def getexif(self) -> Image.Exif:
        raise self.error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied"), r"^a\.jpg: cannot be read \(Permission denied\)\.$"),
        *(
            (error, r"^a\.jpg: broken image \(.*\)\.$")
            for error in (struct.error("short"), KeyError("tag"), ZeroDivisionError(), OverflowError(), MemoryError())
        ),
    ],
)
def test_whatever_a_decoder_raises_is_an_error_of_the_data(error: Exception, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_image(Failing(error), name="a.jpg")


@pytest.mark.parametrize("side", [10_000, 30_000])  # a warning of PIL's, and an error
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    path = claim(tmp_path / "a.png", side, side)  # decoding it would end as a broken image
    for reading in (open_image, image_size):
        with pytest.raises(DataError, match=r"a\.png: more pixels than a photograph has, refused"):
            reading(path)


@pytest.mark.parametrize("before", [b"", b"\xff", b"garbage"])  # of a marker
def test_a_jpeg_of_more_scans_than_a_photograph_is_refused(before: bytes) -> None:
    file = io.BytesIO()
    Image.new("L", (16, 16), 99).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    scan = before + content[content.rindex(b"\xff\xda") : -2]
    assert open_image(content[:-2] + 20 * scan + content[-2:]).size == (16, 16)
    with pytest.raises(DataError, match="more scans than a photograph has"):
        open_image(content[:-2] + 200 * scan + content[-2:], name="a.jpg")
    for data in (content + 200 * scan, content[:2] + b"\xff\xe5\x1a\x00" + 0x19FE // 2 * b"\xff\xda" + content[2:]):
        assert open_image(data).size == (16, 16)  # behind the image, and in what is no scan


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_of_more_strips_than_a_photograph_is_refused(big: bool, tmp_path: Path) -> None:
    count = 100_000
    number, long, head = ("Q", 16, b"II\x2b\0\x08\0\0\0") if big else ("I", 4, b"II\x2a\0")
    values = {256: 1, 257: count, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    entries = [struct.pack(f"<HH{number}{number}", tag, long, 1, value) for tag, value in values.items()]
    size = 24 + (20 if big else 12) * (len(values) + 1) + 8
    entries.append(struct.pack(f"<HH{number}{number}", 273, long, count, size))
    body = struct.pack("<Q" if big else "<H", len(entries)) + b"".join(sorted(entries)) + bytes(8)
    content = head + struct.pack(f"<{number}", 16 if big else 8) + body
    path = tmp_path / "a.tif"
    path.write_bytes(content.ljust(size, b"\0") + bytes(8 * count))
    for reading in (open_image, image_size):
        with pytest.raises(DataError, match="than a photograph has"):
            reading(path)


def written(kind: str, mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (16, 16)).save(file, kind)
    return file.getvalue()


def png_chunks(kind: bytes, body: bytes, count: int) -> bytes:
    """A PNG with chunks before its pixels."""
    content = written("PNG")
    place = content.index(b"IDAT") - 4
    return content[:place] + count * png_chunk(kind, body) + content[place:]


def tiff_numbers(tag: int, kind: int, unit: int, count: int) -> bytes:
    """A TIFF with many numbers in a tag."""
    values = {256: (4, 1), 257: (4, 1), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 8), 277: (3, 1), 278: (4, 1), 279: (4, 1)}
    place = 8 + 2 + 12 * (len(values) + (tag not in values)) + 4
    entries = {key: struct.pack("<HHII", key, kind, 1, value) for key, (kind, value) in values.items()}
    entries[tag] = struct.pack("<HHII", tag, kind, count, place)
    listed = b"".join(entry for _, entry in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4) + bytes(unit * count)


def bmp_runs(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of run lengths."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + header + bytes(1024) + runs


EXIF = b"\xff\xe1\xff\xffExif\0\0" + bytes(65535 - 8)  # the largest segment


GIF_COMMENTS = b"\x21\xfe" + 10_000 * (b"\xff" + bytes(255)) + b"\0,\0\0\0\0"
MINUTES = {
    "jpeg-segments": (written("JPEG")[:2] + 10_000 * b"\xff\xe1\0\x02" + written("JPEG")[2:], "more segments"),
    "jpeg-filling": (written("JPEG")[:2] + 100_000 * b"\xff" + written("JPEG")[2:], "more segments"),
    "jpeg-exif": (written("JPEG")[:2] + 300 * EXIF + written("JPEG")[2:], "more segments"),
    "png": (png_chunks(b"tEXt", b"a\0", 10_000), "more segments, chunks"),
    "gif": (written("GIF", "P").replace(b",\0\0\0\0", GIF_COMMENTS), "more segments"),
    "ppm": (b"P6 #" + 100_000 * b"a" + b"\n1 1 255\nabc", "more segments"),
    "tiff": (tiff_numbers(274, 3, 2, 1_000_000), "numbers in a tag"),
    "tiff-ratios": (tiff_numbers(282, 5, 8, 200_000), "numbers in a tag"),
    "bmp": (bmp_runs(9000, 9000, b"\1\1\0\0"), "slow to read"),
    "bmp-lines": (bmp_runs(10, 10, 100_000 * b"\0\0"), "more segments"),
    "ppm-text": (b"P3 9000 9000 255\n1 1 1", "slow to read"),
}


@pytest.mark.parametrize("name", MINUTES)
def test_what_takes_minutes_to_read_is_refused(name: str) -> None:
    content, message = MINUTES[name]
    with pytest.raises(DataError, match=message):
        open_image(content, name="a")


@pytest.mark.parametrize(
    "content",
    [
        written("JPEG")[:2] + 100 * EXIF + written("JPEG")[2:],
        png_chunks(b"IDAT", b"", 10_000),
        png_chunks(b"tEXt", b"a\0", 1_000),
        tiff_numbers(301, 3, 2, 3 << 16),
        bmp_runs(16, 16, 16 * b"\x10\1\0\0" + b"\0\1"),
        b"P3 1 1 255\n1 1 1",
    ],
    ids=["jpeg", "png", "png-text", "tiff", "bmp", "ppm"],
)
def test_what_a_photograph_may_hold_is_read(content: bytes) -> None:
    assert min(open_image(content).size) > 0


@pytest.mark.parametrize("kind", ["PPM", "JPEG2000"])
def test_kinds_of_traffic_signs_and_satellites_are_read(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 10)).save(file, kind)
    assert open_image(file.getvalue(), name="a").getpixel((3, 3)) == (200, 30, 10)


@pytest.mark.parametrize("kind", ["EPS", "PCX", "ICO"])
def test_other_kinds_of_pillow_are_no_images(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind)
    with pytest.raises(DataError, match="not an image"):
        open_image(file.getvalue(), name="a.jpg")


def test_a_bomb_is_refused_by_every_thread_whatever_another_one_does_to_warnings(tmp_path: Path) -> None:
    bomb, good = claim(tmp_path / "bomb.png", 10_000, 10_000), save(tmp_path / "good.png", "RGB")
    stop = threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                time.sleep(1e-4)

    def refused(number: int) -> bool:
        return "more pixels" in error_of(good if number % 2 else bomb)

    meddler = threading.Thread(target=meddle)
    meddler.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(refused, range(200)))
    finally:
        stop.set()
        meddler.join()
    assert done == [number % 2 == 0 for number in range(200)]


def test_a_bomb_is_refused_by_a_program_that_shows_warnings(tmp_path: Path) -> None:
    path = claim(tmp_path / "a.png", 10_000, 10_000)
    program = f"from pathlib import Path; from sadcl_core.data.images import open_image; open_image(Path({str(path)!r}))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].endswith("a.png: more pixels than a photograph has, refused.")
    assert "Warning" not in ran.stderr


@pytest.mark.parametrize("name", ["a.heic", "a.HEIC", "a.avif"])
def test_pictures_of_telephones(tmp_path: Path, name: str) -> None:
    if name.lower().endswith("heic"):
        pytest.importorskip("pillow_heif")
    path = tmp_path / name
    Image.new("RGB", (64, 48), (200, 40, 90)).save(path, format="AVIF" if name.endswith("avif") else "HEIF")
    assert image_size(path) == (64, 48)
    colour = read_image(path)[:, 20, 20].tolist()
    assert np.abs(np.array(colour) - (200, 40, 90)).max() < 12
