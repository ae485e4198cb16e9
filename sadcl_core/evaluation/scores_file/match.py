"""Match a file of scores with labels: which row is which image, and which column which class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from sadcl_core.data.class_names import match_classes
from sadcl_core.data.formats.detect import reader
from sadcl_core.data.formats.source import UNASSIGNED, changed
from sadcl_core.data.interpretation import FileReading, Interpretation
from sadcl_core.data.manifest import Manifest, is_prepared, load_manifest
from sadcl_core.data.prepare.dataset_spec import PREPARED, find_labels, identify
from sadcl_core.data.prepare.reading_options import ReadingOptions
from sadcl_core.data.shards import is_address, open_shards
from sadcl_core.data.split import ALL, HELD_OUT, Split
from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.scores_file.read import ScoresFile, read_label_array
from sadcl_core.runtime.files import exists
from sadcl_core.runtime.words import counted, some_of

AS_DETECTED = ReadingOptions()
OF_ARRAYS = ("present", "absent", "unknown")  # options for labels that are numbers alone
SHOWN = 5  # names in a note

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Matched:
    """Scores and labels of the same N images and K classes.

    Attributes:
        scores: (N, K) float32 or float64 in 0..1; a mapped file as it lies on disk where nothing had to be changed.
        targets: (N, K) int8 of 1 (active), 0 (inactive) and -1 (unknown).
        classes: K names, those of the labels where they have names; numbers from 0 where neither side has.
        images: N paths, or None where neither side has names.
        description: what was matched with what, and what was left out.
        warnings: assumptions that may be wrong.
        split: the N images in the same order, where the labels are of a data set and not an array.
        interpretation: how the labels were read; None where they were prepared before.
    """

    scores: npt.NDArray[np.floating[Any]]
    targets: npt.NDArray[np.int8]
    classes: tuple[str, ...]
    images: tuple[str, ...] | None
    description: str
    warnings: tuple[str, ...] = ()
    split: Split | None = None
    interpretation: Interpretation | None = None


@dataclass(frozen=True)
class _Labels:
    """Labels (N, K) with the names of classes and images where they have them, and where they come from."""

    targets: npt.NDArray[np.int8]
    classes: tuple[str, ...] | None
    images: tuple[str, ...] | None
    source: str
    split: Split | None = None
    interpretation: Interpretation | None = None


def match_labels(
    scores: ScoresFile,
    labels: str | Path | None = None,
    *,
    split: str | None = None,
    options: ReadingOptions = AS_DETECTED,
    by_order: bool = False,
) -> Matched:
    """Return scores beside the labels of their images.

    Images are matched by path (see `match_paths`) where both sides name them, and row by row where neither does. Classes are
    matched by name where both sides name them (case, spaces and usual synonyms do not matter), else by position. Images and
    classes with scores and without labels are left out. No image is opened or looked for.

    Args:
        scores: from `read_scores`.
        labels: a `.npy` or `.npz` file, a label file, a folder, a prepared folder, or the name of a data set; the labels in
            the file of scores unless given.
        split: of the labels; unless given the held-out split, or the one with as many images as there are scores.
        options: how `labels` are read.
        by_order: where only one side names its images, they are in the same order on both.

    Raises:
        UsageError: there are no labels, `split` is given for an array, an option has no effect, or only one side names its
            images without `by_order`.
        DataError: the labels are damaged, an image or a class has labels and no scores, the numbers of rows or columns
            differ, or a score is not a number in 0..1.

    Example:
        >>> targets = np.array([[1, 0], [0, 1]], np.int8)
        >>> file = ScoresFile(Path("s.npz"), np.array([[0.9, 0.2], [0.1, 0.8]]), classes=("cat", "dog"), targets=targets)
        >>> match_labels(file).description
        'scores s.npz of 2 images and 2 classes, labels in the same file'
    """
    rows: Indices | None
    columns: Indices | None
    if labels is not None:
        truth = _read_labels(str(labels), split, options, count=len(scores), by_row=scores.images is None)
        rows, image_notes = _match_images(scores, truth, by_order=by_order)
        columns, class_notes = _match_classes(scores, truth)
        notes = image_notes + class_notes
    elif scores.targets is not None:
        _refuse_options(options, "labels in the file of scores", but=OF_ARRAYS)
        truth = _of_array(scores, "in the same file")
        rows, columns, notes = None, None, []
    else:
        raise UsageError(f"{scores.path} holds scores and no labels. Give the labels with --labels FILE.")
    count, width = truth.targets.shape
    kind = "logits" if scores.logits else "scores"
    return Matched(
        scores.take(rows, columns),
        truth.targets,
        truth.classes or scores.classes or tuple(map(str, range(width))),
        truth.images or (scores.images if rows is None else None),
        "; ".join([f"{kind} {scores.path} of {count:,} images and {width:,} classes, labels {truth.source}", *notes]),
        _warnings(scores, truth),
        truth.split,
        truth.interpretation,
    )


def match_paths(given: Sequence[str], needed: Sequence[str], path: Path, source: str) -> tuple[Indices | None, str]:
    """Return the index of every needed path among the given ones, which may be of another program and machine.

    Tried are: the same path; one path as the end of the other; the same file name; the same name without its extension. The
    first that matches any holds for all. Given are N different paths by the file `path`, needed M by `source`: (M,) indices and
    how they were matched, None if nothing matches.

    Raises:
        DataError: only some match, or one may be several.

    Example:
        >>> match_paths(["/data/val/b.jpg", "/data/val/a.jpg"], ["val/a.jpg", "val/b.jpg"], Path("s.csv"), "labels.csv")
        (array([1, 0]), 'the end of their path')
    """
    given, needed = ([one.replace("\\", "/").removeprefix("./") for one in paths] for paths in (given, needed))
    ways: tuple[tuple[str, Callable[[str], str], Callable[[str, str], bool]], ...] = (
        ("path", str, str.__eq__),
        ("the end of their path", _file_name, _is_end),
        ("file name alone", _file_name, lambda one, other: True),
        ("file name without its extension", lambda one: PurePosixPath(one).stem, lambda one, other: True),
    )
    for how, key, fits in ways:
        places: dict[str, list[int]] = {}
        for place, one in enumerate(given):
            places.setdefault(key(one), []).append(place)
        fitting = ((place for place in places.get(key(one), ()) if fits(given[place], one)) for one in needed)
        matches = [tuple(islice(some, 2)) for some in fitting]
        if any(matches):
            return _only_matches(matches, given, needed, path, source), how
    return None, ""


def _file_name(path: str) -> str:
    return PurePosixPath(path).name


def _is_end(one: str, other: str) -> bool:
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def _only_matches(
    matches: Sequence[tuple[int, ...]], given: Sequence[str], needed: Sequence[str], path: Path, source: str
) -> Indices:
    """Return the one match of every needed path, if no other has it and their folders may be the same."""
    missing = [name for name, places in zip(needed, matches, strict=True) if not places]
    if missing:
        raise DataError(
            f"{path} has no scores of {missing[0]!r} and {len(missing) - 1:,} more of the {len(needed):,} images of "
            f"{source}. Score all of them, or say with --split which were."
        )
    first: dict[int, str] = {}
    for name, places in zip(needed, matches, strict=True):
        place = places[0]
        if len(places) > 1:
            raise DataError(f"{path}: several of its images may be {name!r}. Write the folders into their paths.")
        if place in first:
            what = f"{first[place]!r} and {name!r}" if first[place] != name else f"{name!r}, which is in several splits,"
            raise DataError(
                f"{path}: the scores of {given[place]!r} would count for {what} of {source}. Write the folders into the paths, "
                "or say with --split which is meant."
            )
        first[place] = name
        folders = [PurePosixPath(each).parent.as_posix() for each in (given[place], name)]
        if len(given) != len(needed) and "." not in folders and not _is_end(*folders):  # train/1.jpg and val/1.jpg are two images
            raise DataError(
                f"{path} has {given[place][:200]!r} and {source} {name[:200]!r}: files of one name in different folders, and "
                f"{len(given):,} images against {len(needed):,}. Give the labels of the images that were scored."
            )
    return np.array(list(first), np.int64)


def _match_images(scores: ScoresFile, truth: _Labels, *, by_order: bool) -> tuple[Indices | None, list[str]]:
    """Return the row of each image with labels, None for all rows in their order, and notes on how they were matched."""
    count = len(truth.targets)
    if scores.images is None or truth.images is None:
        _check_counts(scores, truth, "images")
        if scores.images is not truth.images and not by_order:
            side, other = (scores.path, truth.source) if scores.images is None else (truth.source, scores.path)
            raise UsageError(
                f"{side} does not name its images, and {other} does. Name them in a column or array called image(s), or say "
                "with --by-order that they are in the same order."
            )
        return None, ["images row by row"]
    rows, how = match_paths(scores.images, truth.images, scores.path, truth.source)
    if rows is None and _are_counted(scores.images) and len(scores) == count:
        return None, ["images row by row, since their names are only the numbers of the rows"]
    if rows is None:
        raise DataError(
            f"None of the {count:,} images of {truth.source}, such as {truth.images[0]!r}, is in {scores.path}, which has "
            f"{scores.images[0][:200]!r}. Give the labels of the images that were scored."
        )
    extra = len(scores) - count
    notes = [f"images by {how}"] + ([f"{extra:,} image{'s'[: extra != 1]} without labels left out"] if extra else [])
    return None if np.array_equal(rows, np.arange(len(scores))) else rows, notes


def _match_classes(scores: ScoresFile, truth: _Labels) -> tuple[Indices | None, list[str]]:
    """Return the column of each class with labels, None for all columns in their order, and notes on how they were matched."""
    if scores.classes is None or truth.classes is None:
        _check_counts(scores, truth, "classes")
        return None, ["classes by position"]
    matches = match_classes(truth.classes, scores.classes)
    if not any(matches.values()) and _are_counted(scores.classes):
        _check_counts(scores, truth, "classes")
        return np.argsort([int(name) for name in scores.classes]), ["classes by their numbers"]
    missing = [name for name, match in matches.items() if match is None]
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DataError(
            f"{scores.path} has no scores of the class {missing[0]!r}{more}, which {truth.source} has. Give each of its "
            f"{len(truth.classes):,} classes a column of its name."
        )
    of_column: dict[str | None, str] = {}
    for name, match in matches.items():
        if match in of_column:
            raise DataError(
                f"{scores.path}: column {match!r} could be {of_column[match]!r} or {name!r}. Call its columns exactly as the "
                "classes."
            )
        of_column[match] = name
    columns = np.array([scores.classes.index(str(matches[name])) for name in truth.classes])
    renamed = [f"{name} from {match}" for name, match in matches.items() if name != match]
    extra = [name for name in scores.classes if name not in of_column]
    notes = ["classes by name", *([f"by synonym or spelling: {some_of(renamed, SHOWN)}"] if renamed else [])]
    notes += [f"{counted(len(extra), 'column')} left out: {some_of(extra, SHOWN)}"] if extra else []
    return None if np.array_equal(columns, np.arange(len(scores.classes))) else columns, notes


def _check_counts(scores: ScoresFile, truth: _Labels, what: str) -> None:
    given, needed = (values.shape[what == "classes"] for values in (scores.values, truth.targets))
    if given != needed:
        hint = "Name the image of each row in a column or array called image(s)" if what == "images" else "Name the classes"
        raise DataError(f"{scores.path} has scores of {given:,} {what}, but {truth.source} has labels of {needed:,}. {hint}.")


def _warnings(scores: ScoresFile, truth: _Labels) -> tuple[str, ...]:
    """Return what was assumed: an order that only one side names, and logits that look like scores."""
    warnings = []
    if (scores.classes is None) != (truth.classes is None):
        names = truth.classes or scores.classes or ()
        side = "labels" if scores.classes is None else "scores"
        numbered = some_of([f"{k} {name}" for k, name in enumerate(names, start=1)], 4)
        warnings.append(f"only the {side} name their classes, so columns are taken in that order: {numbered}.")
    if (scores.images is None) != (truth.images is None):
        side = "labels" if scores.images is None else "scores"
        warnings.append(f"only the {side} name their images, so rows are taken in the order they have there.")
    if scores.logits and scores.values.min() >= 0 and scores.values.max() <= 1:
        warnings.append("all logits lie between 0 and 1, as scores do. Leave --logits out if they are scores.")
    return tuple(warnings)


def _are_counted(names: Sequence[str]) -> bool:
    """Return True if the names are the numbers from 0 or 1 on, in any order."""
    first = "0" if "0" in names else "1"
    return set(names) == {str(k + int(first)) for k in range(len(names))}


def _read_labels(labels: str, split: str | None, options: ReadingOptions, *, count: int, by_row: bool) -> _Labels:
    """Read an array of labels, or any label file or data set; `count` images have scores, `by_row` without their names."""
    if Path(labels).suffix.lower() in (".npy", ".npz"):
        if split:
            raise UsageError(f"{labels} is an array and has no split {split!r}. Leave --split out.")
        _refuse_options(options, "an array of labels", but=("classes", *OF_ARRAYS))
        return _of_array(read_label_array(Path(labels), options.reading()), labels)
    manifest, source, has_images = _read_manifest(labels, options)
    images = manifest.split(split or _likely_split(manifest, count, by_row))
    divided = f", split {images.name}" if manifest.splits != [UNASSIGNED] else ""
    return _Labels(
        images.all_targets(),
        manifest.classes,
        tuple(images),
        f"{source}{divided}",
        images if has_images else None,
        manifest.description.interpretation if manifest.folder is None else None,
    )


def _of_array(file: ScoresFile, source: str) -> _Labels:
    """Return the labels of an array, with what its numbers mean."""
    assert file.targets is not None, "asked for files with labels"
    account = FileReading(str(file.path), images=len(file), values=file.label_values)
    return _Labels(file.targets, file.classes, file.images, source, interpretation=Interpretation("array", (account,)))


def _read_manifest(labels: str, options: ReadingOptions) -> tuple[Manifest, str, bool]:
    """Return the labels as they are, or as they were prepared; where from; and True if their images may be looked for."""
    folder = Path(labels) if exists(Path(labels)) else PREPARED / labels
    if is_address(labels) or is_prepared(folder):
        _refuse_options(options, "labels that were prepared before")
    if is_address(labels):
        return open_shards(labels, PREPARED), labels, True
    if is_prepared(folder):
        manifest = load_manifest(folder)
        stale = changed(manifest.description.source) if manifest.description.shards is None else []
        return manifest, f"{folder}{f' (older than {stale[0]})' if stale else ''}", True
    with options.texts():
        detected, source = find_labels(identify([labels], data=None), reading=options.reading())
        read = reader(detected.format).read
        try:
            return read(source), labels, True
        except DataError as error:
            try:  # the images may have been on another machine
                return read(replace(source, labels_only=True)), labels, False
            except DataError:
                raise DataError(str(error).replace("--threshold", "--label-threshold")) from None


def _refuse_options(options: ReadingOptions, what: str, *, but: Sequence[str] = ()) -> None:
    """Raise a UsageError if an option of reading is given that has no effect."""
    for name in options.changed():
        if name not in but:
            raise UsageError(f"--{name.replace('_', '-')} has no effect on {what}. Leave it out.")


def _likely_split(manifest: Manifest, count: int, by_row: bool) -> str:
    """Return a split of `count` images, held-out ones first; else a held-out one, else all images."""
    sizes = {name: size for name, size in manifest.split_sizes.items() if name != UNASSIGNED}
    held_out = [name for name in HELD_OUT if name in sizes]
    fitting = [name for name in (*held_out, *sizes) if sizes[name] == count]
    if fitting or (held_out and not (by_row and len(manifest) == count)):
        return [*fitting, *held_out][0]
    return ALL
