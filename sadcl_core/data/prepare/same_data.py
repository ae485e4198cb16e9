"""Compare the data that a person names with the manifest in a folder: the same data have several names."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from shlex import quote

from sadcl_core.data.formats import BUILT_IN, DATASETS
from sadcl_core.data.formats.detect import reader
from sadcl_core.data.manifest import ROWS, Description, is_prepared, load_description, moved_along
from sadcl_core.data.prepare.dataset_spec import DatasetSpec, find_labels, identify
from sadcl_core.data.prepare.reading_options import ReadingOptions
from sadcl_core.errors import DataError, UsageError

MANIFESTS = {ROWS, "manifest.parquet"}  # one of these is in every folder of a manifest, the second of earlier versions
OURS = re.compile(
    r"dataset\.json|manifest\.(arrow|parquet)|report\.(json|png)|export|unpacked|class-groups-\d+|\.?images-\d+|\..*\.tmp"
)
UNFINISHED = re.compile(r"unpacked|\.images-\d+|\..*\.tmp").fullmatch  # of a preparation that was interrupted


def given_before(stored: Description, folder: Path) -> list[str]:
    """Return the words that a manifest was prepared from; paths that moved together with its folder are where they are now."""
    words = []
    for text in map(str, stored.options.get("dataset", ())):
        split, equals, path = ("", "", text) if text.startswith("/") else text.rpartition("=")
        along = moved_along(Path(path), stored.home, folder) if path.startswith("/") else Path(path)
        words.append(f"{split}{equals}{along if along.exists() else path}")
    return words


def refuse_other(folder: Path, spec: DatasetSpec) -> Description | None:
    """Return the description of the manifest in a folder, which must be of the same data; None without a manifest.

    Data that are named in other words are the same if they have the same label files, or the same folder in a format that is a
    whole folder.

    Raises:
        UsageError: it is of other data, or the folder holds files that are not of a manifest.
    """
    stored = None
    with suppress(DataError):
        stored = load_description(folder) if is_prepared(folder) else None
    if stored is None:  # none, damaged, or of another version: nothing to keep, if nothing else is there
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        foreign = any(not OURS.fullmatch(name) for name in names)
        if foreign or (names and names.isdisjoint(MANIFESTS) and not all(map(UNFINISHED, names))):
            raise UsageError(f"{folder} holds other files. Choose another place for the manifest with -o.")
        return None
    before = given_before(stored, folder)
    same = stored.name == spec.name
    if list(spec.given) != before:
        same = same and bool(before) and _same_labels(spec, before, stored)
    elif spec.given[0] in DATASETS:  # which data a name stands for depends on where they lie
        old = Path(str(stored.options.get("root")))
        same = same and (old == spec.root.resolve() or not old.exists())
    if not same:
        where = "" if spec.guess or spec.paths else f" --data {quote(str(spec.root))}"
        command = f"sadcl prepare-data {' '.join(map(quote, spec.given))}{where} -o {quote(f'{folder}-2')}"
        raise UsageError(
            f"{folder} is the manifest of {' '.join(before) or stored.name} in {stored.options.get('root')}, not of "
            f"{' '.join(spec.given)} in {spec.root}. Train with {folder} as it is, or give this one another place: {command}, "
            f"and train with {folder}-2."
        )
    return stored


def _same_labels(spec: DatasetSpec, before: list[str], stored: Description) -> bool:
    """Return True if a person names the label files that a manifest was prepared from, or the folder in which they lie."""
    options = ReadingOptions.stored(stored.options)
    if BUILT_IN.keys() & {spec.given[0], before[0]}:
        return False
    with options.texts(), suppress(DataError, UsageError):
        root = Path(str(stored.options.get("root"))) if before[0] in DATASETS else None
        old = identify(before, data=root)
        prepared = _labels_of(old, options, str(stored.options.get("format", "")))
        try:
            return _labels_of(spec, options, "") == prepared
        except (DataError, UsageError):  # of several tables in a folder one was prepared
            folder = next(iter(spec.paths.values())).resolve() if spec.paths else spec.root.resolve()
            return all(path.resolve().is_relative_to(folder) for path in old.paths.values()) and bool(old.paths)
    return False


def _labels_of(spec: DatasetSpec, options: ReadingOptions, expected: str) -> tuple[str, frozenset[Path]]:
    """Return the format and the label files of a data set; its folder, where the format is one."""
    labels, _ = find_labels(spec, expected=expected, reading=options.reading())
    files = [*labels.files.values(), *(path for _, path in labels.parts)]
    if not reader(labels.format).SUFFIXES or not files:
        first = next(iter(spec.paths.values()), spec.root)
        files = [first if first.is_dir() else first.parent]
    return labels.format, frozenset(path.resolve() for path in files)
