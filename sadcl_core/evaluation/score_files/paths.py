"""Which path in one list is which in another, when both were written by different programs on different machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sadcl_core.errors import DataError

Rows = npt.NDArray[np.int64]
MISSING, SEVERAL = -1, -2


def match_paths(given: Sequence[str], wanted: Sequence[str], where: Path, truth: str) -> tuple[Rows | None, str]:
    """The place of every wanted path among the given ones.

    Tried are: the same path; one path as the end of the other; the same file name; the same name without its extension. The
    first that finds any holds for all.

    Args:
        given: N different paths.
        wanted: M paths.
        where: the file that gives them, for errors.
        truth: what wants them, for errors.

    Returns:
        (M,) places and how they were found, or None when nothing finds any.

    Raises:
        DataError: only some are found, or one may be several.
    """
    given, wanted = [_plain(path) for path in given], [_plain(path) for path in wanted]
    ways: tuple[tuple[str, Callable[[], Rows]], ...] = (
        ("path", lambda: _same(given, wanted)),
        ("the end of their path", lambda: _ends(given, wanted)),
        ("file name alone", lambda: _named(given, wanted, _file_name)),
        ("file name without its extension", lambda: _named(given, wanted, _stem)),
    )
    for how, way in ways:
        places = way()
        if (places != MISSING).any():
            _refuse(places, given, wanted, where, truth)
            _refuse_other_folders(places, given, wanted, where, truth)
            return places, how
    return None, ""


def _refuse_other_folders(places: Rows, given: Sequence[str], wanted: Sequence[str], where: Path, truth: str) -> None:
    """Raise when the folders differ and so does the number of images: `train/1.jpg` and `val/1.jpg` are two images."""
    if len(given) == len(wanted):
        return
    for place, path in zip(places.tolist(), wanted, strict=True):
        one, other = (PurePosixPath(each).parent.as_posix() for each in (given[place], path))
        if "." not in (one, other) and not (_is_end(one, other) or one == other):
            raise DataError(
                f"{where} has {given[place][:200]!r} and {truth} {path[:200]!r}: files of one name in different folders, and "
                f"{len(given):,} images against {len(wanted):,}. Give the labels of the images that were scored."
            )


def _plain(path: str) -> str:
    """With forward slashes and no `./` before it."""
    return path.replace("\\", "/").removeprefix("./") if "\\" in path or path.startswith("./") else path


def _same(given: Sequence[str], wanted: Sequence[str]) -> Rows:
    found = pc.index_in(pa.array(wanted, pa.string()), value_set=pa.array(given, pa.string()))
    return np.asarray(found.fill_null(MISSING).to_numpy(), dtype=np.int64)


def _ends(given: Sequence[str], wanted: Sequence[str]) -> Rows:
    """By the end of the longer of two paths, in whole parts."""
    by_name: dict[str, list[int]] = {}
    for place, path in enumerate(given):
        by_name.setdefault(_file_name(path), []).append(place)
    found = np.full(len(wanted), MISSING, np.int64)
    for number, path in enumerate(wanted):
        alike = [place for place in by_name.get(_file_name(path), ()) if _is_end(given[place], path)]
        if alike:
            found[number] = alike[0] if len(alike) == 1 else SEVERAL
    return found


def _named(given: Sequence[str], wanted: Sequence[str], called: Callable[[str], str]) -> Rows:
    """By what a path is called."""
    places: dict[str, int] = {}
    for place, path in enumerate(given):
        own = called(path)
        places[own] = SEVERAL if own in places else place
    return np.array([places.get(called(path), MISSING) for path in wanted], dtype=np.int64)


def _is_end(one: str, other: str) -> bool:
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    return PurePosixPath(_file_name(path)).stem


def _refuse(places: Rows, given: Sequence[str], wanted: Sequence[str], where: Path, truth: str) -> None:
    """Raise unless every path has a place of its own."""
    lacking = np.flatnonzero(places == MISSING)
    if len(lacking):
        raise DataError(
            f"{where} has no scores of {wanted[lacking[0]]!r}, one of {len(lacking):,} of the {len(wanted):,} images of {truth} "
            "that it lacks. Score all of them, or say with --split which were."
        )
    several = np.flatnonzero(places == SEVERAL)
    if len(several):
        raise DataError(f"{where}: several of its images may be {wanted[several[0]]!r}. Write the folders into their paths.")
    order = np.argsort(places, kind="stable")
    again = np.flatnonzero(np.diff(places[order]) == 0)
    if len(again):
        one, other = (wanted[order[again[0] + k]] for k in (0, 1))
        what = f"{one!r} and {other!r}" if one != other else f"{one!r}, which is in several splits,"
        raise DataError(
            f"{where}: the scores of {given[places[order[again[0]]]]!r} would count for {what} of {truth}. Write the folders "
            "into the paths, or say with --split which is meant."
        )
