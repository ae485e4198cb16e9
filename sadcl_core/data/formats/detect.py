"""Find out in which format the labels of a folder, or of a file, are, and which files hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from sadcl_core.data.formats import BUILT_IN, FORMATS
from sadcl_core.data.formats.source import SPLIT_NAMES, UNASSIGNED, split_name, split_of_file
from sadcl_core.data.formats.walk import images_under
from sadcl_core.data.tables import read_json, read_lines, readable
from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest

BESIDE = ("annotations", "labels", "data")  # folders in which label files lie, beside those called after a split
MANY = 50  # files of one kind in a folder that are not label files, but lie beside images
SPLIT_ORDER = ("train", "val", "test")
LINES = (".jsonl", ".ndjson")
LOOKED_AT = 20  # lines of a file that is in no known format


@dataclass(frozen=True)
class Found:
    """A format and its label files by split (none when the format is a whole folder), and what was passed over."""

    format: str
    files: dict[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def reader(name: str) -> Any:
    """The module of a format.

    Raises:
        UsageError: there is no such format.
    """
    module = {**FORMATS, **BUILT_IN}.get(name)
    if module is None:
        raise UsageError(f"There is no format called {name!r}. {suggest(name, FORMATS)}")
    return import_module(module)


def detect(path: Path, *, insisted: str = "") -> Found:
    """The format of a folder or label file.

    Args:
        path: what a person named.
        insisted: a format that it must be.

    Raises:
        UsageError: there is no format called as insisted.
        DataError: it is in no known format, or several files may be meant.
    """
    readers = {name: reader(name) for name in ([insisted] if insisted else FORMATS)}
    if path.is_dir():
        with readable(path, "a folder"):
            found = [*_in_folder(path, readers)]
            if found[0].files if found else not insisted:
                _refuse_damaged(path, found[0].files if found else {})
    else:
        for name, module in readers.items():
            if path.suffix.lower() in getattr(module, "DESCRIPTIONS", ()):
                return Found(name, {UNASSIGNED: path})
        found = [Found(name, {split_of_file(path): path}) for name, module in readers.items() if _is_label_file(path, module)]
    if not found:
        if insisted and path.is_file() and path.suffix.lower() in readers[insisted].SUFFIXES:
            return Found(insisted, {split_of_file(path): path})  # its reader says what is wrong with it
        if insisted and not readers[insisted].SUFFIXES and path.is_dir():
            return Found(insisted)
        _explain(path)
        raise DataError(_unknown(path, insisted))
    passed = _passed_over(path, found[0]) if path.is_dir() and found[0].files else ()
    others = [f"{other.format} ({', '.join(p.name for p in other.files.values()) or 'the folder'})" for other in found[1:]]
    more = (
        (f"read as {found[0].format}; also there, and not read: {', '.join(others)}. --format says otherwise",) if others else ()
    )
    return Found(found[0].format, _all_there_is(found[0].files), (*found[0].notes, *passed, *more))


def _all_there_is(files: dict[str, Path]) -> dict[str, Path]:
    """A single file is called train because there is no other: what it holds is not divided yet."""
    return {UNASSIGNED: files["train"]} if list(files) == ["train"] else files


def detect_files(files: dict[str, Path], *, insisted: str = "") -> Found:
    """The format of label files given one per split.

    Raises:
        DataError: they are not of one format, or there is no such file.
    """
    found = {split: detect(path, insisted=insisted) for split, path in files.items()}
    formats = {entry.format for entry in found.values()}
    folder = next((path for path in files.values() if path.is_dir()), None)
    if folder is not None:
        raise DataError(f"{folder} is a folder. Give one label file per split: train=a.csv test=b.csv.")
    if len(formats) > 1:
        raise DataError(f"The label files are of several formats: {', '.join(sorted(formats))}. Give files of one format.")
    return Found(formats.pop(), dict(files))


def _in_folder(folder: Path, readers: dict[str, Any]) -> Iterator[Found]:
    """Every format that a folder is in; whole-folder formats are looked for only while none was found."""
    taken: set[Path] = set()
    for name, module in readers.items():
        if module.SUFFIXES:
            files = [path for path in _candidates(folder, module.SUFFIXES) if path not in taken and _is_label_file(path, module)]
            if files:
                taken.update(files)
                yield _by_split(name, folder, files)
        elif not taken and module.recognises(folder):
            yield Found(name)
            return


def _by_split(name: str, folder: Path, files: Sequence[Path]) -> Found:
    """One file per split."""
    preferred = getattr(reader(name), "PREFERRED", "")
    by_split: dict[str, list[Path]] = {}
    for path in [path for path in files if path.name.startswith(preferred)] or files:
        by_split.setdefault(split_of_file(path, folder), []).append(path)
    notes: tuple[str, ...] = ()
    if UNASSIGNED in by_split and len(by_split) > 1:
        passed = ", ".join(path.name for path in by_split.pop(UNASSIGNED))
        notes = (f"{passed} is called after no split and was not read",)
    for split, paths in by_split.items():
        if len(paths) > 1:
            shown = ", ".join(str(path.relative_to(folder)) for path in paths[:5])
            what = f"split {split}" if split else "labels"
            raise DataError(
                f"{folder} has several files of {what}: {shown}. Name the one that is meant, or train=FILE test=FILE."
            )
    order = sorted(by_split, key=lambda split: SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER))
    return Found(name, {split: by_split[split][0] for split in order}, notes)


def _candidates(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Files that may hold labels: in the folder, and in those below it that are called after a split or hold annotations."""
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    inner = [path for path in below if path.name.lower() in BESIDE]
    inner += [path for base in (folder, *inner) for path in sorted(base.iterdir()) if _is_split_folder(path)]
    for place in (folder, *inner):
        files = sorted(path for path in place.iterdir() if path.suffix.lower() in suffixes and path.is_file())
        if len(files) <= MANY:
            yield from files


def _is_split_folder(path: Path) -> bool:
    return split_name(path.name) in SPLIT_NAMES.values() and path.is_dir()


def _is_label_file(path: Path, module: Any) -> bool:
    return path.suffix.lower() in module.SUFFIXES and path.is_file() and bool(module.recognises(path))


def _passed_over(folder: Path, found: Found) -> tuple[str, ...]:
    """A note on files that are called after a split and hold no labels, as a test set to be submitted does."""
    suffixes = {path.suffix.lower() for path in found.files.values()}
    files = [path for path in _candidates(folder, tuple(suffixes)) if path.parent == folder and path not in found.files.values()]
    names = [path.name for path in files if split_of_file(path, folder) not in (UNASSIGNED, *found.files)]
    return (f"{', '.join(names)} has no labels that are known and was not read",) if names else ()


def _refuse_damaged(folder: Path, files: dict[str, Path]) -> None:
    """Raise when a file that cannot be read would be passed over.

    Raises:
        DataError: there is one that alone speaks of its split, or any where no label file was found.
    """
    for path in _candidates(folder, (*LINES, ".json", ".csv", ".tsv", ".parquet")):
        split = split_of_file(path, folder)
        if not files or (split != UNASSIGNED and split not in files):
            _explain(path)


def _explain(path: Path) -> None:
    """Say what keeps a file from being taken for a label file, if it is that it cannot be read at all.

    Raises:
        DataError: it is empty, no text, or damaged.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        return
    with readable(path, "text"), path.open("rb") as file:
        if not file.read(1):
            raise DataError(f"{path} is empty. Export or fetch it again.")
    if suffix == ".json":
        read_json(path)
    for number, line in islice(read_lines(path), LOOKED_AT) if suffix in (*LINES, ".csv", ".tsv", ".txt") else ():
        if suffix in LINES and line.strip():
            with readable(path, f"JSON lines: row {number}"):
                json.loads(line)


def _unknown(path: Path, insisted: str) -> str:
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        return f"{path} is a spreadsheet. Save it as CSV."
    if not path.exists():
        return f"There is no file or folder {path}. Check the path."
    what = f"is not in the format {insisted}" if insisted else "holds no labels in a format that is known"
    if path.is_dir() and not insisted and next(images_under(path), None) is not None:
        what = "holds images, but no labels in a format that is known"
    return (
        f"{path} {what}. Known are {', '.join(FORMATS)}: docs/formats.md shows an example of each, --format NAME insists on one."
    )
