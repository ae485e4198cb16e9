"""The EXIF orientation of an image, 1 (upright) to 8, and what turning it upright does to its sides and boxes."""

from __future__ import annotations

from sadcl_core.data.rows import Box

SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return width and height of an image when it is turned upright, from those as stored and the orientation, 1 to 8.

    Example:
        >>> upright_size((640, 480), 6)
        (480, 640)
    """
    return (size[1], size[0]) if orientation in SIDEWAYS else size


def upright_box(box: Box, size: tuple[float, float], orientation: int) -> Box:
    """Return where a box of the stored image lies when the image is turned upright.

    Of a box in shares of the sides, width and height as stored are 1 and 1.

    Example:
        >>> upright_box(Box(0, x=10, y=20, width=30, height=40), (160, 120), 6)
        Box(label=0, x=60, y=10, width=40, height=30)
    """
    x = size[0] - box.x - box.width if orientation in (2, 3, 7, 8) else box.x
    y = size[1] - box.y - box.height if orientation in (3, 4, 6, 7) else box.y
    if orientation in SIDEWAYS:
        return Box(box.label, y, x, box.height, box.width)
    return Box(box.label, x, y, box.width, box.height)
