"""Write scores to a file that this program and others read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from sadcl_core.data.tables import IMAGE_COLUMNS
from sadcl_core.errors import UsageError
from sadcl_core.runtime.files import replacing, to_cell

OPTION = "--save-scores"
SUFFIXES = (".csv", ".parquet", ".npz")


def write_scores(
    path: Path, scores: npt.NDArray[np.floating[Any]], classes: Sequence[str], images: Sequence[str] | None = None
) -> None:
    """Write a file that `read_scores` reads; Parquet and `.npz` keep every bit.

    Args:
        path: `.csv`, `.parquet` (a column of images and one per class) or `.npz` (`scores`, `classes`, `images`).
        scores: (N, K).
        classes: K names.
        images: N paths, or None if nobody knows them.

    Raises:
        UsageError: the name ends otherwise, or the folder cannot be written to.
        MachineError: the disk is full.
        ValueError: the shapes do not fit.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scores.csv"
        >>> write_scores(path, np.array([[0.5, 1.0]]), ["cat", "dog"], ["a.jpg"])
        >>> print(path.read_text().strip())
        "image","cat","dog"
        "a.jpg",0.5,1
    """
    if scores.shape != (len(scores if images is None else images), len(classes)):
        raise ValueError(f"scores {scores.shape} of {len(images or scores)} images and {len(classes)} classes")
    check_target(path)
    suffix = path.suffix.lower()
    broken = next((name for name in (*classes, *(images or ())) if "\n" in name or "\r" in name), None)
    if suffix == ".csv" and broken is not None:
        raise UsageError(f"{broken!r} holds a line break, which a CSV cannot. Give {OPTION} a name in .npz or .parquet.")
    with replacing(path, OPTION) as temporary:
        if suffix == ".npz":
            names = {"classes": classes} if images is None else {"classes": classes, "images": images}
            arrays = {key: np.array([name.encode() for name in values]) for key, values in names.items()}
            with temporary.open("wb") as file:  # np.savez would add .npz to a path
                np.savez(file, scores=scores, **arrays)  # type: ignore[arg-type] # not allow_pickle
            return
        lowered = {name.strip().lower() for name in classes}
        image_name = next((name for name in IMAGE_COLUMNS if name not in lowered), "image file")
        columns = [pa.array(column) for column in np.ascontiguousarray(scores.T)]
        cell: Callable[[str], str] = to_cell if suffix == ".csv" else str
        header = [*map(cell, classes)]
        if images is not None:
            columns, header = ([pa.array([*map(cell, images)], pa.string()), *columns], [image_name, *header])
        table = pa.table(columns, names=header)
        if suffix == ".csv":
            pacsv.write_csv(table, temporary)
        else:
            pq.write_table(table, temporary, use_dictionary=False)


def check_target(path: Path) -> None:
    """Raise a UsageError if scores cannot be written to a file of this name."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} does not end in {', '.join(SUFFIXES)}. Give {OPTION} such a name.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Give {OPTION} the name of a file.")
