"""What a reader of label files is given, and what is remembered of the files it read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Difficult = Literal["ignore", "negative", "positive"]

# how people call the splits, and what they are called here
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trainval", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
UNASSIGNED = ""  # the split of an image that belongs to none yet


@dataclass(frozen=True)
class Reading:
    """What a person can say about how label files are to be read.

    Attributes:
        classes: names in their order, when they are not to be gathered from the labels.
        delimiter: between the labels of one cell; found out when empty.
        difficult: what an object marked difficult says of its class.
    """

    classes: tuple[str, ...] = ()
    delimiter: str = ""
    difficult: Difficult = "ignore"


@dataclass(frozen=True)
class Source:
    """Label files and the folder of their images.

    Attributes:
        name: of the data set.
        root: folder that holds every image.
        files: label files by split; none for a format that is a whole folder.
        guess: images may as well lie under the parent of `root`: nobody said where they are.
    """

    name: str
    root: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    reading: Reading = Reading()
    guess: bool = False


def split_name(text: str) -> str:
    """The split that a column's value, a file's or a folder's name speaks of, or what it says itself.

    `valid` is val and `Training` train; another word stays as it is; a blank is no split yet.
    """
    word = text.strip()
    return SPLIT_NAMES.get(word.lower(), word)


def split_of_file(path: Path) -> str:
    """The split that a word in the name of a file, or all of its folder's name, says: `instances_val2017.json` is val."""
    words = (*re.split(r"[^a-z]+", path.stem.lower()), path.parent.name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), UNASSIGNED)


def split_above(image: str) -> str:
    """The split that the nearest folder above an image is called after; none when no folder is."""
    names = (split_name(part) for part in reversed(image.split("/")[:-1]))
    return next((name for name in names if name in SPLIT_NAMES.values()), UNASSIGNED)


def describe_source(kind: str, paths: Iterable[Path]) -> dict[str, Any]:
    """The format and, of each annotation file or folder of them, its path and what changes when it does."""
    return {"format": kind, "files": {str(path.resolve()): _state(path) for path in paths}}


def changed(source: dict[str, Any]) -> list[str]:
    """Annotation files and folders that are gone or no longer what they were."""
    return [name for name, state in source.get("files", {}).items() if _state(Path(name)) != state]


def _state(path: Path) -> list[int] | None:
    """Of a file its size in bytes, of a folder the number of its files; and the latest change in nanoseconds. None when gone."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:  # of a link its own time, for what it leads to may be gone
                times = [entry.stat(follow_symlinks=False).st_mtime_ns for entry in entries]
            return [len(times), max(times, default=0)]
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
