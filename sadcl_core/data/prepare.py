"""From a data set's name and folder to a checked manifest on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sadcl_core.data.checks import Problem, SplitReport, find_broken, report_splits, without
from sadcl_core.data.formats import BUILT_IN, FORMATS
from sadcl_core.data.formats.source import changed
from sadcl_core.data.manifest import DESCRIPTION, Manifest, load_description, load_with_images
from sadcl_core.errors import DataError, UsageError
from sadcl_core.progress import Progress
from sadcl_core.registry import resolve, suggest

DATA = Path("data")  # where a data set is looked for, by its name, when no folder is given
PREPARED = Path("prepared")  # where manifests are written, by the data set's name, when no folder is given
SHOWN = 3  # broken images named in an error


@dataclass(frozen=True)
class Prepared:
    """A stored manifest, what it holds, and the images that were left out of it."""

    manifest: Manifest
    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]


def prepare(
    name: str,
    *,
    data: Path | None = None,
    output: Path | None = None,
    skip_broken: bool = False,
    decode: bool = True,
    progress: Progress | None = None,
) -> Prepared:
    """Read a data set, check its images and store the manifest.

    Args:
        name: a row of FORMATS.
        data: the folder it lies in; see `data_folder`.
        output: where the manifest goes; `prepared/NAME` unless given.
        skip_broken: leave images out that cannot be read, instead of raising.
        decode: read the pixels of every image; otherwise only see that the files are there.
        progress: called with the images checked and their number.

    Raises:
        UsageError: `output` holds the manifest of another folder.
        DataError: the folder is not there or not as the format says, or images are broken.
    """
    read = resolve(FORMATS, name, kind="data set")
    folder = data_folder(name, data)
    target = output or PREPARED / name
    _refuse_other(target, name, folder)
    manifest: Manifest = read(folder, name)
    problems = tuple(find_broken(manifest, decode=decode, progress=progress))
    if problems:
        images = {problem.image for problem in problems}
        if len(images) == len(set(manifest.rows["image"].to_pylist())):
            raise DataError(f"{folder} has annotations but none of its {len(images):,} images can be read: {problems[0].reason}")
        if not skip_broken:
            shown = " ".join(problem.reason for problem in problems[:SHOWN])
            more = f" And {len(problems) - SHOWN:,} more." if len(problems) > SHOWN else ""
            raise DataError(
                f"{len(problems):,} of {len(manifest):,} images cannot be read. {shown}{more} "
                f"Mend them, or go on without them: sadcl prepare-data {name} --data {folder} --skip-broken."
            )
        manifest = without(manifest, images)
        note = f"{len(problems):,} images that could not be read were left out"
        manifest.description = replace(manifest.description, notes=(*manifest.description.notes, note))
    stored = manifest.save(target)
    return Prepared(stored, tuple(report_splits(stored)), problems)


def find_or_prepare(dataset: str, *, data: Path | None = None, progress: Progress | None = None) -> tuple[Manifest, str]:
    """The manifest of a data set given by name or by its prepared folder, prepared now unless that has been done.

    Returns:
        The manifest and a sentence on where it came from.

    Raises:
        UsageError: the name is none and no folder either.
        DataError: see `prepare` and `load_with_images`.
    """
    folder = Path(dataset)
    if dataset not in FORMATS and not (folder / DESCRIPTION).is_file():
        if folder.is_dir():
            raise UsageError(
                f"{folder} is not a prepared data set (no {DESCRIPTION}). Prepare it: sadcl prepare-data NAME --data {folder}."
            )
        raise UsageError(f"There is no data set {dataset!r}, and no folder of that name. {suggest(dataset, FORMATS)}")
    if dataset not in FORMATS:
        return load_with_images(folder, root=data), f"manifest {folder}"
    folder = PREPARED / dataset
    source = data_folder(dataset, data)
    _refuse_other(folder, dataset, source)
    if _prepared_from(dataset) and not changed(load_description(folder).source):
        return load_with_images(folder), f"manifest {folder}, prepared before"
    prepared = prepare(dataset, data=source, progress=progress)
    return prepared.manifest, f"manifest {folder}, prepared now from {source}"


def data_folder(name: str, data: Path | None) -> Path:
    """Where a data set lies: as given, else where it was prepared from, else `data/NAME`.

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
    try:
        return load_description(PREPARED / name).root
    except DataError:
        return None


def _refuse_other(target: Path, name: str, source: Path) -> None:
    if (target / DESCRIPTION).is_file():
        try:
            stored = load_description(target)
        except DataError:  # damaged, or of another version: nothing to keep
            return
        if (stored.name, stored.root) != (name, source.resolve()):
            raise UsageError(
                f"{target} is the manifest of {stored.name} in {stored.root}, not of {name} in {source}. Give this one "
                f"another place: sadcl prepare-data {name} --data {source} -o {target}-2, and train with {target}-2."
            )
    elif target.is_dir() and any(target.iterdir()):
        raise UsageError(f"{target} holds other files. Choose another place for the manifest with -o.")
