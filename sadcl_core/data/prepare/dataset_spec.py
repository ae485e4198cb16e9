"""What a person means by the words after a command: the name of a data set, a folder, a label file, or one per split."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sadcl_core.data.formats import BUILT_IN, DATASETS
from sadcl_core.data.formats.source import UNASSIGNED, split_name
from sadcl_core.data.manifest import is_prepared, load_description
from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest

DATA = Path("data")  # where a data set is looked for, by its name, when no folder is given
PREPARED = Path("prepared")  # where manifests are written, by the data set's name, when no folder is given
VAGUE = re.compile(
    r"^_?(annotations?|labels?|metadata|_?classes|data|dataset|train\w*|val\w*|test\w*|instances\w*|result|export)\b", re.I
)


@dataclass(frozen=True)
class Named:
    """What a person called their data, worked out.

    Attributes:
        name: of the data set.
        given: absolute paths, or the name of a known data set: what it is recognised by.
        root: folder of the images.
        paths: the folder or files that were named, by split; none for a known data set.
        guess: nobody said where the images are.
    """

    name: str
    given: tuple[str, ...]
    root: Path
    paths: dict[str, Path]
    guess: bool


def identify(dataset: Sequence[str], *, data: Path | None, name: str = "") -> Named:
    """Work out what a person called their data.

    Raises:
        UsageError: it is neither the name of a data set nor a folder or file.
        DataError: the folder is not there.
    """
    if len(dataset) == 1 and dataset[0] in DATASETS:
        known = dataset[0]
        root = data_folder(known, data)
        return Named(plain_name(name or known), (known,), root, {}, guess=False)
    files = _files_by_split(dataset)
    if data is not None and not data.is_dir():
        raise DataError(f"There is no folder {data}. Check --data.")
    first = next(iter(files.values()))
    root = data or (first if first.is_dir() else _common_folder(list(files.values())))
    given = tuple(f"{split}={path.resolve()}" if split else str(path.resolve()) for split, path in files.items())
    return Named(
        plain_name(name) if name else name_of(list(files.values())), given, root, files, guess=data is None and not first.is_dir()
    )


def name_of(paths: Sequence[Path]) -> str:
    """A data set's name from its folder or file; from the folder of a file that is called labels, train and the like."""
    path = paths[0].absolute()
    words = [path.name] if path.is_dir() else [path.stem, path.parent.name, path.parent.parent.name]
    if len(paths) > 1:
        words = words[1:]
    chosen = next((word for word in words if word and not VAGUE.match(word)), words[0])
    return plain_name(chosen)


def plain_name(text: str) -> str:
    """A text as the name of a folder: no separators, no spaces, not hidden."""
    return re.sub(r"[^\w.-]+", "-", text)[:100].strip("-.") or "data"


def data_folder(name: str, data: Path | None) -> Path:
    """Where a known data set lies: as given, else where it was prepared from, else `data/NAME`.

    Raises:
        DataError: there is no such folder, and the data set is not one that is drawn on the spot.
    """
    folder = data or _prepared_from(name) or DATA / name
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is no folder. Check --data.")
    if name not in BUILT_IN and not folder.is_dir():
        hint = "Check --data." if data else f"Say where it lies with --data DIR, or link it to {DATA / name}."
        raise DataError(f"There is no folder {folder}. {hint}")
    return folder


def _prepared_from(name: str) -> Path | None:
    """Where a known data set was prepared from."""
    try:
        folder = Path(load_description(PREPARED / name).options["root"])
    except (DataError, KeyError, TypeError):
        return None
    return folder if folder.is_dir() else None


def exists(path: Path) -> bool:
    """Whether there is a file or folder; not as far as can be seen, when its folder may not be looked into."""
    return os.path.exists(path)  # noqa: PTH110


def _files_by_split(dataset: Sequence[str]) -> dict[str, Path]:
    """SPLIT=FILE arguments, or the one path."""
    files: dict[str, Path] = {}
    for text in dataset:
        before, equals, after = text.partition("=")
        if equals and not exists(Path(text)):
            split, file = split_name(before), Path(after)
        elif len(dataset) == 1:
            split, file = UNASSIGNED, Path(text)
        else:
            raise UsageError(
                f"{text} does not say which split it is. Give one path, or one file per split: train=a.csv test=b.csv."
            )
        if split in files:
            raise UsageError(f"Split {split} is given twice. Give one file per split.")
        files[split] = file
    for path in files.values():
        if not exists(path) and (len(path.parts) > 1 or path.suffix):
            raise DataError(f"There is no file or folder {path}. Check the path.")
        if not exists(path):
            near = suggest(path.name, DATASETS)
            raise UsageError(f"There is no data set {path.name!r}, and no folder or file of that name. {near}")
        if is_prepared(path):
            raise UsageError(f"{path} is a prepared data set already. Train with it, or give the folder of its labels.")
    return files


def _common_folder(files: Sequence[Path]) -> Path:
    """The deepest folder that holds all files."""
    folder = files[0].parent
    while not all(path.resolve().is_relative_to(folder.resolve()) for path in files):
        folder = folder.resolve().parent
    return folder
