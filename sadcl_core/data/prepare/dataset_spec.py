"""Resolve what a person names as data: a public data set, a folder, a label file, or one label file per split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from sadcl_core.data.formats import BUILT_IN, DATASETS
from sadcl_core.data.formats.detect import LabelFiles, detect, detect_files, reader
from sadcl_core.data.formats.source import UNASSIGNED, Reading, Source, split_name
from sadcl_core.data.manifest import is_prepared, load_description
from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest
from sadcl_core.runtime.files import exists, safe_name

DATA = Path("data")  # where a data set is looked for, by its name, when no folder is given
AS_DETECTED = Reading()
PREPARED = Path("prepared")  # where manifests are written, by the data set's name, when no folder is given
BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}  # formats, whatever the columns are called
VAGUE = re.compile(
    r"^_?(annotations?|labels?|metadata|_?classes|data|dataset|train\w*|val\w*|test\w*|instances\w*|result|export)\b", re.I
)


@dataclass(frozen=True)
class DatasetSpec:
    """The data that a person named.

    Attributes:
        given: absolute paths, or the name of a public data set: what identifies it.
        root: folder of the images.
        paths: the folder or files by split; none for a public data set.
        guess: the folder of the images was not given.
    """

    name: str
    given: tuple[str, ...]
    root: Path
    paths: dict[str, Path]
    guess: bool


def identify(dataset: Sequence[str], *, data: Path | None, name: str = "") -> DatasetSpec:
    """Resolve the words for a data set: a row of DATASETS, a folder, a label file, or SPLIT=FILE several times.

    `data` is the folder of the images, and `name` that of the data set; the words decide on what is not given.

    Raises:
        UsageError: a word is neither the name of a data set nor a folder or file.
        DataError: a folder or file does not exist.
    """
    if len(dataset) == 1 and dataset[0] in DATASETS:
        return DatasetSpec(safe_name(name or dataset[0]), (dataset[0],), _data_folder(dataset[0], data), {}, guess=False)
    files = _files_by_split(dataset)
    if data is not None and not data.is_dir():
        raise DataError(f"{data} {'is not a folder' if data.exists() else 'does not exist'}. Check --data.")
    first = next(iter(files.values()))
    root = data or (first if first.is_dir() else _common_folder(list(files.values())))
    given = tuple(f"{split}={path.resolve()}" if split else str(path.resolve()) for split, path in files.items())
    name = safe_name(name) if name else _name_of(list(files.values()))
    return DatasetSpec(name, given, root, files, guess=data is None and not first.is_dir())


def find_labels(
    spec: DatasetSpec, *, expected: str = "", reading: Reading = AS_DETECTED, unpacked: Path | None = None
) -> tuple[LabelFiles, Source]:
    """Detect the format of a data set's labels, which must be the expected one, unless that is empty.

    Returns:
        The format with its label files, and what its reader is given.

    Raises:
        UsageError: a public data set has another format, or an option does not apply to the format.
        DataError: the format is unknown, or several files may be meant.
    """
    public = spec.given[0] if not spec.paths else ""
    if reading.image_column and not expected and spec.paths:
        formats = {BY_SUFFIX.get(path.suffix.lower(), "") for path in spec.paths.values()}
        expected = formats.pop() if len(formats) == 1 else ""
    if public:
        if expected not in ("", DATASETS[public]):
            raise UsageError(f"{public} is in the format {DATASETS[public]}. Leave --format out, or give the path of the labels.")
        labels = LabelFiles(DATASETS[public])
    elif UNASSIGNED in spec.paths:
        labels = detect(spec.paths[UNASSIGNED], expected=expected)
    else:
        labels = detect_files(spec.paths, expected=expected)
    options = getattr(reader(labels.format), "OPTIONS", ())
    for field in fields(Reading):
        if field.name != "classes" and getattr(reading, field.name) != field.default and field.name not in options:
            option = field.name.replace("_", "-")
            raise UsageError(f"--{option} has no effect on these labels, which are read as {labels.format}. Leave it out.")
    folder = spec.paths.get(UNASSIGNED)
    return labels, Source(
        public or spec.name,
        spec.root,
        labels.files,
        reading=reading,
        guess=spec.guess,
        parts=labels.parts,
        unpacked=unpacked,
        labels=folder if folder is not None and folder.is_dir() else None,
    )


def _name_of(paths: Sequence[Path]) -> str:
    """Return a data set's name: of its folder or file, or of the folder of a file that is called labels, train and the like."""
    path = paths[0].absolute()
    words = [path.name] if path.is_dir() else [path.stem, path.parent.name, path.parent.parent.name]
    if len(paths) > 1:
        words = words[1:]
    return safe_name(next((word for word in words if word and not VAGUE.match(word)), words[0]))


def _data_folder(name: str, data: Path | None) -> Path:
    """Return the folder of a public data set: as given, else where it was prepared from, else `data/NAME`."""
    folder = data or _prepared_from(name) or DATA / name
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Check --data.")
    if name not in BUILT_IN and not folder.is_dir():
        from sadcl_core.data.prepare.download import ARCHIVES

        fetch = f"Fetch it: sadcl prepare-data {name} --download. Or say" if name in ARCHIVES else "Say"
        hint = "Check --data." if data else f"{fetch} where it lies with --data DIR, or link it to {DATA / name}."
        raise DataError(f"{folder} does not exist. {hint}")
    return folder


def _prepared_from(name: str) -> Path | None:
    """Return the folder that a public data set was prepared from, if it still exists."""
    try:
        folder = Path(load_description(PREPARED / name).options["root"])
    except (DataError, KeyError, TypeError):
        return None
    return folder if folder.is_dir() else None


def _files_by_split(dataset: Sequence[str]) -> dict[str, Path]:
    """Return the files of SPLIT=FILE arguments by split, or the one path."""
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
            raise DataError(f"{path} does not exist. Check the path.")
        if not exists(path):
            near = suggest(path.name, DATASETS)
            raise UsageError(f"There is no data set {path.name!r}, and no folder or file of that name. {near}")
        if is_prepared(path):
            raise UsageError(f"{path} is a prepared data set already. Train with it, or give the folder of its labels.")
    return files


def _common_folder(files: Sequence[Path]) -> Path:
    """Return the deepest folder that holds all files."""
    folder = files[0].parent
    while not all(path.resolve().is_relative_to(folder.resolve()) for path in files):
        folder = folder.resolve().parent
    return folder
