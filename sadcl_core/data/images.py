"""Read one image file as people see it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torchvision.transforms.v2.functional as TF
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sadcl_core.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def read_image(path: Path) -> Tensor:
    """Decode a file to (3, H, W) uint8, RGB, with the EXIF rotation applied.

    Raises:
        DataError: the file is missing, no image, truncated, or so large that it looks like a decompression bomb.
    """
    pixels: Tensor = TF.pil_to_tensor(open_image(path))
    return pixels


def open_image(path: Path) -> Image.Image:
    """Decode a file to an RGB picture; see `read_image`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path}: more pixels than a photograph has, refused.") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:
        raise DataError(f"{path}: broken image ({error}).") from None
