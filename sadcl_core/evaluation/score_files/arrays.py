"""NumPy files of scores and of labels: `.npy` with one array, `.npz` with several. Nothing pickled is ever opened."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError

import numpy as np
import numpy.typing as npt

from sadcl_core.data.tables import readable
from sadcl_core.errors import DataError
from sadcl_core.evaluation.score_files.values import BLOCK, Numbers, ScoreFile, numbered, refuse_bomb

TARGETS = ("targets", "labels")  # how the array of labels is called


@dataclass(frozen=True)
class LabelArray:
    """Labels that come as an array: (N, K) int8 of 1, 0, -1, and the names of classes and images where the file has them."""

    targets: npt.NDArray[np.int8]
    classes: tuple[str, ...] | None = None
    images: tuple[str, ...] | None = None


def read_score_array(path: Path, *, logits: bool = False) -> ScoreFile:
    """Scores of an `.npy` file, which is mapped and not copied, or of an `.npz` file.

    An `.npz` file has `scores` (N, K), or is one array alone, and may have `targets` or `labels` (N, K), `classes` (K,) and
    `images` (N,).

    Raises:
        DataError: it is damaged, holds objects (pickles), or its arrays do not fit each other.
    """
    if path.suffix.lower() == ".npy":
        return ScoreFile(path, _mapped(path), logits)
    arrays = _members(path, ("scores",))
    labels = next((arrays[name] for name in TARGETS if name in arrays), None)
    scores = arrays["scores"]
    if labels is not None and labels.shape != scores.shape:
        raise DataError(f"{path}: scores are {scores.shape} and labels {labels.shape}. Both must be (images, classes).")
    targets = None if labels is None else as_targets(labels, path)
    return ScoreFile(path, scores, logits, _names(arrays, "classes", path), _names(arrays, "images", path), targets)


def read_label_array(path: Path) -> LabelArray:
    """Labels of an `.npy` file, or of an `.npz` file: `targets` or `labels` (N, K), perhaps `classes` (K,) and `images` (N,).

    Raises:
        DataError: it is damaged, holds objects (pickles), or something else than 1, 0 and -1.
    """
    if path.suffix.lower() == ".npy":
        return LabelArray(as_targets(_mapped(path), path))
    arrays = _members(path, TARGETS)
    targets = as_targets(next(arrays[name] for name in TARGETS if name in arrays), path)
    checked = ScoreFile(path, targets, False, _names(arrays, "classes", path), _names(arrays, "images", path))
    return LabelArray(targets, checked.classes, checked.images)


def as_targets(values: Numbers, path: Path) -> npt.NDArray[np.int8]:
    """(N, K) labels as int8.

    Raises:
        DataError: they are not (N, K), or one is none of 1, 0, -1.
    """
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiub":
        raise DataError(f"{path} holds labels of shape {values.shape} and type {values.dtype}. Give numbers (images, classes).")
    out = np.empty(values.shape, np.int8)
    step = max(1, BLOCK // values.shape[1])
    for start in range(0, len(values), step):
        block = np.asarray(values[start : start + step])
        right = (block == 0) | (block == 1) | (block == -1)
        if not right.all():
            row, column = np.unravel_index(int(right.argmin()), right.shape)
            raise DataError(
                f"{path}, {numbered(start + int(row))}, column {column + 1}: the label {block[row, column]:g} is none of 1 "
                "(active), 0 (inactive) and -1 (unknown). Mend it."
            )
        out[start : start + step] = block
    return out


def _mapped(path: Path) -> Numbers:
    with _taken_apart(path):
        return np.lib.format.open_memmap(path, mode="r")


def _members(path: Path, wanted: tuple[str, ...]) -> dict[str, Numbers]:
    """The arrays of an `.npz` file that say something here; a single array counts as the first that is wanted."""
    with _taken_apart(path):
        with zipfile.ZipFile(path) as archive:
            refuse_bomb(path, sum(entry.file_size for entry in archive.infolist()))
        with np.load(path, allow_pickle=False) as stored:
            names = list(stored.files)
            taken = names if len(names) == 1 else [name for name in ("scores", *TARGETS, "classes", "images") if name in names]
            arrays = {name: np.asarray(stored[name]) for name in taken}
    if len(names) == 1:
        return {wanted[0]: arrays[names[0]]}
    if not set(wanted) & set(arrays):
        held = ", ".join(map(repr, names[:10]))
        raise DataError(f"{path} has no array {' or '.join(map(repr, wanted))}, only {held or 'nothing'}. Rename it.")
    return arrays


def _names(arrays: dict[str, Numbers], key: str, path: Path) -> tuple[str, ...] | None:
    """The texts of an array (n,) of `str` or UTF-8 `bytes`."""
    values = arrays.get(key)
    if values is None:
        return None
    if values.ndim != 1 or values.dtype.kind not in "SU":
        raise DataError(f"{path}: {key!r} is {values.dtype} of shape {values.shape}. Save it as a list of texts.")
    with readable(path, "UTF-8 names"):
        return tuple(value.decode() for value in values.tolist()) if values.dtype.kind == "S" else tuple(values.tolist())


@contextmanager
def _taken_apart(path: Path) -> Iterator[None]:
    """Whatever NumPy or zip say of a damaged file, as one sentence."""
    with readable(path, "a NumPy file without pickled objects"):
        try:
            yield
        except (EOFError, SyntaxError, zipfile.BadZipFile, zlib.error, StructError, tokenize.TokenError) as error:
            raise ValueError(str(error)) from None
