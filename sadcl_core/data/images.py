"""Read one image file as people see it."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from sadcl_core.errors import DataError

# as an error, for the whole process: filters cannot be set for one thread, and images are checked by several; where another
# thread has put its own filters in place for a moment, `as_rgb` refuses
warnings.simplefilter("error", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged EXIF in images that can be read

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = 1
# whatever decoders raise on damaged files
BROKEN = (
    *(OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError),
    *(RuntimeError, SyntaxError, EOFError, MemoryError, struct.error),
)


def open_image(path: Path, content: IO[bytes] | None = None) -> Image.Image:
    """Decode a file to an RGB picture, with the EXIF rotation applied.

    Args:
        path: for the messages, and to read from when there is no `content`.
        content: of the file, when it has been read already.

    Raises:
        DataError: the file is missing, no image, truncated, or so large that it looks like a decompression bomb.
    """
    with explained_image(path), Image.open(content or path) as image:
        return as_rgb(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """What people see in an opened image: upright, in RGB, 16 bits scaled to 8, without its alpha channel.

    Raises:
        DecompressionBombError: it has more pixels than PIL allows.
    """
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise Image.DecompressionBombError
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":  # PIL would cut off everything above 255
        return Image.fromarray(_to_8_bits(np.asarray(upright))).convert("RGB")
    if "transparency" in upright.info:  # a palette's transparency only survives as alpha
        upright = upright.convert("RGBA")
    return upright.convert("RGB")


def _to_8_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Grey values of 16 or more bits, or of any range in floating point, to 0..255; what is no number is black."""
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        finite = values[np.isfinite(values)]
        low, high = finite.min(initial=0), finite.max(initial=0)
        high = max(high, 1 if high <= 1 else 255)
        values = np.nan_to_num(values, nan=0, posinf=high, neginf=low)
        return np.asarray(((values - low) / (high - low) * 255).round(), dtype=np.uint8)
    largest = int(values.max(initial=0))
    scaled = values if largest <= 255 else values * (255 / max(largest, 65535))
    return np.asarray(scaled.clip(0, 255).round(), dtype=np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels as stored, from the header alone.

    Raises:
        DataError: the file is missing or no image.
    """
    with explained_image(path), Image.open(path) as image:
        return stored_size(image)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image as stored; of a TIFF on its side PIL says them the other way round."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[IMAGEWIDTH]), int(image.tag_v2[IMAGELENGTH])
    return image.size


def orientation(image: Image.Image) -> int:
    """By EXIF, 2 to 8 where an image is not stored upright."""
    tag = image.getexif().get(ORIENTATION, UPRIGHT)
    return tag if tag in range(2, 9) else UPRIGHT


@contextmanager
def explained_image(path: Path) -> Iterator[None]:
    """Say in one sentence that starts with the path why an image cannot be used.

    Raises:
        DataError: the file is missing, no image, truncated, or so large that it looks like a decompression bomb.
    """
    try:
        yield
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, not an image.") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path}: more pixels than a photograph has, refused.") from None
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except BROKEN as error:
        raise DataError(f"{path}: broken image ({error}).") from None
