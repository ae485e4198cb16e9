"""Scores as a file holds them: which images, which classes, and a look at every number before it is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from sadcl_core.errors import DataError

BLOCK = 1 << 24  # numbers looked at at a time, so that a mapped file is never all in memory
MAX_CLASSES = 25_000  # more than any published data set has
BOMB = 1 << 28  # bytes; a file that says it holds more is asked how
MOST = 200  # bytes that one byte of a compressed file of scores can stand for
Numbers = npt.NDArray[Any]


def numbered(row: int) -> str:
    """The place of a row (from 0) in a file without a header."""
    return f"row {row + 1}"


@dataclass(frozen=True)
class ScoreFile:
    """What a file of scores holds; nothing was checked but shapes and names.

    Attributes:
        path: of the file.
        values: (N, K) numbers as stored, perhaps mapped.
        logits: they are logits, not scores in 0..1.
        classes: K names, or None where the file has none.
        images: N paths or names, each once, or None where the file has none.
        targets: (N, K) int8 of 1, 0, -1 for a file that holds them as well.
        place: says where row i (from 0) is, for errors.
    """

    path: Path
    values: Numbers
    logits: bool = False
    classes: tuple[str, ...] | None = None
    images: tuple[str, ...] | None = None
    targets: npt.NDArray[np.int8] | None = None
    place: Callable[[int], str] = numbered

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or 0 in self.values.shape:
            raise DataError(
                f"{self.path} holds scores of shape {self.values.shape}. Give (images, classes), with at least one of each."
            )
        count, width = self.values.shape
        if self.values.dtype.kind not in "fiub":
            raise DataError(f"{self.path} holds {self.values.dtype} instead of numbers. Save the scores as float32.")
        if width > MAX_CLASSES:
            raise DataError(f"{self.path} has {width:,} classes, more than {MAX_CLASSES:,}. Save rows of images, not of classes.")
        for what, names, size in (("class", self.classes, width), ("image", self.images, count)):
            _refuse_names(self.path, what, names, size)

    def __len__(self) -> int:
        return len(self.values)

    def take(
        self, rows: npt.NDArray[np.int64] | None = None, columns: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.floating[Any]]:
        """The scores of some images and classes, in 0..1.

        Args:
            rows: (n,) which, in which order; all when None.
            columns: (k,) likewise.

        Returns:
            (n, k) float32 or float64. Of logits the sigmoid in float64, where logits that differ stay different up to
            about 30. The stored array itself, however large, when it can stay as it is.

        Raises:
            DataError: a number that was asked for is NaN or, unless they are logits, outside 0..1.
        """
        count = len(self) if rows is None else len(rows)
        width = self.values.shape[1] if columns is None else len(columns)
        kind = np.dtype(np.float64 if self.logits or self.values.dtype.itemsize > 4 else np.float32)
        as_stored = rows is None and columns is None and not self.logits and self.values.dtype == kind
        out = self.values if as_stored else np.empty((count, width), kind)
        step = max(1, BLOCK // self.values.shape[1])
        for start in range(0, count, step):
            part = slice(start, start + step)
            block = np.asarray(self.values[part if rows is None else rows[part]])
            block = block if columns is None else block[:, columns]
            self._check(block, np.arange(start, start + len(block)) if rows is None else rows[part], columns)
            if not as_stored:
                out[part] = expit(block.astype(kind)) if self.logits else block
        return out

    def _check(self, block: Numbers, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64] | None) -> None:
        """Raise at the first number that is no score."""
        low, high = block.min(), block.max()  # NaN where there is one
        if (low >= 0 and high <= 1) or (self.logits and not np.isnan(low)):
            return
        wrong = np.isnan(block) if self.logits else ~((block >= 0) & (block <= 1))
        row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
        k = int(column if columns is None else columns[column])
        where = (
            f"{self.path}, {self.place(int(rows[row]))}, {f'class {self.classes[k]!r}' if self.classes else f'column {k + 1}'}"
        )
        value = block[row, column]
        if np.isnan(value):
            raise DataError(f"{where}: the score is missing or NaN. Give a number for every image and class.")
        raise DataError(f"{where}: the score {value:g} is outside 0..1. If these are logits say --logits, or mend the file.")


def _refuse_names(path: Path, what: str, names: tuple[str, ...] | None, size: int) -> None:
    """Raise unless there is one name, and another one, for each row or column."""
    if names is None:
        return
    if len(names) != size:
        raise DataError(f"{path} names {len(names):,} {what}s, but has scores of {size:,}. Name each of them once.")
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{path} has the {what} {twice[:200]!r} twice. Leave one of them out.")
    if "" in names:
        raise DataError(f"{path}: {what} {names.index('') + 1:,} has no name. Name every {what}.")


def refuse_bomb(path: Path, size: int) -> None:
    """Raise when a file says that it holds far more bytes than a compressed file of scores can.

    Raises:
        DataError: it does.
    """
    held = path.stat().st_size
    if size > BOMB and size > MOST * held:
        raise DataError(
            f"{path} has {held:,} bytes and says that it holds {size:,}. Do not trust it; if it is yours, save it uncompressed."
        )
