"""Write scores so that they can be read again, by this program or another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from sadcl_core.data.tables import IMAGE_COLUMNS
from sadcl_core.errors import UsageError
from sadcl_core.runtime.files import replacing

Floats = npt.NDArray[np.floating[Any]]
OPTION = "--save-scores"
ROWS = 1 << 16  # of a table at a time


def write_scores(path: Path, scores: Floats, classes: Sequence[str], images: Sequence[str] | None = None) -> None:
    """Write a file that `read_scores` reads; Parquet and `.npz` keep every bit.

    Args:
        path: `.csv`, `.parquet` (a column of images and one per class) or `.npz` (`scores`, `classes`, `images`).
        scores: (N, K).
        classes: K names.
        images: N paths, if they are known.

    Raises:
        UsageError: the name ends otherwise, or the place cannot be written to.
        MachineError: see `sadcl_core.runtime.files.explained`.
        ValueError: the shapes do not fit.
    """
    if scores.shape != (len(scores if images is None else images), len(classes)):
        raise ValueError(f"scores {scores.shape} of {len(images or scores)} images and {len(classes)} classes")
    refuse_target(path)
    with replacing(path, OPTION) as temporary:
        WRITERS[path.suffix.lower()](temporary, scores, classes, images)


def refuse_target(path: Path) -> None:
    """Raise a UsageError when scores cannot be written to a file of this name."""
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"{path} does not end in {', '.join(WRITERS)}. Give {OPTION} such a name.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Give {OPTION} the name of a file.")


def _write_npz(path: Path, scores: Floats, classes: Sequence[str], images: Sequence[str] | None) -> None:
    names = {"classes": classes} if images is None else {"classes": classes, "images": images}
    arrays = {key: np.array([name.encode() for name in values]) for key, values in names.items()}
    with path.open("wb") as file:
        np.savez(file, scores=scores, **arrays)  # type: ignore[arg-type] # not allow_pickle


def _write_csv(path: Path, scores: Floats, classes: Sequence[str], images: Sequence[str] | None) -> None:
    broken = next((name for name in (*classes, *(images or ())) if "\n" in name or "\r" in name), None)
    if broken is not None:
        raise UsageError(
            f"{broken!r} holds a line break, which tables in text do not survive. Give {OPTION} a name in .npz or .parquet."
        )
    tables = _tables(scores, classes, images)
    first = next(tables)
    with pacsv.CSVWriter(path, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _write_parquet(path: Path, scores: Floats, classes: Sequence[str], images: Sequence[str] | None) -> None:
    tables = _tables(scores, classes, images)
    first = next(tables)
    with pq.ParquetWriter(path, first.schema, use_dictionary=False) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _tables(scores: Floats, classes: Sequence[str], images: Sequence[str] | None) -> Iterator[pa.Table]:
    """A column of images, called as no class is, and one per class; ROWS at a time, so that nothing of N x K is copied."""
    taken = {name.strip().lower() for name in classes}
    called = next((name for name in IMAGE_COLUMNS if name not in taken), "image file")
    names = None if images is None else list(images)
    header = [*([] if names is None else [called]), *classes]
    for start in range(0, max(len(scores), 1), ROWS):
        block = np.ascontiguousarray(scores[start : start + ROWS].T)
        columns = [] if names is None else [pa.array(names[start : start + ROWS], pa.string())]
        yield pa.table([*columns, *(pa.array(column) for column in block)], names=header)


WRITERS: dict[str, Callable[[Path, Floats, Sequence[str], Sequence[str] | None], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".npz": _write_npz,
}
