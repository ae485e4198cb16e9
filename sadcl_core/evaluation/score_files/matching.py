"""Which row of a file of scores is which image, and which column which class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.data.class_names import match_classes
from sadcl_core.data.manifest import Split
from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.score_files.labels import Labels, find_labels
from sadcl_core.evaluation.score_files.paths import match_paths
from sadcl_core.evaluation.score_files.values import ScoreFile

Order = npt.NDArray[np.int64] | None  # None: as they are


@dataclass(frozen=True)
class Matched:
    """Scores and labels of the same N images and K classes.

    Attributes:
        scores: (N, K) float32 or float64 in 0..1; a mapped file as it lies on disk where nothing had to be changed.
        targets: (N, K) int8, 1, 0 or -1 for unknown.
        classes: K names, those of the labels where they have names; numbers from 0 where nobody has.
        images: N paths, if anyone names them.
        said: one sentence on what was matched with what, and what was left out.
        doubts: sentences on what was taken for granted and may be wrong.
        split: the N images in the same order, where the labels are of a data set and not an array.
    """

    scores: npt.NDArray[np.floating[Any]]
    targets: npt.NDArray[np.int8]
    classes: tuple[str, ...]
    images: tuple[str, ...] | None
    said: str
    doubts: tuple[str, ...] = ()
    split: Split | None = None


def match_labels(scores: ScoreFile, labels: str | Path | None = None, *, split: str | None = None) -> Matched:
    """Put scores beside the labels of their images.

    Images are matched by path (the same, else one the end of the other, else the same file name, else without its
    extension) where both sides name them, else row by row. Classes are matched by name where both sides name them (case,
    spaces and usual synonyms do not matter), else by position. Images and classes with scores and no labels are left out.

    Args:
        scores: from `read_scores`.
        labels: see `find_labels`; the ones in the file of scores unless given.
        split: of the labels.

    Raises:
        UsageError: no labels are given and the file has none; or see `find_labels`.
        DataError: an image or a class has labels and no scores, the numbers of rows or columns differ, or a score that is
            needed is none.
    """
    if labels is None and scores.targets is None:
        raise UsageError(f"{scores.path} holds scores and no labels. Give the labels with --labels FILE.")
    if labels is None and scores.targets is not None:
        truth = Labels(scores.targets, scores.classes, scores.images, "in the same file")
        said = _said(scores, truth, [])
        return Matched(scores.take(), truth.targets, _names(truth, scores), scores.images, said, _doubts(scores, truth))
    truth = find_labels(str(labels), split=split, count=len(scores), by_row=scores.images is None)
    rows, notes = _match_images(scores, truth)
    columns, more = _match_classes(scores, truth)
    images = truth.images or (scores.images if rows is None else None)
    said = _said(scores, truth, [*notes, *more])
    return Matched(
        scores.take(rows, columns), truth.targets, _names(truth, scores), images, said, _doubts(scores, truth), truth.split
    )


def _doubts(scores: ScoreFile, truth: Labels) -> tuple[str, ...]:
    """What was taken for granted: an order that only one side says, and logits that look like scores."""
    doubts = []
    if (scores.classes is None) != (truth.classes is None):
        names = truth.classes or scores.classes or ()
        who = "labels" if scores.classes is None else "scores"
        shown = ", ".join(f"{k} {name}" for k, name in enumerate(names[:4], start=1))
        doubts.append(
            f"only the {who} name their classes, so columns are taken in that order: {shown}{', ...' if names[4:] else ''}."
        )
    if (scores.images is None) != (truth.images is None):
        who = "labels" if scores.images is None else "scores"
        doubts.append(f"only the {who} name their images, so rows are taken in the order they have there.")
    if scores.logits and scores.values.size and scores.values.min() >= 0 and scores.values.max() <= 1:
        doubts.append("all logits lie between 0 and 1, as scores do. Leave --logits out if they are scores.")
    return tuple(doubts)


def _match_images(scores: ScoreFile, truth: Labels) -> tuple[Order, list[str]]:
    """The row of each image with labels, and what is to be said of it."""
    count = len(truth.targets)
    if scores.images is None or truth.images is None:
        _refuse_counts(scores, truth, "images", len(scores), count)
        return None, ["images row by row"]
    rows, how = match_paths(scores.images, truth.images, scores.path, truth.said)
    if rows is None and _counts_rows(scores.images) and len(scores) == count:
        return None, ["images row by row, since their numbers are only those of the rows"]
    if rows is None:
        raise DataError(
            f"None of the {count:,} images of {truth.said}, such as {truth.images[0]!r}, is in {scores.path}, which has "
            f"{scores.images[0][:200]!r}. Give the labels of the images that were scored."
        )
    left = len(scores) - count
    notes = [f"images by {how}", *([f"{left:,} {'image' if left == 1 else 'images'} without labels left out"] if left else [])]
    return (None if np.array_equal(rows, np.arange(len(scores))) else rows), notes


def _match_classes(scores: ScoreFile, truth: Labels) -> tuple[Order, list[str]]:
    """The column of each class with labels, and what is to be said of it."""
    width = truth.targets.shape[1]
    if scores.classes is None or truth.classes is None:
        _refuse_counts(scores, truth, "classes", scores.values.shape[1], width)
        return None, ["classes by position"]
    found = match_classes(truth.classes, scores.classes)
    if not any(found.values()) and _counts_rows(scores.classes):
        _refuse_counts(scores, truth, "classes", scores.values.shape[1], width)
        numbers = np.argsort([int(name) for name in scores.classes])
        return numbers, ["classes by their numbers"]
    place = {name: k for k, name in enumerate(scores.classes)}
    lacking = [name for name, other in found.items() if other is None]
    if lacking:
        more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        raise DataError(
            f"{scores.path} has no scores of the class {lacking[0]!r}{more}, which {truth.said} has. Give each of "
            f"its {width:,} classes a column of its name."
        )
    _refuse_one_for_two(scores, found)
    columns = np.array([place[str(found[name])] for name in truth.classes])
    renamed = [f"{name} from {other}" for name, other in found.items() if name != other]
    left = [name for name in scores.classes if name not in set(found.values())]
    notes = ["classes by name", *([_few("taken: ", renamed)] if renamed else [])]
    notes += [_few(f"{len(left):,} columns left out: ", left)] if left else []
    return (None if np.array_equal(columns, np.arange(len(scores.classes))) else columns), notes


def _refuse_one_for_two(scores: ScoreFile, found: dict[str, str | None]) -> None:
    """Raise when one column would be the scores of two classes."""
    taken: dict[str | None, str] = {}
    for name, other in found.items():
        if other in taken:
            raise DataError(
                f"{scores.path}: column {other!r} could be {taken[other]!r} or {name!r}. Call its columns exactly as the classes."
            )
        taken[other] = name


def _refuse_counts(scores: ScoreFile, truth: Labels, what: str, given: int, needed: int) -> None:
    if given != needed:
        hint = "Name the image of each row in a column or array called image(s)" if what == "images" else "Name the classes"
        raise DataError(f"{scores.path} has scores of {given:,} {what}, but {truth.said} has labels of {needed:,}. {hint}.")


def _counts_rows(names: Sequence[str]) -> bool:
    """Whether names are nothing but numbers from 0 or 1 on."""
    if not all(name.isdecimal() and len(name) < 10 for name in names):
        return False
    numbers = {int(name) for name in names}
    return any(numbers == set(range(base, base + len(names))) for base in (0, 1))


def _names(truth: Labels, scores: ScoreFile) -> tuple[str, ...]:
    return truth.classes or scores.classes or tuple(str(k) for k in range(truth.targets.shape[1]))


def _few(what: str, names: Sequence[str], shown: int = 5) -> str:
    return what + ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def _said(scores: ScoreFile, truth: Labels, notes: Sequence[str]) -> str:
    count, width = truth.targets.shape
    kind = "logits" if scores.logits else "scores"
    parts = [f"{kind} {scores.path} of {count:,} images and {width:,} classes, labels {truth.said}", *notes]
    return "; ".join(parts)
