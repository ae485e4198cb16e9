"""From whatever a person calls their data, a name, a folder or a label file, to a checked manifest on disk."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sadcl_core.data.formats import BUILT_IN, DATASETS
from sadcl_core.data.formats.detect import Found, detect, detect_files, reader
from sadcl_core.data.formats.labels import class_lists
from sadcl_core.data.formats.source import UNASSIGNED, Difficult, Reading, Source, changed, describe_source, split_name
from sadcl_core.data.manifest import ROWS, Description, Manifest, is_prepared, load_description, load_with_images
from sadcl_core.data.prepare.assignment import division_of, with_splits
from sadcl_core.data.prepare.checks import ImageChecks, Problem, check_images, without
from sadcl_core.data.prepare.copies import compact
from sadcl_core.data.prepare.dataset_spec import PREPARED, Named, exists, identify
from sadcl_core.data.prepare.report import Report, make_report
from sadcl_core.data.prepare.stratify import parse_fractions
from sadcl_core.data.shards import is_address, open_shards
from sadcl_core.data.tables import read_classes
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runtime.files import explained, write_json
from sadcl_core.runtime.progress import StagedProgress, stage

REPORT = "report.json"
DIVISION = "0.8,0.1,0.1"  # of data that come without splits
WHOLE = "test"  # the split of all images, when such data are only to be evaluated
KEPT = {ROWS, "manifest.parquet"}  # one of these is in every folder of a manifest, the second of earlier versions
OURS = re.compile(r"dataset\.json|manifest\.(arrow|parquet)|report\.(json|png)|export|\.?images-\d+|\..*\.tmp")
UNFINISHED = re.compile(r"\.images-\d+|\..*\.tmp").fullmatch  # of a preparation that was interrupted
ORIGIN = ".origin.json"  # beside copies: of which data they are
SHOWN = 3  # broken images named in an error


@dataclass(frozen=True)
class Options:
    """How a data set is to be prepared; kept with the manifest, so that it is prepared the same way when its labels change.

    Attributes:
        format: insisted on; found out when empty.
        split: fractions of train, val and test, or one split for all images; see `parse_fractions`.
        division: the same, for data that come without splits when `split` says nothing.
        seed: of the splits.
        classes: file of class names in their order.
        delimiter: between the labels of one cell of a table; found out when empty.
        difficult: what VOC's difficult objects say: unknown, absent or present.
        label_column: of a table; found out when empty.
        long: every row of a table is one label of its image.
        resize: short side in pixels of compact copies of the images; 0 for the originals.
        skip_broken: leave images out that cannot be read, instead of raising.
        decode: read the pixels of every image; otherwise only see that the files are there.
    """

    format: str = ""
    split: str = ""
    division: str = DIVISION
    seed: int = 0
    classes: str = ""
    delimiter: str = ""
    difficult: Difficult = "ignore"
    label_column: str = ""
    long: bool = False
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
    if options.split:
        parse_fractions(options.split)  # a mistake in it is said before any long work
    earlier = division_of(target)
    manifest = _read(named, options)
    _refuse_second_split(manifest, options)
    decode = options.decode or bool(options.resize)  # copies are made of what can be read
    checks = check_images(manifest, decode=decode, progress=stage(progress, "checking images"))
    manifest, groups = _without_broken(manifest, checks, named, options)
    fractions = _fractions(manifest, options)
    manifest, groups = with_splits(manifest, groups, fractions, seed=options.seed, earlier=earlier)
    checks.groups = groups
    report = make_report(manifest, checks, left_out=options.skip_broken)
    description = replace(
        manifest.description,
        options={
            "dataset": list(named.given),
            "root": str(named.root.resolve()),
            "data": str(data.resolve()) if data else None,
            "divided": None if fractions is None else {"fractions": fractions, "seed": options.seed},
            **asdict(options),
        },
    )
    manifest = Manifest(description, manifest.rows)
    if options.resize:
        manifest = _compacted(manifest, target, progress)
    stored = manifest.save(target)
    write_json(target / REPORT, report.as_json())
    return Prepared(stored, report, tuple(checks.problems))


class Taken(NamedTuple):
    """A manifest, a sentence on where it came from, and what was found when it was prepared just now."""

    manifest: Manifest
    said: str
    report: Report | None = None


def find_or_prepare(
    dataset: str, *, data: Path | None = None, whole: bool = False, progress: StagedProgress | None = None
) -> Taken:
    """The manifest of data given by name, folder, label file or prepared folder, prepared now unless that has been done.

    The address of a folder of shards is opened where it is.

    Args:
        dataset: as a person says it.
        data: where the images are, if that is said.
        whole: data that come without splits and were not prepared before are not divided: all of them are split test.
        progress: as in `prepare`.

    Raises:
        UsageError: the name is none and no folder or file either.
        DataError: see `prepare` and `load_with_images`.
    """
    if is_address(dataset):
        return Taken(*open_shards(dataset, PREPARED))
    if dataset not in DATASETS:
        folder = Path(dataset) if exists(Path(dataset)) else PREPARED / dataset
        if is_prepared(folder):
            manifest = load_with_images(folder, root=data)
            stale = changed(manifest.description.source) if manifest.description.shards is None else []
            anew = f" (older than {stale[0]}: sadcl prepare-data reads it again)" if stale else ""
            return Taken(manifest, f"manifest {folder}{anew}")
    named = identify([dataset], data=data)
    folder = PREPARED / named.name
    options = Options()
    if whole and not is_prepared(folder):
        folder, options = PREPARED / f"{named.name}@{WHOLE}", Options(division=WHOLE)
    _refuse_other(folder, named)
    stored = _stored(folder)
    if stored is not None:
        options = Options(**{field.name: stored.options[field.name] for field in fields(Options) if field.name in stored.options})
        if data is None and dataset not in DATASETS and stored.options.get("data"):  # a known name is looked for by itself
            data = Path(stored.options["data"])
            named = identify([dataset], data=data)
        same_place = named.guess or stored.options.get("root") == str(named.root.resolve())
        if same_place and not changed(stored.source) and not _more_labels(named, options, stored):
            return Taken(load_with_images(folder), f"manifest {folder}, prepared before")
    prepared = prepare(dataset, data=data, output=folder, options=options, progress=progress)
    where = named.root if dataset in DATASETS else dataset
    return Taken(prepared.manifest, f"manifest {folder}, prepared now from {where}", prepared.report)


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
    if (options.long or options.label_column) and found.format != "csv":
        raise UsageError(
            f"--long and --label-column are for tables, and these labels are read as {found.format}. Leave them out."
        )
    reading = Reading(
        classes=read_classes(Path(options.classes)) if options.classes else (),
        delimiter=options.delimiter,
        difficult=options.difficult,
        label_column=options.label_column,
        long=options.long,
    )
    known = named.given[0] if named.given[0] in DATASETS else named.name
    source = Source(name=known, root=named.root, files=found.files, reading=reading, guess=named.guess)
    manifest: Manifest = reader(found.format).read(source)
    notes = (*([] if named.given[0] in DATASETS else [f"read as {found.format}"]), *found.notes, *manifest.description.notes)
    origin = manifest.description.source
    if options.difficult != Options.difficult:
        notes = (*notes, f"objects marked difficult count as {options.difficult}")
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
            "sadcl prepare-data ... --skip-broken."
        )
    kept, keep = without(manifest, broken)
    note = f"{len(problems):,} images that could not be read were left out"
    kept.description = replace(kept.description, notes=(*kept.description.notes, note))
    return kept, checks.groups[keep]


def _command(named: Named) -> str:
    """How to prepare the same data, as one types it."""
    where = "" if named.guess or named.paths else f" --data {quote(str(named.root))}"
    return f"sadcl prepare-data {' '.join(map(quote, named.given))}{where}"


def _compacted(manifest: Manifest, target: Path, progress: StagedProgress | None) -> Manifest:
    """The manifest of compact copies.

    Until all are there they gather in a hidden folder, where the same call goes on with them, and another one starts anew.
    Those of other images that are there already are kept until then.
    """
    options = manifest.description.options
    folder = target / f"images-{options['resize']}"
    origin = {"dataset": options["dataset"], "root": str(manifest.description.root)}
    work = folder if _read_origin(folder / ORIGIN) == origin else folder.with_name(f".{folder.name}")
    if _read_origin(work / ORIGIN) != origin:
        shutil.rmtree(work, ignore_errors=True)
        write_json(work / ORIGIN, origin)
    copies = compact(manifest, work, short_side=options["resize"], progress=stage(progress, "writing copies"))
    if work != folder:
        with explained(folder):
            shutil.rmtree(folder, ignore_errors=True)
            work.replace(folder)
    copies.description = replace(copies.description, root=folder.resolve())
    return copies


def _read_origin(marker: Path) -> Any:
    try:
        return json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _fractions(manifest: Manifest, options: Options) -> dict[str, float] | None:
    """How data are to be divided; None for data whose own splits are kept."""
    if options.split:
        return {split_name(part): share for part, share in parse_fractions(options.split).items()}
    return parse_fractions(options.division) if manifest.splits == [UNASSIGNED] else None


def _refuse_other(target: Path, named: Named) -> None:
    """Raise when the place of a manifest holds that of other data, or files that are not of a manifest."""
    stored = _stored(target)
    if stored is None:  # none, damaged, or of another version: nothing to keep, if nothing else is there
        names = {path.name for path in target.iterdir()} if target.is_dir() else set()
        strange = any(not OURS.fullmatch(name) for name in names)
        if strange or (names and names.isdisjoint(KEPT) and not all(map(UNFINISHED, names))):
            raise UsageError(f"{target} holds other files. Choose another place for the manifest with -o.")
        return
    same = (stored.name, stored.options.get("dataset")) == (named.name, list(named.given))
    if named.given[0] in DATASETS:  # which data a name stands for depends on where they lie
        old = Path(str(stored.options.get("root")))
        same = same and (old == named.root.resolve() or not old.exists())
    if not same:
        what = " ".join(named.given)
        old_what = " ".join(map(str, stored.options.get("dataset", [stored.name])))
        raise UsageError(
            f"{target} is the manifest of {old_what} in {stored.options.get('root')}, not of {what} in {named.root}. "
            f"Give this one another place: {_command(named)} -o {quote(f'{target}-2')}, and train with {target}-2."
        )


def _stored(folder: Path) -> Description | None:
    """What a manifest says of itself; None when there is no such manifest."""
    try:
        return load_description(folder) if is_prepared(folder) else None
    except DataError:
        return None


def _more_labels(named: Named, options: Options, stored: Description) -> bool:
    """Whether a folder has label files, or a list of classes, that it had not when it was prepared."""
    folder = named.paths.get(UNASSIGNED)
    whole = folder is not None and folder.is_dir()
    if whole and not reader(str(stored.source.get("format"))).SUFFIXES:  # all that is in such a folder is watched
        files: Mapping[str, Path] = {}
    else:
        files = detect(folder, insisted=options.format).files if whole and folder is not None else named.paths
    known = named.given[0] in BUILT_IN  # drawn: its classes are its own
    listed = [] if known else class_lists(Source(name=named.name, root=named.root, files=files))
    return any(str(path.resolve()) not in stored.source["files"] for path in (*files.values(), *listed))
