"""A map of weights over a photo, so that the photo stays readable: where the weight is ordinary, nothing is drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image

LOWEST, HIGHEST = 0.45, 0.9  # part of the colour map "inferno" in use: from red to light yellow
OPAQUE = 0.8  # opacity of the highest weight
GREY = 0.65  # of the photo's colours that is taken away, so that those of the map stand out


def attention_over(photo: Image.Image, attention: npt.NDArray[np.float32]) -> Image.Image:
    """Lay a map (h, w) of any scale over a photo: the higher the weight, the lighter the colour, the less of the photo is seen.

    Weights up to the mean of the map, and NaN, leave the photo as it is; a map that is the same everywhere shows nothing.

    Example:
        >>> attention_over(Image.new("RGB", (8, 6)), np.eye(3, dtype=np.float32)).size
        (8, 6)
    """
    finite = np.nan_to_num(attention, nan=0, posinf=0, neginf=0).astype(np.float32)
    mean, most = float(finite.mean()), float(finite.max())
    relative = (finite - mean) / (most - mean) if most > mean * (1 + 1e-4) else np.zeros_like(finite)
    heat = Image.fromarray(relative.astype(np.float32)).resize(photo.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(heat), 0, 1)
    drawn = heat_colours(strength)
    colours, opacity = drawn[..., :3] * 255, drawn[..., 3:]
    pixels = np.asarray(photo.convert("RGB"), dtype=np.float32)
    grey = np.asarray(photo.convert("L"), dtype=np.float32)[..., None]
    pixels = pixels + GREY * (grey - pixels)
    return Image.fromarray((pixels * (1 - opacity) + colours * opacity).round().astype(np.uint8))


def heat_colours(strength: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return (..., 4) red, green, blue and opacity in 0..1 for weights (...) in 0..1, from the mean of a map to its highest.

    Example:
        >>> heat_colours([0, 1])[:, 3].tolist()
        [0.0, 0.8]
    """
    relative = np.asarray(strength, dtype=np.float64)
    colours = np.array(colormaps["inferno"](LOWEST + (HIGHEST - LOWEST) * relative))
    colours[..., 3] = OPAQUE * relative
    return colours
