"""From a person's words for their data, a name, a folder or label files, to a checked manifest on disk."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sadcl_core.data.formats import BUILT_IN, DATASETS
from sadcl_core.data.formats.detect import detect, reader
from sadcl_core.data.formats.labels import class_lists
from sadcl_core.data.formats.locate import Images
from sadcl_core.data.formats.source import UNASSIGNED, Difficult, Reading, Source, changed, describe_source, split_name
from sadcl_core.data.formats.unpack import UNPACKED
from sadcl_core.data.manifest import Description, Manifest, is_prepared, load_with_images
from sadcl_core.data.prepare.assignment import division_of, with_splits
from sadcl_core.data.prepare.checks import ImageChecks, Problem, check_images
from sadcl_core.data.prepare.class_groups import write_class_groups
from sadcl_core.data.prepare.command import prepare_command
from sadcl_core.data.prepare.copies import ORIGIN, compact
from sadcl_core.data.prepare.dataset_spec import DATA, PREPARED, DatasetSpec, find_labels, identify
from sadcl_core.data.prepare.export import check_exports, write_labels
from sadcl_core.data.prepare.groups import groups_across, likely_column, numbered, take_groups, together
from sadcl_core.data.prepare.reading_options import Options, ReadingOptions, are_names, class_names, names_or_file
from sadcl_core.data.prepare.report import Report, make_report
from sadcl_core.data.prepare.same_data import given_before, refuse_other
from sadcl_core.data.prepare.shape import parse_merges, shape_classes, take_part
from sadcl_core.data.prepare.split_lists import with_listed_splits
from sadcl_core.data.prepare.stratify import parse_fractions
from sadcl_core.data.shards import is_address, open_shards, refuse_used, require_webdataset, write_shards
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runtime.files import exists, explained, write_json
from sadcl_core.runtime.progress import StagedProgress, stage
from sadcl_core.runtime.words import counted

REPORT = "report.json"
WHOLE = "test"  # the split of all images, when such data are only to be evaluated
SHOWN = 3  # broken images named in an error
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")


@dataclass(frozen=True)
class Prepared:
    """A stored manifest and its report.

    Attributes:
        manifest: of the images that can be used, stored in `manifest.folder`.
        problems: images that cannot be read and were left out.
        files: written beside the manifest: the report, label files and the folder of shards.
        class_groups: where each group of classes is stored, and its classes.
    """

    manifest: Manifest
    report: Report
    problems: tuple[Problem, ...]
    files: tuple[Path, ...]
    class_groups: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class DataOrigin:
    """A manifest, and where it came from.

    Attributes:
        manifest: stored in `manifest.folder`.
        kind: a prepared folder that was named, shards at an address, or data that were prepared before or just now.
        source: the data that were prepared just now, or before in other words; empty otherwise.
        newer: a label file that changed after the prepared folder was made; empty when none did.
        report: of data that were prepared just now.
    """

    manifest: Manifest
    kind: Literal["folder", "shards", "before", "now"]
    source: str = ""
    newer: str = ""
    report: Report | None = None


def prepare(
    source: str | Path | Sequence[str | Path],
    *,
    data: str | Path | None = None,
    output: str | Path | None = None,
    name: str = "",
    format: str = "",  # noqa: A002
    split: str = "",
    seed: int = 0,
    classes: str | Path | None = None,
    delimiter: str = "",
    label_column: str = "",
    long: bool = False,
    present: str = "",
    absent: str = "",
    unknown: str = "",
    threshold: float | None = None,
    image_column: str = "",
    split_column: str = "",
    difficult: Difficult = "ignore",
    encoding: str = "",
    decimal: Literal[".", ","] = ".",
    group_by: str = "",
    merge: Sequence[str] = (),
    drop: Sequence[str] = (),
    keep: str | Path | None = None,
    min_positives: int = 0,
    limit: int = 0,
    class_groups: int = 0,
    resize: int = 0,
    export: Sequence[str] = (),
    shards: str | Path | None = None,
    download: bool = False,
    skip_broken: bool = False,
    fast: bool = False,
    progress: StagedProgress | None = None,
) -> Prepared:
    r"""Read a data set, check its images, divide it unless it has splits, and store the manifest with a report.

    Nothing of the data set itself is moved or changed.

    Args:
        source: a row of DATASETS, a folder, a label file, or several texts SPLIT=FILE.
        data: folder of the images; `data/NAME` for a known name, the folder of the labels otherwise.
        output: folder of the manifest; `prepared/NAME` unless given.
        name: of the data set; taken from the folder or file unless given.
        format: of the labels, a row of FORMATS; detected when empty.
        split: fractions of train, val and test ("0.8,0.1,0.1"), or one name for all images; splits of their own that the data
            have are kept when empty.
        seed: of the division into splits.
        classes: file of class names in their order, one per line, or the names with commas between them ("cat,dog").
        delimiter: between the labels of one cell of a table, or of a caption; detected when empty; "none" if a cell is one label.
        label_column: of a table; detected when empty.
        long: every row of a table is one label of its image.
        present: values of columns of classes that mean present ("x", "positive"); 1, yes and true when empty.
        absent: values of columns of classes that mean absent ("-1", "0,blank"); detected when empty.
        unknown: values of columns of classes that mean unknown; detected when empty.
        threshold: fractions in columns of classes from here on are present, those below absent; None to refuse them.
        image_column: of a table; detected when empty.
        split_column: of a table; detected when empty; "none" if there is none.
        difficult: what VOC's difficult objects count as: unknown, absent or present.
        encoding: of label files that are not UTF-8, such as cp1252.
        decimal: mark of the numbers in tables: a point, or a comma.
        group_by: column of a table whose values stay in one split, such as that of patients, or a regular expression whose
            parentheses capture them in the path of an image ("(patient\d+)").
        merge: classes that become one ("vehicle=car,bus").
        drop: classes to leave out.
        keep: file of class names that stay, one per line, or the names with commas between them; all unless given.
        min_positives: leave out classes with fewer images, in split train if there is one.
        limit: of images; a part of each split in which every class keeps its share. 0 for all.
        class_groups: N, to also store the images with N groups of classes that occur together, and with N of classes that
            rarely do, for a teacher of each (CPSD); 0 for none.
        resize: short side in pixels of compact copies of the images, which are used instead of them; 0 for none.
        export: label files that are written as well: rows of EXPORTS.
        shards: folder of WebDataset shards that are written as well.
        download: fetch the data set first, into `data` or `data/NAME`.
        skip_broken: leave out images that cannot be read, instead of raising.
        fast: check that the images exist, but do not decode them.
        progress: called with the name of the stage, how much is done and how much there is.

    Returns:
        The stored manifest, its report, the images left out and the files written.

    Raises:
        UsageError: `output` holds the manifest of other data, or an argument makes no sense.
        DataError: the data are missing or not as the format says, or images are broken.
        MachineError: the disk is full, the network or an optional package is missing.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp()) / "pets"
        >>> folder.mkdir()
        >>> for k in range(10):
        ...     Image.new("RGB", (8, 8), (20 * k, 0, 0)).save(folder / f"{k}.png")
        >>> rows = [f"{k}.png,{'cat' if k % 2 else 'dog'}" for k in range(10)]
        >>> _ = (folder / "labels.csv").write_text("\n".join(["image,labels", *rows]))
        >>> prepared = prepare(folder, output=folder.parent / "prepared")
        >>> prepared.manifest.classes, prepared.manifest.split_sizes
        (('cat', 'dog'), {'train': 8, 'val': 1, 'test': 1})
    """
    dataset = [str(source)] if isinstance(source, (str, Path)) else [str(entry) for entry in source]
    data, output, shards = (None if path is None else Path(path) for path in (data, output, shards))
    check_exports(export)
    if shards is not None:
        require_webdataset()  # before any long work
        refuse_used(shards)
    if download:
        from sadcl_core.data.prepare import download as downloads

        downloads.download(dataset[0], data or DATA / dataset[0], progress=progress)
    options = Options(
        format=format,
        split=split,
        seed=seed,
        classes=names_or_file(classes),
        delimiter=delimiter,
        difficult=difficult,
        label_column=label_column,
        long=long,
        present=present,
        absent=absent,
        unknown=unknown,
        threshold=threshold,
        image_column=image_column,
        split_column=split_column,
        encoding=encoding,
        decimal=decimal,
        group_by=group_by,
        merge=tuple(merge),
        drop=tuple(drop),
        keep=names_or_file(keep),
        min_positives=min_positives,
        limit=limit,
        resize=resize,
        skip_broken=skip_broken,
        decode=not fast,
    )
    spec = identify(dataset, data=data, name=name)
    prepared = _prepare(spec, output or PREPARED / spec.name, data, options, progress)
    manifest, files = prepared.manifest, [*prepared.files]
    groups: dict[Path, tuple[str, ...]] = {}
    if class_groups:
        folder = files[0].parent / f"class-groups-{class_groups}"
        groups = write_class_groups(manifest, class_groups, folder, seed=seed)
        files.append(folder)
    for form in export:
        files += write_labels(manifest, form, files[0].parent / "export" / form)
    if shards is not None:
        files.append(write_shards(manifest, shards, progress=stage(progress, "writing shards")))
    return replace(prepared, files=tuple(files), class_groups=groups)


def find_or_prepare(
    dataset: str,
    *,
    data: Path | None = None,
    whole: bool = False,
    like: Description | None = None,
    progress: StagedProgress | None = None,
) -> DataOrigin:
    """Return the manifest of data given by name, folder, label file or prepared folder; prepare them unless that was done.

    Shards at an address are opened where they are. Data whose labels changed since they were prepared are prepared again, in
    the same way.

    Args:
        dataset: as a person names it.
        data: folder of the images, if it is given.
        whole: do not divide data that come without splits and were not prepared before: all of them are split test.
        like: other data; labels of their format that were not prepared before are read with the options that these were read
            with, and their classes merged likewise.
        progress: as in `prepare`.

    Raises:
        UsageError: there is no data set, folder or file of this name.
        DataError: see `prepare` and `load_with_images`.
    """
    if is_address(dataset):
        return DataOrigin(open_shards(dataset, PREPARED), "shards")
    if dataset not in DATASETS:
        folder = Path(dataset) if exists(Path(dataset)) else PREPARED / dataset
        if is_prepared(folder):
            manifest = load_with_images(folder, root=data)
            newer = changed(manifest.description.source) if manifest.description.shards is None else []
            return DataOrigin(manifest, "folder", newer=newer[0] if newer else "")
    spec = identify([dataset], data=data)
    folder = PREPARED / spec.name
    ways = [Options()]
    if whole and not is_prepared(folder):
        folder, ways = PREPARED / f"{spec.name}@{WHOLE}", [*_options_like(like, spec), Options(division=WHOLE)]
    stored = refuse_other(folder, spec)
    source = str(spec.root) if dataset in DATASETS else dataset
    if stored is not None:
        options = Options.stored(stored.options)
        ways = [options]
        before = given_before(stored, folder)
        if list(spec.given) != before:  # the same data in other words: they are taken as they were prepared
            source = " ".join(before)
        if data is None and before[0] not in DATASETS and stored.options.get("data"):  # a known name is looked for by itself
            data = Path(stored.options["data"])
        spec = identify(before, data=spec.root if before[0] in DATASETS else data)
        same_root = spec.guess or stored.options.get("root") == str(spec.root.resolve())
        if same_root and not changed(stored.source) and not _more_labels(spec, options, stored):
            return DataOrigin(load_with_images(folder), "before", "" if source == dataset else source)
    try:
        prepared = _prepare_in_one_way(spec, folder, data, ways, progress)
    except DataError as error:
        raise DataError(f"{error}{_hint(str(error), dataset)}") from None
    return DataOrigin(prepared.manifest, "now", source, report=prepared.report)


def _options_like(like: Description | None, spec: DatasetSpec) -> list[Options]:
    """Return the options of data that are not divided, read and merged as other data of the same format; none without such."""
    if like is None:
        return []
    reading = ReadingOptions.stored(like.options)
    with reading.texts(), suppress(DataError, UsageError):  # which the labels themselves will say; or options of another format
        labels, _ = find_labels(spec, reading=reading.reading())
        if labels.format == like.source.get("format"):
            return [Options(division=WHOLE, merge=tuple(like.options.get("merge", ())), **reading.changed())]
    return []


def _prepare_in_one_way(
    spec: DatasetSpec, target: Path, data: Path | None, ways: Sequence[Options], progress: StagedProgress | None
) -> Prepared:
    """Prepare a data set with the first options that all have an effect on it."""
    for options in ways[:-1]:
        with suppress(UsageError):
            return _prepare(spec, target, data, options, progress)
    return _prepare(spec, target, data, ways[-1], progress)


def _hint(message: str, dataset: str) -> str:
    """Return where to give an option of reading that a message names, for commands other than `prepare-data`."""
    options = {f"--{field.name.replace('_', '-')}" for field in fields(Reading)}
    named = options.intersection(re.findall(r"--[a-z-]+", message))
    return f" Give it to: sadcl prepare-data {quote(dataset)}." if named else ""


def _prepare(spec: DatasetSpec, target: Path, data: Path | None, options: Options, progress: StagedProgress | None) -> Prepared:
    """Prepare a data set into a folder; see `prepare`."""
    refuse_other(target, spec)
    if options.split:
        parse_fractions(options.split)  # a mistake in it is found before any long work
    earlier = division_of(target)
    merges = parse_merges(options.merge)
    with options.texts():
        manifest = _read(spec, options, target)
        if merges or options.drop or options.keep:
            manifest = shape_classes(manifest, merge=merges, drop=options.drop, keep=class_names(options.keep))
    if options.limit:
        manifest = take_part(manifest, options.limit, seed=options.seed)
    fractions = _fractions(manifest, options)
    decode = options.decode or bool(options.resize)  # copies are made of images that can be read
    checks = check_images(manifest, decode=decode, progress=stage(progress, "checking images"))
    command = prepare_command(spec.given, replace(options, skip_broken=True), spec.name, target, data=data)
    manifest, groups = _without_broken(manifest, checks, "" if options.skip_broken else command)
    manifest, named = take_groups(manifest, options.group_by)
    units = together(groups, numbered(named)) if options.group_by else groups
    group_of = dict(zip(manifest.rows["image"].to_pylist(), named, strict=True))
    divided = None if fractions is None else {"fractions": fractions, "seed": options.seed}
    if divided is not None and options.group_by:
        divided["group_by"] = options.group_by
    manifest, checks.groups = with_splits(
        manifest, groups, fractions, seed=options.seed, earlier=earlier, units=units, how=divided
    )
    if options.min_positives:  # of the images that are trained on, which are known only now
        manifest = shape_classes(manifest, merge={}, min_positives=options.min_positives)
    placed, splits = [group_of[image] for image in manifest.rows["image"].to_pylist()], manifest.rows["split"].to_pylist()
    likely = "" if options.group_by else likely_column(manifest)
    report = make_report(
        manifest, checks, left_out=options.skip_broken, across=groups_across(placed, splits), likely_groups=likely
    )
    description = replace(
        manifest.description,
        options={
            "dataset": list(spec.given),
            "root": str(spec.root.resolve()),
            "data": str(data.resolve()) if data else None,
            "divided": divided,
            **asdict(options),
        },
    )
    manifest = Manifest(description, manifest.rows)
    if options.resize:
        manifest = _compacted(manifest, target, progress)
    stored = manifest.save(target)
    write_json(target / REPORT, report.as_json())
    return Prepared(stored, report, tuple(checks.problems), (target / REPORT,))


def _read(spec: DatasetSpec, options: Options, target: Path) -> Manifest:
    """Return the manifest as the labels have it."""
    labels, source = find_labels(spec, expected=options.format, reading=options.reading(), unpacked=target.resolve() / UNPACKED)
    manifest: Manifest = reader(labels.format).read(source)
    notes = [*([f"read as {labels.format}"] if spec.paths else []), *labels.notes, *manifest.description.notes]
    if options.difficult != Options.difficult:
        notes.append(f"objects marked difficult count as {options.difficult}")
    origin = manifest.description.source
    lists = [Path(names) for names in (options.classes, options.keep) if not are_names(names)]
    origin["files"] |= describe_source(labels.format, lists)["files"]
    manifest.description = replace(manifest.description, name=spec.name, notes=tuple(notes), source=origin)
    folders = [*(path.parent for path in labels.files.values()), source.root]
    return with_listed_splits(manifest, folders, divide=bool(options.split)) if spec.paths else manifest


def _fractions(manifest: Manifest, options: Options) -> dict[str, float] | None:
    """Return how data are divided; None for data whose own splits are kept."""
    splits = manifest.splits
    if options.split:
        return {split_name(part): share for part, share in parse_fractions(options.split).items()}
    if UNASSIGNED in splits and len(splits) > 1:
        raise DataError(
            f"{manifest.description.name}: some images have a split and others have none. Fill in the split of all, or of "
            "none, or divide all again with --split 0.8,0.1,0.1."
        )
    return parse_fractions(options.division) if splits == [UNASSIGNED] else None


def _without_broken(manifest: Manifest, checks: ImageChecks, command: str) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """Return the manifest and the groups of duplicates without the images that cannot be read.

    Raises:
        DataError: none can be read, or some cannot and a command is given that goes on without them.
    """
    problems = checks.problems
    if not problems:
        return manifest, checks.groups
    broken = {problem.image for problem in problems}
    images = manifest.rows["image"].to_pylist()
    if len(broken) == len(set(images)):
        hint = " Say with --data DIR which folder holds them." if problems[0].missing else ""
        raise DataError(
            f"There are labels, but none of the {len(broken):,} images in {manifest.description.root} can be read: "
            f"{problems[0].reason}{_nearest(manifest, problems)}{hint}"
        )
    if command:
        shown = " ".join(problem.reason for problem in problems[:SHOWN])
        more = f" And {len(problems) - SHOWN:,} more." if len(problems) > SHOWN else ""
        raise DataError(
            f"{len(problems):,} of {len(manifest):,} images cannot be read. {shown}{more}{_nearest(manifest, problems)} Mend "
            f"them, or go on without them: {command}"
        )
    keep = np.array([image not in broken for image in images], dtype=bool)
    note = f"left out {counted(len(problems), 'image')} that could not be read"
    return Manifest(manifest.description.with_notes(note), manifest.rows.filter(pa.array(keep))), checks.groups[keep]


def _nearest(manifest: Manifest, problems: Sequence[Problem]) -> str:
    """Say how many images are missing, where they were looked for, and which names come nearest; blank if none are missing."""
    missing = [problem.image for problem in problems if problem.missing]
    root = manifest.description.root
    if not missing or root == Path(root.anchor):
        return ""
    images = Images(root)
    near = {image: images.nearest(image) for image in missing[:SHOWN]}
    pairs = ", ".join(f"{image} is like {match}" for image, match in near.items() if match)
    if images.paths:
        where = f"where {pairs}." if pairs else f"where no name is like theirs, but {images.paths[0]} is there."
    else:
        archive = next((path.name for path in sorted(root.glob("*")) if path.suffix.lower() in ARCHIVES), "")
        where = f"which hold no image. Unpack {archive} first." if archive else "which hold no image."
    return f" Missing: {len(missing):,}, looked for by name in {root} and all folders below it, {where}"


def _compacted(manifest: Manifest, target: Path, progress: StagedProgress | None) -> Manifest:
    """Return the manifest of compact copies.

    The copies gather in a hidden folder until all are there. A call for the same data goes on with them, another one starts
    again. Finished copies of other images are kept until then.
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


def _more_labels(spec: DatasetSpec, options: Options, stored: Description) -> bool:
    """Return True if there are label files, or a list of classes, that were not there when the data were prepared."""
    folder = spec.paths.get(UNASSIGNED)
    files: Mapping[str, Path] = spec.paths
    if folder is not None and folder.is_dir():  # of a format that is a whole folder, every folder in it is watched
        whole = not reader(str(stored.source.get("format"))).SUFFIXES
        with options.texts():
            files = {} if whole else detect(folder, expected=options.format).files
    drawn = spec.given[0] in BUILT_IN  # its classes are fixed
    lists = [] if drawn else class_lists(Source(name=spec.name, root=spec.root, files=files))
    return any(str(path.resolve()) not in stored.source["files"] for path in (*files.values(), *lists))
