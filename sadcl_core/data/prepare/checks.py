"""Check data before anyone trains on them: open every image, and require labels that can be wrong."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sadcl_core.data.formats.cells import MEANINGS, NOT_KNOWN, flag_of
from sadcl_core.data.formats.detect import reader
from sadcl_core.data.image_files import identify, image_file
from sadcl_core.data.images import NO_FILE, UPRIGHT, as_rgb, explained_image, is_deep, orientation
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.command import prepare_again
from sadcl_core.data.prepare.reading_options import Options, join_names, split_words
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.runtime.progress import Progress
from sadcl_core.runtime.threads import count_processors, map_ahead

TINY = 8  # pixels; a shorter side is no photograph
EXAMPLES = 5  # images named of each kind
NO_INACTIVE = "has no inactive label: all are active or unknown, so every score would be perfect."

# kinds of images that are read all the same, and how
KINDS = {
    "grey": "grey, read as RGB",
    "palette": "with a palette, read as RGB",
    "CMYK": "in CMYK, read as RGB",
    "16-bit": "of more than 8 bits, scaled to 8",
    "stretched": "of more than 8 bits that use little of their range, stretched so that they can be seen",
    "more bands": "of more than three bands, of which the first three are read",
    "alpha": "with an alpha channel, which is left out",
    "other mode": "in another colour space, read as RGB",
    "rotated": "rotated by EXIF, turned upright",
    "animated": "with several frames, of which the first is read",
    "tiny": f"with a side under {TINY} pixels",
}
MODES = {"RGB": "", "L": "grey", "1": "grey", "P": "palette", "CMYK": "CMYK", "RGBA": "alpha", "LA": "alpha", "PA": "alpha"}


@dataclass(frozen=True)
class Problem:
    """An image that cannot be used, and why, in one sentence that starts with its path."""

    image: str
    reason: str

    @property
    def missing(self) -> bool:
        """True if there is no such file."""
        return self.reason.endswith(NO_FILE)


@dataclass
class ImageChecks:
    """The result of opening all images.

    Attributes:
        problems: images that cannot be used.
        kinds: how many images are of each kind in KINDS.
        examples: a few images of each kind.
        groups: (N,) the same number, from 0, for images of the same content; -1 for an image that is alone.
        decoded: the pixels were read; otherwise the files were only looked for.
    """

    problems: list[Problem] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    groups: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    decoded: bool = True


class _Check(NamedTuple):
    """The kinds of an image, and a hash of its content (empty where it does not matter)."""

    kinds: tuple[str, ...] = ()
    digest: bytes = b""


def check_images(manifest: Manifest, *, decode: bool = True, progress: Progress | None = None) -> ImageChecks:
    """Open every image of a manifest, in threads; without `decode` look for the files alone, and compare those of one size."""
    images: list[str] = manifest.rows["image"].to_pylist()
    root = manifest.description.root
    checks = ImageChecks(decoded=decode)
    sizes: Counter[int] = Counter()
    for image in () if decode else images:
        with suppress(OSError):
            sizes[(root / image).stat().st_size] += 1

    def check(image: str) -> _Check | DataError:
        try:
            return _decode(root / image) if decode else _find(root / image, sizes)
        except DataError as error:
            return error

    digests: list[bytes] = []
    for image, result in zip(images, map_ahead(check, images, workers=min(32, count_processors() + 1)), strict=True):
        if isinstance(result, DataError):
            checks.problems.append(Problem(image, str(result)))
            result = _Check()
        digests.append(result.digest)
        for kind in result.kinds:
            checks.kinds[kind] += 1
            if checks.kinds[kind] <= EXAMPLES:
                checks.examples[kind].append(image)
        if progress is not None:
            progress(len(digests), len(images))
    checks.groups = equal_groups(digests)
    return checks


def require_inactive(split: Split) -> None:
    """Raise unless some label is known to be inactive: without one every score is perfect, and nothing can be learned.

    Raises:
        DataError: all labels are active or unknown.
    """
    if split.inactive_counts().any():
        return
    description = split.manifest.description
    files = () if description.interpretation is None else description.interpretation.files
    unknown = sorted({value for file in files for value, meaning in file.values.items() if meaning == MEANINGS[NOT_KNOWN]})
    action = "Add images that do not show every class."
    if unknown and "absent" in getattr(reader(str(description.source.get("format"))), "OPTIONS", ()):
        options = Options.stored(description.options)
        others = [word for word in split_words(options.unknown) if word.lower() not in unknown and flag_of(word) not in unknown]
        absent = join_names([*split_words(options.absent), *unknown])
        command = prepare_again(split.manifest, absent=absent, unknown=join_names(others))
        action = f"If {' or '.join(unknown)} means that a class is absent, say so: {command}"
    raise DataError(f"Split {split.name} of {description.name} {NO_INACTIVE} {action}")


def equal_groups(digests: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Return (N,) the same number for the same hash, of up to 16 bytes; -1 for one that occurs once, or is empty.

    Example:
        >>> equal_groups([b"b", b"a", b"b", b""]).tolist()
        [2, -1, 2, -1]
    """
    if not digests:
        return np.zeros(0, np.int64)
    padded = np.array([digest.ljust(16, b"\0") for digest in digests], dtype="S16")
    words = np.frombuffer(padded.tobytes(), dtype=[("high", "<u8"), ("low", "<u8")])
    _, group, count = np.unique(words, return_inverse=True, return_counts=True)
    empty = np.array([not digest for digest in digests])
    return np.where((count[group] > 1) & ~empty, group, -1).astype(np.int64)


def _decode(path: Path) -> _Check:
    """Read the pixels of one image."""
    with explained_image(path):
        content = image_file(path).read_bytes()
        if not content:
            raise DataError(f"{path}: an empty file.")
        with identify(content) as image:
            mode = "16-bit" if is_deep(image) else MODES.get(image.mode, "other mode")
            kinds = {
                mode: bool(mode),
                "more bands": "RGBX" in str(getattr(image, "tile", "")),
                "rotated": orientation(image) != UPRIGHT,
                "animated": getattr(image, "is_animated", False),
                "tiny": min(image.size) < TINY,
            }
            kinds["stretched"] = "stretched" in as_rgb(image).info
    return _Check(tuple(kind for kind, present in kinds.items() if present), hashlib.blake2b(content, digest_size=16).digest())


def _find(path: Path, sizes: Counter[int]) -> _Check:
    """Check that a file exists; read its content only if another file is as long."""
    try:
        size = path.stat().st_size if path.is_file() else -1
        if size <= 0:
            raise DataError(f"{path}: an empty file." if size == 0 else f"{path}{NO_FILE}")
        if sizes[size] < 2:
            return _Check()
        with path.open("rb") as file:
            return _Check((), hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
