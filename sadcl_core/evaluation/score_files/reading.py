"""Which reader a file of scores has: by the end of its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sadcl_core.data.tables import readable
from sadcl_core.errors import DataError
from sadcl_core.evaluation.score_files.arrays import read_score_array
from sadcl_core.evaluation.score_files.parquet import read_score_parquet
from sadcl_core.evaluation.score_files.text import read_score_text
from sadcl_core.evaluation.score_files.values import ScoreFile

READERS: dict[str, Callable[..., ScoreFile]] = {
    ".npy": read_score_array,
    ".npz": read_score_array,
    ".csv": read_score_text,
    ".tsv": read_score_text,
    ".txt": read_score_text,
    ".parquet": read_score_parquet,
}


def holds_scores(path: Path) -> bool:
    """Whether the name of a file is that of a file of scores, and not of a model."""
    return path.suffix.lower() in READERS


def read_scores(path: Path, *, logits: bool = False) -> ScoreFile:
    """Read a file of scores, of whatever program.

    Args:
        path: `.npy` (N, K); `.npz` with `scores`, and perhaps `classes`, `images` and `targets`; `.csv`, `.tsv`, `.txt` or
            `.parquet` with a column per class and perhaps one of images, or a row per image and class; `.parquet` also with
            one column of lists.
        logits: the numbers are logits, not scores in 0..1; `ScoreFile.take` gives their sigmoid.

    Raises:
        DataError: it is not there, damaged, in none of these forms, holds pickled objects, or names something twice.
    """
    reader = READERS.get(path.suffix.lower())
    with readable(path, "a file of scores"), path.open("rb") as file:
        empty = not file.read(1)
    if empty:
        raise DataError(f"{path} is empty. Write the scores again.")
    if reader is None:
        raise DataError(f"{path} is no file of scores that is known ({', '.join(READERS)}). Save the scores as one of these.")
    return reader(path, logits=logits)
