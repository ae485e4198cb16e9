"""From whatever a person calls their data, a name, a folder or a label file, to a checked manifest on disk."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from shlex import quote

import numpy as np
import numpy.typing as npt

from sadcl_core.data.checks import ImageChecks, Problem, check_images, without
from sadcl_core.data.compact import compact
from sadcl_core.data.formats import DATASETS
from sadcl_core.data.formats.detect import SPLIT_ORDER, Found, detect, detect_files, reader
from sadcl_core.data.formats.source import UNASSIGNED, Difficult, Reading, Source, changed, describe_source
from sadcl_core.data.formats.text import read_classes
from sadcl_core.data.identify import PREPARED, Named, identify
from sadcl_core.data.manifest import DESCRIPTION, Manifest, is_prepared, load_description, load_with_images
from sadcl_core.data.report import Report, make_report
from sadcl_core.data.shards import is_address, open_shards
from sadcl_core.data.splits import assign_splits, parse_fractions
from sadcl_core.errors import DataError, UsageError
from sadcl_core.files import explained, write_json
from sadcl_core.progress import StagedProgress, stage

REPORT = "report.json"
SPLIT = "0.8,0.1,0.1"  # of data that come without splits
UNFINISHED = re.compile(r"\.images-\d+")  # copies of a preparation that was interrupted
SHOWN = 3  # broken images named in an error


@dataclass(frozen=True)
class Options:
    """How a data set is to be prepared; kept with the manifest, so that it is prepared the same way when its labels change.

    Attributes:
        format: insisted on; found out when empty.
        split: fractions of train, val and test, or one split for all images, for data that come without; see `parse_fractions`.
        seed: of the splits.
        classes: file of class names in their order.
        delimiter: between the labels of one cell of a table; found out when empty.
        difficult: what VOC's difficult objects say: unknown, absent or present.
        resize: short side in pixels of compact copies of the images; 0 for the originals.
        skip_broken: leave images out that cannot be read, instead of raising.
        decode: read the pixels of every image; otherwise only see that the files are there.
    """

    format: str = ""
    split: str = ""
    seed: int = 0
    classes: str = ""
    delimiter: str = ""
    difficult: Difficult = "ignore"
    resize: int = 0
    skip_broken: bool = False
    decode: bool = True


@dataclass(frozen=True)
class Prepared:
    """A stored manifest, what it holds, and the images that cannot be used (which were left out of it)."""

    manifest: Manifest
    report: Report
    problems: tuple[Problem, ...]


def prepare(
    *dataset: str,
    data: Path | None = None,
    output: Path | None = None,
    name: str = "",
    options: Options = Options(),
    progress: StagedProgress | None = None,
) -> Prepared:
    """Read a data set, check its images, divide it unless it is, and store the manifest with a report.

    Args:
        dataset: a row of DATASETS, a folder, a label file, or SPLIT=FILE several times.
        data: the folder its images lie in; see `data_folder` for a known name.
        output: where the manifest goes; `prepared/NAME` unless given.
        name: of the data set; from the folder or file unless given.
        options: how.
        progress: told of images that are checked, then of copies that are written.

    Raises:
        UsageError: `output` holds the manifest of other data, or an option makes no sense.
        DataError: the data are not there or not as the format says, or images are broken.
    """
    named = identify(dataset, data=data, name=name)
    target = output or PREPARED / named.name
    _refuse_other(target, named)
    fractions = parse_fractions(options.split) if options.split else None
    manifest = _read(named, options)
    _refuse_second_split(manifest, options)
    checks = check_images(manifest, decode=options.decode, progress=stage(progress, "checking images"))
    manifest, groups = _without_broken(manifest, checks, named, options)
    manifest, groups = _with_splits(manifest, groups, fractions, options)
    checks.groups = groups
    report = make_report(manifest, checks, left_out=options.skip_broken)
    description = replace(
        manifest.description,
        options={
            "dataset": list(named.given),
            "root": str(named.root.resolve()),
            "data": str(data.resolve()) if data else None,
            **asdict(options),
        },
    )
    manifest = Manifest(description, manifest.rows)
    if options.resize:
        manifest = _compacted(manifest, target, options, progress)
    stored = manifest.save(target)
    write_json(target / REPORT, report.as_json())
    return Prepared(stored, report, tuple(checks.problems))


def find_or_prepare(dataset: str, *, data: Path | None = None, progress: StagedProgress | None = None) -> tuple[Manifest, str]:
    """The manifest of data given by name, folder, label file or prepared folder, prepared now unless that has been done.

    The address of a folder of shards is opened where it is.

    Returns:
        The manifest and a sentence on where it came from.

    Raises:
        UsageError: the name is none and no folder or file either.
        DataError: see `prepare` and `load_with_images`.
    """
    if dataset not in DATASETS and is_prepared(Path(dataset)):
        manifest = load_with_images(Path(dataset), root=data)
        stale = changed(manifest.description.source) if manifest.description.shards is None else []
        anew = f" (older than {stale[0]}: sadcl prepare-data reads it again)" if stale else ""
        return manifest, f"manifest {dataset}{anew}"
    if is_address(dataset):
        return open_shards(dataset, PREPARED)
    named = identify([dataset], data=data)
    folder = PREPARED / named.name
    _refuse_other(folder, named)
    stored = _stored_options(folder)
    if stored is not None and not changed(load_description(folder).source):
        return load_with_images(folder), f"manifest {folder}, prepared before"
    prepared = prepare(dataset, data=data or _stored_data(folder), options=stored or Options(), progress=progress)
    return prepared.manifest, f"manifest {folder}, prepared now from {named.root if dataset in DATASETS else dataset}"


def _stored_options(folder: Path) -> Options | None:
    """The options that a manifest was prepared with; None when there is no such manifest."""
    try:
        stored = load_description(folder).options
    except DataError:
        return None
    return Options(**{field.name: stored[field.name] for field in fields(Options) if field.name in stored})


def _stored_data(folder: Path) -> Path | None:
    try:
        stored = load_description(folder).options.get("data")
    except DataError:
        return None
    return Path(stored) if stored else None


def _read(named: Named, options: Options) -> Manifest:
    """The manifest as the labels have it."""
    if named.given[0] in DATASETS:
        expected = DATASETS[named.given[0]]
        if options.format not in ("", expected):
            raise UsageError(f"{named.given[0]} is in the format {expected}. Leave --format out, or give the path of the labels.")
        found = Found(expected)
    elif UNASSIGNED in named.paths:
        found = detect(named.paths[UNASSIGNED], insisted=options.format)
    else:
        found = detect_files(named.paths, insisted=options.format)
    reading = Reading(
        classes=read_classes(Path(options.classes)) if options.classes else (),
        delimiter=options.delimiter,
        difficult=options.difficult,
    )
    known = named.given[0] if named.given[0] in DATASETS else named.name
    source = Source(name=known, root=named.root, files=found.files, reading=reading, guess=named.guess)
    manifest: Manifest = reader(found.format).read(source)
    notes = (*([] if named.given[0] in DATASETS else [f"read as {found.format}"]), *found.notes, *manifest.description.notes)
    origin = manifest.description.source
    if options.classes:
        origin["files"] |= describe_source(found.format, [Path(options.classes)])["files"]
    manifest.description = replace(manifest.description, name=named.name, notes=notes, source=origin)
    return manifest


def _refuse_second_split(manifest: Manifest, options: Options) -> None:
    """Raise when splits are asked for of data that have them, or only some rows have one."""
    splits = manifest.splits
    if UNASSIGNED in splits and len(splits) > 1:
        raise DataError(
            f"{manifest.description.name}: some images have a split and others have none. Fill in the split of all, or of none."
        )
    if options.split and len(splits) > 1:
        raise UsageError(f"{manifest.description.name} has the splits {', '.join(splits)}, which are kept. Leave --split out.")


def _without_broken(
    manifest: Manifest, checks: ImageChecks, named: Named, options: Options
) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """The manifest and groups of duplicates less the images that cannot be read."""
    problems = checks.problems
    if not problems:
        return manifest, checks.groups
    broken = {problem.image for problem in problems}
    where = manifest.description.root
    if len(broken) == len(set(manifest.rows["image"].to_pylist())):
        hint = " Say with --data DIR which folder holds them." if problems[0].reason.endswith("no such file.") else ""
        raise DataError(
            f"There are labels, but none of the {len(broken):,} images in {where} can be read: {problems[0].reason}{hint}"
        )
    if not options.skip_broken:
        shown = " ".join(problem.reason for problem in problems[:SHOWN])
        more = f" And {len(problems) - SHOWN:,} more." if len(problems) > SHOWN else ""
        raise DataError(
            f"{len(problems):,} of {len(manifest):,} images cannot be read. {shown}{more} Mend them, or go on without them: "
            f"{_command(named)} --skip-broken."
        )
    kept, keep = without(manifest, broken)
    note = f"{len(problems):,} images that could not be read were left out"
    kept.description = replace(kept.description, notes=(*kept.description.notes, note))
    return kept, checks.groups[keep]


def _command(named: Named) -> str:
    """How to prepare the same data, as one types it."""
    return f"sadcl prepare-data {' '.join(map(quote, named.given))} --data {quote(str(named.root))}"


def _with_splits(
    manifest: Manifest, groups: npt.NDArray[np.int64], fractions: dict[str, float] | None, options: Options
) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """Divide data that come without splits, or with one that is to be divided; each split's rows lie together afterwards."""
    if fractions is None and manifest.splits != [UNASSIGNED]:
        return _sorted_by_split(manifest, groups)
    chosen = fractions or parse_fractions(SPLIT)
    divided, order = assign_splits(manifest, chosen, seed=options.seed, groups=groups)
    shown = ", ".join(f"{name} {share:g}" for name, share in chosen.items())
    note = (
        f"divided by iterative stratification: {shown}, seed {options.seed}"
        if len(chosen) > 1
        else f"all images are in split {shown.split()[0]}"
    )
    divided.description = replace(divided.description, notes=(*divided.description.notes, note))
    return divided, groups[order]


def _sorted_by_split(manifest: Manifest, groups: npt.NDArray[np.int64]) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """The same rows with each split's together, train before val before test; a split is then looked at in place."""
    known = [name for name in SPLIT_ORDER if name in manifest.splits]
    number = {name: place for place, name in enumerate(dict.fromkeys([*known, *manifest.splits]))}
    codes = np.array([number[name] for name in manifest.rows["split"].combine_chunks().dictionary.to_pylist()])
    of_row = codes[manifest.rows["split"].combine_chunks().indices.to_numpy()]
    if (np.diff(of_row) >= 0).all():
        return manifest, groups
    order = np.argsort(of_row, kind="stable")
    return Manifest(manifest.description, manifest.rows.take(order)), groups[order]


def _compacted(manifest: Manifest, target: Path, options: Options, progress: StagedProgress | None) -> Manifest:
    """The manifest of compact copies; until all are there they gather in a hidden folder, and the same call goes on there."""
    folder = target / f"images-{options.resize}"
    work = folder if folder.is_dir() else folder.with_name(f".{folder.name}")
    copies = compact(manifest, work, short_side=options.resize, progress=stage(progress, "writing copies"))
    if work != folder:
        with explained(folder):
            work.replace(folder)
    copies.description = replace(copies.description, root=folder.resolve())
    return copies


def _refuse_other(target: Path, named: Named) -> None:
    """Raise when the place of a manifest holds that of other data, or other files."""
    if (target / DESCRIPTION).is_file():
        try:
            stored = load_description(target)
        except DataError:  # damaged, or of another version: nothing to keep
            return
        own = (named.name, list(named.given), str(named.root.resolve()))
        if (stored.name, stored.options.get("dataset"), stored.options.get("root")) != own:
            what = " ".join(named.given)
            raise UsageError(
                f"{target} is the manifest of {stored.name} in {stored.root}, not of {what} in {named.root}. Give this one "
                f"another place: {_command(named)} -o {quote(f'{target}-2')}, and train with {target}-2."
            )
    elif target.is_dir() and any(not UNFINISHED.fullmatch(path.name) for path in target.iterdir()):
        raise UsageError(f"{target} holds other files. Choose another place for the manifest with -o.")
