"""Open every image before anyone trains on it."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sadcl_core.data.images import UPRIGHT, as_rgb, explained_image, orientation
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError
from sadcl_core.runtime.progress import Progress

CHUNK = 512  # images handed to the threads at a time
TOLD = 16  # images between two reports of progress
TINY = 8  # pixels; a shorter side is no photograph
EXAMPLES = 5  # images named of each kind

# what an image can be that is read all the same, and what is done about it
KINDS = {
    "grey": "grey, read as RGB",
    "palette": "with a palette, read as RGB",
    "CMYK": "in CMYK, read as RGB",
    "16-bit": "of more than 8 bits, scaled to 8",
    "alpha": "with an alpha channel, which is left out",
    "other mode": "in another colour space, read as RGB",
    "rotated": "rotated by EXIF, turned upright",
    "animated": "with several frames, of which the first is read",
    "tiny": f"with a side under {TINY} pixels",
}
MODES = {"RGB": "", "L": "grey", "1": "grey", "P": "palette", "CMYK": "CMYK", "RGBA": "alpha", "LA": "alpha", "PA": "alpha"}


@dataclass(frozen=True)
class Problem:
    """An image that cannot be used, and why in one sentence that starts with its path."""

    image: str
    reason: str


@dataclass(frozen=True)
class Looked:
    """What one image is: why it is broken, the kinds of KINDS it belongs to, and a hash of its content."""

    broken: str = ""
    kinds: tuple[str, ...] = ()
    digest: bytes = b""


@dataclass
class ImageChecks:
    """What came out of opening all images.

    Attributes:
        problems: images that cannot be used.
        kinds: of each kind in KINDS how many images, and a few of them.
        groups: (N,) images of the same content have the same number, from 0; -1 for an image that is alone.
        decoded: whether the pixels were read, and not only the files looked for.
    """

    problems: list[Problem] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    groups: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    decoded: bool = True


def check_images(manifest: Manifest, *, decode: bool = True, progress: Progress | None = None) -> ImageChecks:
    """Open every image of a manifest, several at a time.

    Args:
        manifest: what to check.
        decode: read the pixels; otherwise only see that the files are there, and compare those of the same size.
        progress: called with how many are done, of how many.
    """
    images: list[str] = manifest.rows["image"].to_pylist()
    root = manifest.description.root
    checks = ImageChecks(decoded=decode)
    digests: list[bytes] = []
    sizes = Counter() if decode else _same_sizes(root, images)
    with ThreadPoolExecutor(max_workers=min(32, (os.cpu_count() or 1) + 1)) as pool:
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            looked = pool.map(lambda image: look(root / image) if decode else glance(root / image, sizes), chunk)
            for image, seen in zip(chunk, looked, strict=True):
                digests.append(seen.digest)
                _note(checks, image, seen)
                if progress is not None and (len(digests) % TOLD == 0 or len(digests) == len(images)):
                    progress(len(digests), len(images))
    checks.groups = _groups(digests)
    return checks


def look(path: Path) -> Looked:
    """Decode one image."""
    try:
        with explained_image(path):
            content = path.read_bytes()
            if not content:
                return Looked(f"{path}: an empty file.")
            with Image.open(io.BytesIO(content)) as image:
                kinds = _kinds(image)
                as_rgb(image)
    except DataError as error:
        return Looked(str(error))
    return Looked("", kinds, hashlib.blake2b(content, digest_size=16).digest())


def glance(path: Path, sizes: Counter[int]) -> Looked:
    """See that a file is there; its content counts only if another file is as long."""
    try:
        size = path.stat().st_size if path.is_file() else -1
        if size <= 0:
            return Looked(f"{path}: an empty file." if size == 0 else f"{path}: no such file.")
        if sizes[size] < 2:
            return Looked()
        with path.open("rb") as file:
            return Looked("", (), hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
    except OSError as error:
        return Looked(f"{path}: cannot be read ({error.strerror}).")


def _same_sizes(root: Path, images: Iterable[str]) -> Counter[int]:
    sizes: Counter[int] = Counter()
    for image in images:
        try:
            sizes[(root / image).stat().st_size] += 1
        except OSError:
            continue
    return sizes


def _kinds(image: Image.Image) -> tuple[str, ...]:
    mode = "16-bit" if image.mode.startswith("I") or image.mode == "F" else MODES.get(image.mode, "other mode")
    kinds = [mode] if mode else []
    if orientation(image) != UPRIGHT:
        kinds.append("rotated")
    if getattr(image, "n_frames", 1) > 1:
        kinds.append("animated")
    if min(image.size) < TINY:
        kinds.append("tiny")
    return tuple(kinds)


def _note(checks: ImageChecks, image: str, seen: Looked) -> None:
    if seen.broken:
        checks.problems.append(Problem(image, seen.broken))
    for kind in seen.kinds:
        checks.kinds[kind] += 1
        if checks.kinds[kind] <= EXAMPLES:
            checks.examples[kind].append(image)


def _groups(digests: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """The same number for the same content; -1 for content that occurs once, or is not known."""
    if not digests:
        return np.zeros(0, np.int64)
    known = np.array([digest.ljust(16, b"\0") for digest in digests], dtype="S16")
    words = np.frombuffer(known.tobytes(), dtype=[("high", "<u8"), ("low", "<u8")])
    _, group, count = np.unique(words, return_inverse=True, return_counts=True)
    empty = np.array([not digest for digest in digests])
    return np.where((count[group] > 1) & ~empty, group, -1).astype(np.int64)
