"""Read an image as people see it: from a file, from bytes, from PIL, from an array."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, IMAGELENGTH, IMAGEWIDTH, PLANAR_CONFIGURATION, SAMPLESPERPIXEL, TiffImageFile

from sadcl_core.data.image_files import BROKEN, check_decodable, identify, image_file, tiff_tags
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NamedImage:
    """An image with the name that results and messages give it, fetched by whoever decodes it.

    Attributes:
        source: the path or the bytes of a file, or a function that fetches the bytes and raises DataError where it cannot.

    Example:
        >>> NamedImage("shard.tar/1.jpg", lambda: b"...").fetch()
        b'...'
    """

    name: str
    source: Path | bytes | Callable[[], bytes]

    def fetch(self) -> Path | bytes:
        """Return the path or the bytes of the file.

        Raises:
            DataError: it cannot be fetched.
        """
        return self.source() if callable(self.source) else self.source


ImageSource: TypeAlias = "str | Path | bytes | NamedImage | Image.Image | npt.NDArray[np.uint8] | Tensor"

EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jfif", ".avif", ".heic", ".heif"),
    *(".ppm", ".jp2"),
)
RAW = (".nef", ".cr2", ".cr3", ".arw", ".dng", ".raf", ".orf", ".rw2")
FORMATS = {  # of files that Pillow cannot read, or not without a package
    **dict.fromkeys((".dcm", ".dicom"), "DICOM, which is not supported: convert it to PNG"),
    **dict.fromkeys(RAW, "a raw photograph, which is not supported: convert it to JPEG or PNG"),
    ".jxl": "JPEG XL, which is not supported: convert it to JPEG or PNG",
    **dict.fromkeys(
        (".heic", ".heif"),
        "damaged, or not the HEIC that its name says"
        if "HEIF" in Image.OPEN
        else "HEIC, which is read where pillow-heif is installed: pip install 'sadcl[heif]'",
    ),
    ".avif": "no AVIF that Pillow can read: convert it, or install a Pillow of version 11.3 or later",
}
UNSUPPORTED = tuple(extension for extension in FORMATS if extension not in EXTENSIONS)
DIM = 4  # pixels of more than 8 bits that stay below this fraction of their range are nearly black, as those of satellites are
SHARE = (1, 99)  # percent of such pixels between which they are stretched
SAMPLE = 99_991  # values of which this is computed
STARTS = {  # of files that are called as images are
    b"version https://git-lfs": "a pointer of Git LFS in the place of the image: fetch it with git lfs pull",
    b"<": "a web page or another text, not an image: fetch it again",
    b"\0" * 128 + b"DICM": FORMATS[".dcm"],
    b"%PDF": "a PDF, not an image: save its pages as images",
    b"PK": "an archive, not an image: unpack it",
}
SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}  # the byte order that gives Pillow the low bytes
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = 1
# by EXIF orientation, what makes (H, W, 3) upright
TURNS: dict[int, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
NO_FILE = ": no such file."  # the end of the message about an image that is missing


def read_image(source: ImageSource, name: object = None, *, at_least: int | None = None) -> Tensor:
    """Read an image, wherever it is.

    Args:
        source: a path, the bytes of a file, a `NamedImage`, a PIL image, a uint8 array (H, W, 3) or a uint8 tensor (3, H, W).
        name: of the image in messages; by default its path.
        at_least: pixels that both sides need; a larger JPEG may be made smaller while it is decoded, in a fraction of the time.
            None: as large as it is.

    Returns:
        (3, H, W) uint8, RGB. Files and PIL images are turned upright by their EXIF tag, 16 bits are scaled to 8 (and stretched
        where little of their range is used), and an alpha channel is left out; pixels in arrays and tensors stay as they are.

    Raises:
        DataError: the file is missing, no image, truncated, or so large that it looks like a decompression bomb; or the array
            has another shape or type.

    Example:
        >>> read_image(Image.new("L", (4, 2))).shape
        torch.Size([3, 2, 4])
        >>> read_image(np.zeros((2, 4, 3), np.uint8)).shape
        torch.Size([3, 2, 4])
    """
    import torch

    pixels = read_pixels(source, name, at_least=at_least)
    if isinstance(source, torch.Tensor):
        return source
    if isinstance(source, np.ndarray):  # it is the caller's
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_pixels(source: ImageSource, name: object = None, *, at_least: int | None = None) -> npt.NDArray[np.uint8]:
    """Read an image without torch: (H, W, 3) uint8, RGB; arguments, values and errors are those of `read_image`.

    Example:
        >>> read_pixels(Image.new("L", (4, 2))).shape
        (2, 4, 3)
    """
    if isinstance(source, str | Path | bytes | NamedImage | Image.Image):
        with _opened(source, name) as image:
            pixels = None if image is source else _decode_jpeg(image, at_least or 0)
            return np.array(as_rgb(image)) if pixels is None else pixels
    if source.ndim == 3 and 0 not in source.shape and str(source.dtype).endswith("uint8"):
        if isinstance(source, np.ndarray):
            if source.shape[2] == 3:
                return source
        elif len(source) == 3:
            return np.asarray(source.cpu().numpy().transpose(1, 2, 0))
    raise DataError(
        f"{name or 'image'}: {tuple(source.shape)} values of type {source.dtype}. Give pixels as uint8, an array of shape "
        "(height, width, 3) or a tensor of shape (3, height, width)."
    )


def open_image(source: str | Path | bytes | NamedImage | Image.Image, *, name: object = None) -> Image.Image:
    """Decode an image to an RGB picture, with the EXIF rotation applied.

    Args:
        source: a path, an address such as s3://bucket/a.jpg as a text, the bytes of a file, a `NamedImage`, or a PIL image.
        name: of the image in messages; by default its path.

    Raises:
        DataError: the file is missing, no image, truncated, or so large that it looks like a decompression bomb.

    Example:
        >>> open_image(Image.new("RGBA", (4, 2), (200, 100, 50, 7))).getpixel((0, 0))
        (200, 100, 50)
    """
    with _opened(source, name) as image:
        return as_rgb(image)


@contextmanager
def _opened(source: str | Path | bytes | NamedImage | Image.Image, name: object) -> Iterator[Image.Image]:
    """Open an image without decoding it; what goes wrong until it is closed is a DataError that begins with its name."""
    if isinstance(source, str) and "://" in source:
        from sadcl_core.data.remote import read_remote

        name, source = name or source, read_remote(source)
    if isinstance(source, NamedImage):
        name, source = source.name, source.fetch()
    if name is None:
        name = source if isinstance(source, str | Path) else "image"
    with explained_image(name):
        if isinstance(source, Image.Image):
            yield source
        else:
            # a file is read at once: threads would wait for each other at every small read of Pillow
            content = source if isinstance(source, bytes) else image_file(Path(source)).read_bytes()
            with identify(content) as image:
                yield image


def _decode_jpeg(image: Image.Image, at_least: int) -> npt.NDArray[np.uint8] | None:
    """Decode an opened JPEG by libjpeg-turbo without Pillow's copies: the same pixels, (H, W, 3) and upright.

    Returns:
        None where Pillow has to do it or to say what is wrong: other formats and colours, damaged files.
    """
    if not isinstance(image, JpegImageFile) or image.mode not in ("RGB", "L") or image.fp is None:
        return None
    check_decodable(image)
    turn = orientation(image)
    image.fp.seek(0)
    with suppress(ValueError):
        pixels = simplejpeg.decode_jpeg(image.fp.read(), "RGB", min_height=at_least, min_width=at_least, min_factor=2)
        return pixels if turn == UPRIGHT else np.ascontiguousarray(TURNS[turn](pixels))
    return None


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an opened image as people see it: upright, in RGB, 16 bits scaled to 8, without its alpha channel.

    Pixels of more than 8 bits of which 99 % use less than a quarter of their range are stretched; `info["stretched"]` says so.

    Raises:
        DecompressionBombError: it has more pixels than PIL allows.
        UnidentifiedImageError: it is a TIFF of bands in separate planes of more than 8 bits, which Pillow reads wrongly.
        ValueError: it would take minutes to decode.
    """
    check_decodable(image)
    deep = is_deep(image)
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PLANAR_CONFIGURATION) == 2 and max(image.tag_v2[BITSPERSAMPLE]) > 8:
        raise UnidentifiedImageError
    low = _low_bytes(image) if deep else None
    upright = _upright(image)
    stretched = False
    if upright.mode.startswith("I") or upright.mode == "F":  # PIL would cut off everything above 255
        values, stretched = _to_8_bits(np.asarray(upright))
        picture = Image.fromarray(values).convert("RGB")
    else:
        if "transparency" in upright.info:  # a palette's transparency only survives as alpha
            upright = upright.convert("RGBA")
        picture = upright.convert("RGB")
        if deep:
            high = np.asarray(picture).astype(np.uint16) << 8
            pixels, stretched = _to_8_bits(high if low is None else high | low)
            picture = Image.fromarray(pixels) if stretched or not high.any() else picture
    if stretched:
        picture.info["stretched"] = True
    return picture


def is_deep(image: Image.Image) -> bool:
    """Return True if an image, opened and not yet loaded, has more than 8 bits a band."""
    return image.mode.startswith("I") or image.mode == "F" or ";16" in str(getattr(image, "tile", ""))


def _upright(image: Image.Image) -> Image.Image:
    return image if orientation(image) == UPRIGHT else ImageOps.exif_transpose(image)


def _low_bytes(image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """Return the low bytes of the pixels of a colour image of 16 bits, opened and not yet loaded: Pillow gives the high ones.

    Returns:
        (H, W, 3), upright; None where it has another form.
    """
    if not isinstance(image, ImageFile) or image.fp is None:
        return None
    with _opened_again(image) as other:
        for k, tile in enumerate(other.tile):
            raw, *more = [tile.args] if isinstance(tile.args, str) else tile.args or [""]
            mode = re.fullmatch(r"(RGB[XA]?;16)([LBN])", raw)
            if mode is None:
                return None
            swapped = f"{mode[1]}{SWAPPED[mode[2]]}"
            other.tile[k] = tile._replace(args=(swapped, *more) if more else swapped)
        return np.asarray(_upright(other).convert("RGB"))


@contextmanager
def _opened_again(image: ImageFile) -> Iterator[ImageFile]:
    """Open the file of an image a second time, so that the first stays as it is: not yet loaded."""
    assert image.fp is not None, "asked for files alone"
    place = image.fp.tell()
    try:
        image.fp.seek(0)
        with Image.open(image.fp, formats=[str(image.format)]) as other:
            yield other
    finally:
        image.fp.seek(place)


def _to_8_bits(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], bool]:
    """Scale values of 16 or more bits, or of any range in floating point, to 0..255; NaN becomes black.

    Returns:
        The pixels, and whether they were stretched to the percentiles SHARE because nearly all use little of their range.
    """
    known = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    step = max(known.size // SAMPLE, 1)
    floor, top = map(float, np.percentile(known[::step], SHARE)) if known.size else (0.0, 0.0)
    low, high = float(known.min(initial=0)), float(known.max(initial=0))
    if values.dtype.kind == "f":
        high = max(high, 1 if high <= 1 else 255)
        stretched = floor < top and (top - floor) * DIM < high - low
    else:
        low, high = 0, 255 if high <= 255 else max(high, 65535)
        stretched = high > 255 and top < 65536 // DIM
    if stretched:
        low, high = floor, top if top > floor else floor + 1
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / (high - low) * 255
    return np.asarray(scaled.clip(0, 255).round(), dtype=np.uint8), stretched


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels as stored, from the header alone.

    Raises:
        DataError: the file is missing or no image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (9, 6)).save(f"{folder}/a.png")
        ...     image_size(Path(folder, "a.png"))
        (9, 6)
    """
    with explained_image(path), identify(image_file(path)) as image:
        return stored_size(image)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image as stored; PIL swaps those of a TIFF on its side."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[IMAGEWIDTH]), int(image.tag_v2[IMAGELENGTH])
    return image.size


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation: 2 to 8 where an image is not stored upright, else 1."""
    if isinstance(image, PngImageFile) and image.tile and is_deep(image):  # Pillow loads it, for EXIF may follow the pixels
        with _opened_again(image) as other:
            other.load()
            return orientation(other)
    tag = image.getexif().get(ORIENTATION, UPRIGHT)
    return tag if tag in range(2, 9) else UPRIGHT


def _unidentified(path: object) -> str:
    """Describe a file that Pillow does not take for an image."""
    suffix = Path(str(path)).suffix.lower()
    if isinstance(path, str | Path):
        with suppress(*BROKEN), Path(path).open("rb") as file:
            start = file.read(200).lstrip(b"\xef\xbb\xbf \r\n")
            match = next((what for first, what in STARTS.items() if start.startswith(first)), "")
            if match:
                return match
            if suffix in (".tif", ".tiff"):
                file.seek(0)
                tags = tiff_tags(file)
                bands, bits = int(tags.get(SAMPLESPERPIXEL, 1)), max(tags.get(BITSPERSAMPLE, (1,)))
                planes = " in separate planes" if tags.get(PLANAR_CONFIGURATION) == 2 else ""
                what = f"an image of {counted(bands, 'band')}"
                if bands > 3:
                    return f"{what}{planes}, which is not read: save three of them as RGB"
                return f"{what} of {bits} bits{planes}, which is not read: save it as RGB or grey of 8 or 16 bits"
    return FORMATS.get(suffix, "not an image")


@contextmanager
def explained_image(path: object) -> Iterator[None]:
    """Turn whatever a decoder raises into one sentence that starts with the path, or the name, of the image.

    Raises:
        DataError: the file is missing, no image, truncated, or so large that it looks like a decompression bomb.
    """
    try:
        yield
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, not an image.") from None
    except FileNotFoundError:
        raise DataError(f"{path}{NO_FILE}") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: {_unidentified(path)}.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path}: more pixels than a photograph has, refused.") from None
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except BROKEN as error:
        raise DataError(f"{path}: broken image ({error}).") from None
