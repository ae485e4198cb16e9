"""The input of a reader of label files, and the state of the files it read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Difficult = Literal["ignore", "negative", "positive"]

# usual names of the splits, and their names here
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trainval", "trainset", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "evaluation", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "tst"), "test"),
}
OF_SPLIT = re.compile(r"[ _-](set|split|data|images?|imgs)$")  # behind the name of a split: Training_Set, train_images
NUMBERED_SPLITS = {"0": "train", "1": "val", "2": "test"}  # as CelebA numbers them
UNASSIGNED = ""  # the split of an image that belongs to none yet
NO_SPLIT = ("unassigned", "default")  # how Google and CVAT write that


@dataclass(frozen=True)
class Reading:
    """Choices of the user about how label files are read: the arguments of `sadcl_core.prepare` of these names, taken apart."""

    classes: tuple[str, ...] = ()
    delimiter: str = ""
    difficult: Difficult = "ignore"
    label_column: str = ""
    long: bool = False
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    threshold: float | None = None
    image_column: str = ""
    split_column: str = ""
    group_by: str = ""


@dataclass(frozen=True)
class Source:
    """Label files and the folder of their images.

    Attributes:
        root: folder that holds every image.
        files: label files by split; none for a format that is a whole folder.
        guess: images may also lie under the parent of `root`, since their folder was not given.
        labels_only: read the labels alone; images keep their names in the label file, wherever they were.
        parts: split and path of label files, where several belong to one split.
        unpacked: folder for the images that are in the label files themselves.
        labels: folder of the labels, where the images lie in another.
    """

    name: str
    root: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    reading: Reading = Reading()
    guess: bool = False
    labels_only: bool = False
    parts: tuple[tuple[str, Path], ...] = ()
    unpacked: Path | None = None
    labels: Path | None = None

    @property
    def folder(self) -> Path:
        """Folder of the label files of a format that is a whole folder."""
        return self.labels or self.root


def label_files(source: Source) -> Sequence[tuple[str, Path]]:
    """Return split and path of every label file."""
    return source.parts or tuple(source.files.items())


def split_name(text: str) -> str:
    """Return the split that a column's value, or the name of a file or folder, stands for.

    `valid` is val, `Training` and `train_images` are train; another word stays as it is; a blank, `UNASSIGNED` and `default` are
    no split yet.
    """
    word = text.strip()
    return UNASSIGNED if word.lower() in NO_SPLIT else SPLIT_NAMES.get(OF_SPLIT.sub("", word.lower()), word)


def split_of_file(path: Path, above: Path | None = None) -> str:
    """Return the split in the name of a file, or that its folder is called after: `instances_val2017.json` is val.

    The name of the folder `above`, which a person gave, does not count: all of it was meant.
    """
    folder = "" if path.parent == above else OF_SPLIT.sub("", path.parent.name.lower())
    words = (*re.split(r"[^a-z]+", path.stem.lower()), folder)
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), UNASSIGNED)


def split_above(image: str) -> str:
    """Return the split that the nearest folder above an image is called after; UNASSIGNED without one."""
    names = (split_name(part) for part in reversed(image.split("/")[:-1]))
    return next((name for name in names if name in SPLIT_NAMES.values()), UNASSIGNED)


def split_of_folders(path: str) -> str:
    """Return the split that the nearest folder above an image has in its name, as val2017 and stage_2_train have; else blank."""
    for folder in reversed(path.split("/")[:-1]):
        for word in re.split(r"[^a-z]+", folder.lower()):
            if word in SPLIT_NAMES:
                return SPLIT_NAMES[word]
    return ""


def describe_source(kind: str, paths: Iterable[Path]) -> dict[str, Any]:
    """Return the format and, by path, the state of each label file or folder."""
    return {"format": kind, "files": {str(path.resolve()): _state(path) for path in paths}}


def changed(source: dict[str, Any]) -> list[str]:
    """Return label files and folders that are gone or have changed."""
    return [name for name, state in source["files"].items() if not _is_still(Path(name), state)]


def moved(source: dict[str, Any], old: Path, new: Path) -> bool | None:
    """Return True if the label files under one folder are now, with the same content, under another; None if there were none."""
    below = {Path(name): state for name, state in source["files"].items() if Path(name).is_relative_to(old)}
    if not below:
        return None
    for path, state in below.items():
        now = _state(new / path.relative_to(old))
        if now is None or not isinstance(state, dict) or now["digest"] != state.get("digest"):
            return False
    return True


def _is_still(path: Path, state: Any) -> bool:
    """Return True if a file or folder is as it was; the content of a file is compared if only its time has changed."""
    try:
        seen = path.stat()
    except OSError:
        return state is None
    if not isinstance(state, dict):
        return False
    if path.is_file() and (seen.st_size, seen.st_mtime_ns) == (state.get("size"), state.get("changed")):
        return True
    now = _state(path)
    return now is not None and now["digest"] == state.get("digest") and (path.is_file() or now["changed"] == state.get("changed"))


def _hash(values: object) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()


def _state(path: Path) -> dict[str, Any] | None:
    """Return size in bytes, latest change in nanoseconds and a hash of the content; None if it is gone.

    Of a folder a hash of the names and sizes in it, and one of their changes.
    """
    try:
        if path.is_dir():
            with os.scandir(path) as entries:  # of a link its own state, for what it leads to may be gone
                states = ((entry.name, entry.stat(follow_symlinks=False)) for entry in entries)
                inside = sorted((name, state.st_size, state.st_mtime_ns) for name, state in states)
            sizes, times = [(name, size) for name, size, _ in inside], [time for *_, time in inside]
            return {"digest": _hash(sizes), "changed": _hash(times)}
        seen = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
    return {"size": seen.st_size, "changed": seen.st_mtime_ns, "digest": digest}
