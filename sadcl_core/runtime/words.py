"""Numbers with their noun or unit, and lists of names, for messages."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun, which is given in the singular; `plural` where that is no more than an s.

    Example:
        >>> counted(1, "image"), counted(2000, "image"), counted(0, "class", "classes")
        ('1 image', '2,000 images', '0 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def gigabytes(size: int) -> str:
    """Return a size in decimal units.

    Example:
        >>> gigabytes(236_000_000), gigabytes(12_300_000_000), gigabytes(120_000)
        ('236 MB', '12.3 GB', '0.1 MB')
    """
    if size >= 10**9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 10**7 else f"{size / 1e6:.1f} MB"


def some_of(names: Sequence[str], most: int) -> str:
    """Return the first names between commas, with an ellipsis where there are more.

    Example:
        >>> some_of(["cat", "dog", "owl"], 2), some_of(["cat"], 2)
        ('cat, dog, ...', 'cat')
    """
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
