"""Detect the format of the labels in a folder, or in a file, and which files hold them."""

from __future__ import annotations

import json
import os
import re
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from sadcl_core.data.formats import BUILT_IN, FORMATS
from sadcl_core.data.formats.annotation_files import first_files
from sadcl_core.data.formats.beside import kind_beside
from sadcl_core.data.formats.labels import CLASS_LIST
from sadcl_core.data.formats.matlab import matlab_names
from sadcl_core.data.formats.source import SPLIT_NAMES, UNASSIGNED, split_name, split_of_file
from sadcl_core.data.formats.walk import folders_in, images_under
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.tables import looks_like_image, mentions, read_json, read_lines, readable
from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest

BESIDE = ("annotations", "annotation", "labels", "data", "anno")  # folders of label files, beside those called after a split
PARTS = (*BESIDE, "images", "img", "imagelist", "groundtruth", "imagesets")  # folders that are a part of a data set
MANY = 50  # files of one kind in a folder that are not label files, but lie beside images
SPLIT_ORDER = ("train", "val", "test")
LINES = (".jsonl", ".ndjson")
TABLES = (*LINES, ".json", ".csv", ".tsv", ".parquet")
LOOKED_AT = 1000  # files and images in the folders below one without labels
LIKELY = (*TABLES, ".txt", ".xml", ".yaml", ".yml", ".mat", ".npy")  # suffixes of labels
PROSE = re.compile(r"(readme|license|licence)", re.IGNORECASE)
FOLDERS = 50  # below one without labels that are looked at
SHOWN = 3  # files or folders that are named
FEW = 5  # lines or keys of a file
LFS = b"version https://git-lfs"
# kinds of files that are not read, by suffix and by the words in them
BY_SUFFIX = {
    (".xlsx", ".xls", ".ods"): "is a spreadsheet. Save it as CSV",
    (".zip", ".7z", ".rar", ".zst"): "is an archive. Unpack it, and name the folder",
    (".arrow",): "is a data set as the Hugging Face library saves it to disk. Write it as Parquet: Dataset.to_parquet",
    (".tfrecord", ".tfrecords", ".tfrec"): (
        "is TensorFlow's, which is not read. Write the images as files, or as WebDataset shards"
    ),
    (".h5", ".hdf5", ".mdb", ".pkl", ".pickle", ".npz", ".rec", ".beton"): (
        "holds arrays or objects of a program, which are not read. Write the images as files, and their labels as a table"
    ),
}
BY_WORDS = {
    ("images", "annotations", "caption"): "holds captions and no categories. Give COCO's instances JSON",
    ("data_row", "projects"): "is Labelbox's export, which is not read. Export it as COCO, or write a table",
    ("item", "slots", "annotations"): "is V7 Darwin's JSON, which is not read. Export it as COCO",
    ("shapes", "imagePath"): "is the annotation of one image. Name the folder of all",
    ("tags", "objects", "size"): "is the annotation of one image. Name the folder of all",
}
HEAD = 20  # lines of a file in an unknown format that are looked at
# what readers raise on files that are in another format, or damaged
UNREADABLE = (DataError, OSError, EOFError, ValueError, RecursionError, zlib.error, tarfile.TarError, pa.ArrowException)
OF_IMAGES = ("labelimg", "labelme", "supervisely", "yolo")  # a file for each image, beside which another program's may lie
BELOW = "/"  # in place of an extension, of the folders in one
Places = list[tuple[Path, defaultdict[str, list[str]]]]  # folders, and what is in each; see `_listed`


@dataclass(frozen=True)
class LabelFiles:
    """A format and its label files.

    Attributes:
        format: a row of FORMATS.
        files: by split; none for a format that is a whole folder.
        notes: on files that were passed over.
        parts: split and file, where several files belong to one split.
    """

    format: str
    files: dict[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    parts: tuple[tuple[str, Path], ...] = ()


def reader(name: str) -> Any:
    """Return the module of a format.

    Raises:
        UsageError: no format has this name.
    """
    module = {**FORMATS, **BUILT_IN}.get(name)
    if module is None:
        raise UsageError(f"There is no format called {name!r}. {suggest(name, FORMATS)}")
    return import_module(module)


def detect(path: Path, *, expected: str = "") -> LabelFiles:
    """Detect the format of a folder or label file, which must be the expected one, unless that is empty.

    Raises:
        UsageError: no format has the expected name.
        DataError: the format is unknown or another one, or several files may be meant.
    """
    readers = {name: reader(name) for name in ([expected] if expected else FORMATS)}
    if path.is_dir():
        with readable(path, "a folder"):
            places = _places(path)
            matches = [*_in_folder(path, places, readers)]
            files = matches[0].files if matches else {}
            for other in _candidates(places, TABLES) if files or not (matches or expected) else ():
                passed_over = not files or split_of_file(other, path) not in (UNASSIGNED, *files)
                if passed_over and not kind_beside(other):
                    _explain(other)
    else:
        matches = [LabelFiles(name, {split_of_file(path): path}) for name, module in readers.items() if _accepts(module, path)]
    if not matches:
        return _insist(path, expected, readers)
    first, *others = matches if path.is_dir() else matches[:1]  # a file is in the format that says the most of it
    notes = [*first.notes, *(_notes_on_others(path, places, first) if path.is_dir() else ())]
    if others:
        names = [f"{other.format} ({', '.join(p.name for p in other.files.values()) or 'the folder'})" for other in others]
        notes.append(f"read as {first.format}; also there, and not read: {', '.join(names)}. --format says otherwise")
    single = list(first.files) == ["train"]  # called train because there is no other: what it holds is not divided yet
    return LabelFiles(first.format, {UNASSIGNED: first.files["train"]} if single else first.files, tuple(notes), first.parts)


def detect_files(files: Mapping[str, Path], *, expected: str = "") -> LabelFiles:
    """Detect the format of label files given one per split.

    Raises:
        DataError: they are of several formats, or one is a folder.
    """
    formats = {detect(path, expected=expected).format for path in files.values()}
    folder = next((path for path in files.values() if path.is_dir()), None)
    if folder is not None:
        raise DataError(f"{folder} is a folder. Give one label file per split: train=a.csv test=b.csv.")
    if len(formats) > 1:
        raise DataError(f"The label files are of several formats: {', '.join(sorted(formats))}. Give files of one format.")
    return LabelFiles(formats.pop(), dict(files))


def _in_folder(folder: Path, places: Places, readers: Mapping[str, Any]) -> Iterator[LabelFiles]:
    """Yield every format of a folder; a format that is a whole folder only if no label files were found before."""
    matched: set[Path] = set()
    whole = False  # the folder is in a format that has a file for each image
    about_images: dict[str, list[Path]] = {}  # files that may be about an image each, by suffix
    for name, module in readers.items():
        if module.SUFFIXES:
            most = getattr(module, "MOST", MANY)
            deeper = sorted(path for pattern in getattr(module, "DEEPER", ()) for path in folder.glob(pattern))
            candidates = (path for path in (*_candidates(places, module.SUFFIXES, most=most), *deeper) if path not in matched)
            files = [path for path in candidates if _accepts(module, path) and not kind_beside(path)]
            if files:
                matched.update(files)
                preferred = [path for path in files if path.name.startswith(getattr(module, "PREFERRED", ""))]
                with suppress(DataError) if whole else nullcontext():  # one that is only named may have several files
                    yield _by_split(name, folder, preferred or files, parts=getattr(module, "PARTS", False))
        elif not matched:
            if suffix := getattr(module, "SUFFIX", ""):
                about_images = about_images or first_files(folder, (".xml", ".json"))
            if any(map(module.recognises, about_images[suffix] if suffix else [folder])):
                yield LabelFiles(name)
                if name not in OF_IMAGES:
                    return
                whole = True


def _accepts(module: Any, path: Path) -> bool:
    """Return True if a file is in a format, or stands for a folder in it; one that its reader cannot read is in none."""
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in module.SUFFIXES:
        return suffix in getattr(module, "DESCRIPTIONS", ())
    try:
        return bool(module.recognises(path))
    except UNREADABLE:
        return False


def _by_split(name: str, folder: Path, files: Sequence[Path], *, parts: bool) -> LabelFiles:
    """Return one file per split, or parts of it."""
    by_split: dict[str, list[Path]] = {}
    for path in files:
        by_split.setdefault(split_of_file(path, folder), []).append(path)
    notes: tuple[str, ...] = ()
    if UNASSIGNED in by_split and len(by_split) > 1:
        passed = ", ".join(path.name for path in by_split.pop(UNASSIGNED))
        notes = (f"{passed} is called after no split and was not read",)
    order = sorted(by_split, key=lambda split: SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER))
    if parts and len(files) > 1:
        single = list(by_split) == ["train"]
        listed = tuple((UNASSIGNED if single else split, path) for split in order for path in by_split[split])
        return LabelFiles(name, {}, notes, listed)
    for split, paths in by_split.items():
        if len(paths) > 1:
            shown = ", ".join(str(path.relative_to(folder)) for path in paths[:5])
            what = f"split {split}" if split else "labels"
            raise DataError(
                f"{folder} has several files of {what}: {shown}. Name the one that is meant, or train=FILE test=FILE."
            )
    return LabelFiles(name, {split: by_split[split][0] for split in order}, notes)


def _places(folder: Path) -> Places:
    """Return where files of labels may be: the folder, and those below that hold annotations or are called after a split."""
    places = [(folder, _listed(folder))]
    places += [(folder / name, _listed(folder / name)) for name in places[0][1][BELOW] if name.lower() in BESIDE]
    named = [place / name for place, names in places for name in names[BELOW] if split_name(name) in SPLIT_NAMES.values()]
    return [*places, *((place, _listed(place)) for place in named)]


def _listed(folder: Path) -> defaultdict[str, list[str]]:
    """Return the names of the files in a folder by their extension, and those of the folders in it."""
    names = defaultdict[str, list[str]](list)
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # a link that leads round in circles
                if entry.is_file():
                    names[os.path.splitext(entry.name)[1].lower()].append(entry.name)  # noqa: PTH122 - many
                elif entry.is_dir():
                    names[BELOW].append(entry.name)
    for several in names.values():
        several.sort()
    return names


def _candidates(places: Places, suffixes: Sequence[str], *, most: int = MANY) -> Iterator[Path]:
    """Yield files that may hold labels, unless a folder has more than `most` of a kind, or several with the names of images."""

    def is_beside_image(path: Path) -> bool:
        return looks_like_image(path.stem) or any(path.with_suffix(suffix).is_file() for suffix in EXTENSIONS)

    for place, names in places:
        found = sorted(place / name for suffix in {*suffixes} for name in names[suffix])
        if len(found) <= most:
            beside = set(filter(is_beside_image, found)) if len(found) > 1 else set()
            yield from (path for path in found if len(beside) < 2 or path not in beside)


def _notes_on_others(folder: Path, places: Places, labels: LabelFiles) -> Iterator[str]:
    """Yield notes on files beside labels: tables that are other lists, and those of a split without labels, as test sets have."""
    for name in sorted(name for suffix in (".csv", ".tsv", ".txt") for name in places[0][1][suffix][:MANY]):
        if name != CLASS_LIST and (kind := kind_beside(folder / name)):
            yield f"{name} is {kind} and was not read as labels"
    suffixes = tuple({path.suffix.lower() for path in labels.files.values()})
    files = [path for path in _candidates(places, suffixes) if path.parent == folder and path not in labels.files.values()]
    files = [path for path in files if split_of_file(path, folder) not in (UNASSIGNED, *labels.files)]
    names = [path.name for path in files if not kind_beside(path)]
    if names:
        yield f"{', '.join(names)} has no labels in a known format and was not read"


def _explain(path: Path) -> None:
    """Raise a DataError if a file cannot be read at all."""
    suffix = path.suffix.lower()
    if not path.is_file():
        return
    with readable(path, "text"), path.open("rb") as file:
        if not file.read(1):
            raise DataError(f"{path} is empty. Export or fetch it again.")
    if suffix == ".json":
        read_json(path)
    for number, line in islice(read_lines(path), HEAD) if suffix in (*LINES, ".csv", ".tsv", ".txt") else ():
        if suffix in LINES and line.strip():
            with readable(path, f"JSON lines: row {number}"):
                json.loads(line)


def _refuse_known(path: Path) -> None:
    """Raise a DataError if a file, or one in a folder, is of a kind that is known and not read."""
    files = [path] if path.is_file() else [*islice(path.glob("*"), LOOKED_AT), *islice(path.glob("*/*"), LOOKED_AT)]
    for file in sorted(file for file in files if file.is_file()):
        what = next((what for suffixes, what in BY_SUFFIX.items() if file.suffix.lower() in suffixes), "")
        if not what and file.suffix.lower() in (".json", ".ndjson", ".xml"):
            what = next((what for words, what in BY_WORDS.items() if mentions(file, *words)), "")
            is_xml = file == path and file.suffix.lower() == ".xml" and b"<annotation>" in file.read_bytes()[: 1 << 10]
            what = "is the annotation of one image. Name the folder of all" if is_xml else what
        with file.open("rb") as content:
            what = "is a pointer of Git LFS. Fetch the file itself: git lfs pull" if content.read(len(LFS)) == LFS else what
        if what:
            raise DataError(f"{file} {what}.")


def _insist(path: Path, expected: str, readers: Mapping[str, Any]) -> LabelFiles:
    """Return the expected format if its reader can say what is wrong with the labels."""
    suffixes = readers[expected].SUFFIXES if expected else ()
    if path.is_file() and path.suffix.lower() in suffixes:
        return LabelFiles(expected, {split_of_file(path): path})
    if expected and not suffixes and path.is_dir():
        return LabelFiles(expected)
    _explain(path)
    if path.is_file():
        _refuse_known(path)
    if not path.exists():
        raise DataError(f"{path} does not exist. Check the path.")
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        header = next((line.strip() for _, line in read_lines(path)), "")
        raise DataError(
            f"{path} has no column of images ({header[:100]}): none holds paths that end in .jpg, .png or the like, "
            "and none has a usual name. Say --image-column NAME."
        )
    _refuse_place(path, {} if expected else readers)
    _refuse_known(path)
    seen = _describe(path) if path.is_file() else ", ".join(f"{file.name} holds {_describe(file)}" for file in _likely(path))
    images = islice(images_under(path), LOOKED_AT) if path.is_dir() else ()
    below = sorted({folder.name for image in images if (folder := (path / image).parent) != path})
    if len(below) > 1 and not (expected or seen) and not any(split_name(name) in SPLIT_NAMES.values() for name in below):
        raise DataError(
            f"{path} holds images in {', '.join(f'{name}/' for name in below[:SHOWN])}, and no labels in a known format. Write a "
            "table with a row per image: image,labels. A folder per class would give every image one label alone."
        )
    what = f"is not in the format {expected}" if expected else "holds no labels in a known format"
    table = next((file for file in _likely(path) if file.suffix.lower() in (".csv", ".tsv")), None) if path.is_dir() else None
    column = f"If {table.name} is the table of labels, name it, with --image-column NAME. " if table else ""
    if path.is_dir() and not expected and next(images_under(path), None) is not None:
        what = "holds images, but no labels in a known format"
    raise DataError(
        f"{path} {what}{f' ({seen})' if seen else ''}. {column}`sadcl docs formats` shows the known ones with an example of "
        "each; --format NAME insists on one."
    )


def _refuse_place(path: Path, readers: Mapping[str, Any]) -> None:
    """Raise if a folder below has labels in a known format, or the folder that a file or folder is part of."""
    below = folders_in(path) if path.is_dir() else []
    below += [inner for folder in below[:SHOWN] for inner in folders_in(folder)]
    found = ((folder, _format_of(folder, readers)) for folder in below[:FOLDERS])
    known = dict(islice(((folder, name) for folder, name in found if name), SHOWN))
    if known:
        shown = ", ".join(f"{folder} ({name})" for folder, name in known.items())
        alone = next(images_under(next(iter(known))), None) is None
        where = f", with --data {path} for the images" if alone else ""
        raise DataError(f"{path} has no labels in a known format at its top. Name what lies below it: {shown}{where}.")
    whole = {name: module for name, module in readers.items() if not module.SUFFIXES and name != "captions"}
    above = path.absolute()
    while above.is_file() or above.name.lower() in PARTS or split_name(above.name) in SPLIT_NAMES.values():
        above = above.parent
        if name := _format_of(above, whole):
            known[above] = name
    if known:
        above, name = list(known.items())[-1]
        raise DataError(f"{path} alone holds no labels in a known format, but {above} does ({name}). Name that folder.")


def _format_of(folder: Path, readers: Mapping[str, Any]) -> str:
    """Return the format of a folder; empty if it is in none."""
    try:
        return next((labels.format for labels in _in_folder(folder, _places(folder), readers)), "")
    except UNREADABLE:
        return ""


def _likely(folder: Path) -> list[Path]:
    """Return files of a folder, or of one of annotations in it, that people may have meant as labels."""
    places = [folder, *(path for path in folders_in(folder) if path.name.lower() in BESIDE)]
    files = [path for place in places for path in sorted(place.iterdir()) if path.suffix.lower() in LIKELY and path.is_file()]
    return [path for path in files if not PROSE.match(path.stem) and not kind_beside(path)][:SHOWN]


def _describe(path: Path) -> str:
    """Describe the content of a file in an unknown format in a few words."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".mat":
            return f"MATLAB's variables {', '.join(matlab_names(path)[:FEW])}"
        if suffix == ".json":
            content = read_json(path)
            first = content[0] if isinstance(content, list) and content else content
            keys = f"the keys {', '.join(map(str, islice(first, FEW)))}" if isinstance(first, dict) else type(first).__name__
            return f"{'an object with' if first is content else 'a list of'} {keys}"
        return f"lines such as {max((line.strip() for _, line in islice(read_lines(path), FEW)), key=len, default='')[:60]!r}"
    except UNREADABLE:
        return "no text"
