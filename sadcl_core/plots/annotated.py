"""A photo with its labels below, and where each was seen: a number at the place, and a line around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from sadcl_core.plots.style import colour, font_with, short

LEVEL = 0.5  # between the smallest attention and the largest: the line around a place
PLACES = 6  # labels whose places are drawn, the most probable; the others are listed
NARROW = 240  # pixels; a smaller photo is enlarged, so that its labels can be read
WHITE = (255, 255, 255)
BLACK = (30, 30, 30)

_open_font = cache(ImageFont.truetype)  # of a file and a size


def annotate(photo: Image.Image, labels: Sequence[tuple[str, float]], attention: npt.NDArray[np.float32]) -> Image.Image:
    """Return an RGB photo with n labels (name, score in 0..1), the most probable first, and attention (n, h, w) of any scale.

    Example:
        >>> annotate(Image.new("RGB", (300, 200)), [("cat", 0.9)], np.eye(7, dtype=np.float32)[None]).width
        300
    """
    scale = max(1, NARROW / max(photo.size))
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    size = max(12, round(max(photo.size) / 45))
    draw = ImageDraw.Draw(photo)
    for number, heat in enumerate(attention[:PLACES]):
        _outline(photo, heat, colour(number), width=max(1, size // 6))
    for number, (x, y) in enumerate(_apart([_peak(heat, photo.size) for heat in attention[:PLACES]], 1.7 * size, photo.size)):
        box = (x - 0.8 * size, y - 0.8 * size, x + 0.8 * size, y + 0.8 * size)
        draw.ellipse(box, fill=colour(number), outline=WHITE, width=max(1, size // 8))
        draw.text((x, y), str(number + 1), fill=WHITE, font=_font(size), anchor="mm")
    return _with_list(photo, labels, size)


def _outline(photo: Image.Image, heat: npt.NDArray[np.float32], line: str, *, width: int) -> None:
    """Draw a line where attention is halfway between its smallest and its largest value, between light edges."""
    finite = np.nan_to_num(heat, nan=0, posinf=0, neginf=0)
    low, high = float(finite.min()), float(finite.max())
    smooth = Image.fromarray((finite - low) / max(high - low, 1e-12)).resize(photo.size, Image.Resampling.BICUBIC)
    inside = Image.fromarray(((np.asarray(smooth) >= LEVEL) * 255).astype(np.uint8))
    for fill, thick in ((WHITE, 2 * width + 1), (line, width)):
        wider, narrower = (inside.filter(kind(2 * (thick // 2) + 1)) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
        ring = Image.fromarray(np.asarray(wider) - np.asarray(narrower))
        photo.paste(fill, (0, 0), ring)


def _peak(heat: npt.NDArray[np.float32], size: tuple[int, int]) -> tuple[float, float]:
    """Return where in a photo attention is largest, in pixels."""
    row, column = np.unravel_index(int(np.nan_to_num(heat).argmax()), heat.shape)
    return (column + 0.5) / heat.shape[1] * size[0], (row + 0.5) / heat.shape[0] * size[1]


def _apart(points: Sequence[tuple[float, float]], distance: float, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Move points so that none lies over another or over the edge; the first ones stay."""
    edge = distance / 2
    placed: list[tuple[float, float]] = []
    for x, y in points:
        spiral = [(x + 0.5 * k * edge * np.cos(2.4 * k), y + 0.5 * k * edge * np.sin(2.4 * k)) for k in range(40)]
        inside = [(min(max(a, edge), size[0] - edge), min(max(b, edge), size[1] - edge)) for a, b in spiral]
        free = (point for point in inside if all(np.hypot(point[0] - a, point[1] - b) >= distance for a, b in placed))
        placed.append(next(free, inside[0]))
    return placed


def _with_list(photo: Image.Image, labels: Sequence[tuple[str, float]], size: int) -> Image.Image:
    """Put the list of labels below a photo, as many in a line as fit."""
    texts = [f"{short(name, 40)} {score:.2f}" for name, score in labels] or ["no label"]
    gap, line, mark = size, round(1.7 * size), round(1.5 * size)
    places, x, y = [], gap, gap // 2
    for text in texts:
        width = mark + round(_font(size, text).getlength(text))
        if x > gap and x + width + gap > photo.width:
            x, y = gap, y + line
        places.append((x, y))
        x += width + 2 * gap
    picture = Image.new("RGB", (photo.width, photo.height + y + line + gap // 2), WHITE)
    picture.paste(photo, (0, 0))
    draw = ImageDraw.Draw(picture)
    for number, (text, (left, top)) in enumerate(zip(texts, places, strict=True)):
        middle = photo.height + top + line / 2
        if labels and number < PLACES:
            box = (left, middle - 0.6 * size, left + 1.2 * size, middle + 0.6 * size)
            draw.ellipse(box, fill=colour(number))
            draw.text((left + 0.6 * size, middle), str(number + 1), fill=WHITE, font=_font(round(0.8 * size)), anchor="mm")
        draw.text((left + mark, middle), text, fill=BLACK, font=_font(size, text), anchor="lm")
    return picture


def _font(size: int, text: str = "") -> ImageFont.FreeTypeFont:
    """Return the font that the first letter needs which matplotlib's own does not have, or that one."""
    own = str(font_with("a"))
    return _open_font(next((file for letter in text if (file := font_with(letter) or own) != own), own), size)
