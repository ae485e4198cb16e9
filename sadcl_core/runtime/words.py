"""Numbers with the noun that goes with them."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun, which is given in the singular; `plural` where that is no more than an s.

    Example:
        >>> counted(1, "image"), counted(2000, "image"), counted(0, "class", "classes")
        ('1 image', '2,000 images', '0 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
