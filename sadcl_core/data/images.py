"""Read one image file as people see it."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from sadcl_core.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def open_image(path: Path) -> Image.Image:
    """Decode a file to an RGB picture, with the EXIF rotation applied.

    Raises:
        DataError: the file is missing, no image, truncated, or so large that it looks like a decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image)
                if "transparency" in upright.info:  # a palette's transparency only survives as alpha
                    upright = upright.convert("RGBA")
                return upright.convert("RGB")
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, not an image.") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path}: more pixels than a photograph has, refused.") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:
        raise DataError(f"{path}: broken image ({error}).") from None
