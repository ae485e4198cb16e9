"""Files of the same content: images that were trained on and are held out under another name."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path


def find_twins(images: Sequence[Path], others: Sequence[Path], *, most: int | None = None) -> tuple[int, list[tuple[Path, Path]]]:
    """Return how many of the images are on disk, and pairs of an image and one of the others with the same content.

    Only files of one size are read, and of the others at most `most`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name, text in {"a": "one", "b": "two", "c": "one", "d": "three"}.items():
        ...     _ = (folder / name).write_text(text)
        >>> compared, twins = find_twins([folder / "a", folder / "b"], [folder / "c", folder / "d"])
        >>> compared, [(image.name, twin.name) for image, twin in twins]
        (2, [('a', 'c')])
    """
    sizes = {image: size for image in images if (size := _size(image)) > 0}
    needed, rivals, twins, read = set(sizes.values()), defaultdict(list), [], 0
    for other in others if needed else ():
        if (size := _size(other)) in needed:
            rivals[size].append(other)
    digests: dict[Path, bytes] = {}
    for image, size in sizes.items():
        candidates = rivals[size] if most is None else rivals[size][: max(most - read, 0)]
        read += len(candidates)
        own = _digest(image) if candidates else b""
        for other in candidates:
            if other not in digests:
                digests[other] = _digest(other)
            if own and digests[other] == own:
                twins.append((image, other))
                break
    return len(sizes), twins


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _digest(path: Path) -> bytes:
    """Return the digest of a file's content; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""
