"""Gather rows of images with named labels, as most label files hold them, into a manifest."""

from __future__ import annotations

import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from sadcl_core.data.class_names import sort_classes
from sadcl_core.data.formats.locate import (
    ADDRESS,
    TRIED,
    Images,
    Located,
    as_listed,
    cleaned,
    climbs_out,
    common_folders,
    is_absolute,
    is_text,
    locate,
    outside,
    without_scheme,
)
from sadcl_core.data.formats.source import UNASSIGNED, Source, describe_source, label_files
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.interpretation import Column, FileReading, ImagePlace, Interpretation, LeftOut
from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.rows import Box, Record, Rows
from sadcl_core.data.tables import number_of, read_classes
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted, some_of

MAX_CLASSES = 25_000  # more than any published data set has
MAX_SPLITS = 100
MAX_PLACES = 50  # places of images that are told apart
FEW = 4  # labels that may well be one an image
NO_LABEL = frozenset(("na", "none", "nil", "nothing", "empty", "background", "-", "--", "."))  # no label, or a class
MEASURES = 40  # different numbers of classes that may well come in one image each
SHOWN = 10  # things named of all that are left out
MAX_UNKNOWN = 200_000_000  # unknown labels of images of which only some labels are known
MAX_PIXEL = 1e7  # no image is so wide
ONE_ROW = (
    "Write all labels of an image into one.",
    "Remove one of the rows, or, where every row is one label of its image, say --long.",
)
OF_ZERO = "zero"  # a class without images, where numbers count from 1
CLASS_LIST = "classes.txt"  # beside a label file: all class names in their order


# near: relative to the label file or a folder beside it; elsewhere: from another machine; exact: relative to the root
Paths = Literal["near", "elsewhere", "exact"]


class _Part(NamedTuple):
    """The rows that came from one label file, how it names images, and how it was read."""

    file: Path
    first: int
    paths: Paths
    reading: FileReading


class LabelRows:
    """Collect rows, find their images, number their classes."""

    def __init__(self, source: Source, kind: str, *, classes: Sequence[str] = ()) -> None:
        """Start without a row, with the classes that the label file itself lists, if it does.

        The person's own list comes first, `classes.txt` last. Where the two lists share a name, numbers stand for the classes of
        the file; else the person names them by their number.

        Raises:
            DataError: the list of classes is too long to be one, or a name is not text.
        """
        self.source = source
        self.kind = kind
        listed = source.reading.classes or tuple(classes)
        self._order = "as in --classes" if source.reading.classes else "as in the label files"
        if not listed and (lists := class_lists(source)):
            listed = read_classes(lists[0])
            self._order = f"as in {lists[0].name}"
        _check_names(listed, source)
        self.fixed = bool(listed)
        self.index: dict[str, int] = {name: number for number, name in enumerate(listed)}
        self.listed = listed
        self._numbered = tuple(classes) if not set(listed).isdisjoint(classes) else listed  # the classes by number
        self._numbers = [self.index.get(name) for name in self._numbered]
        self._by_number: set[int] = set()  # numbers that stood for classes
        self._file_counts = bool(classes) or kind == "yolo"  # where they start is said by the label file, or by its format
        self.by_name = True  # classes are ordered by name, instead of as they came up
        self.rows = Rows()
        self.row_numbers = array("q")
        self._parts: list[_Part] = []
        self.places: dict[str, dict[str, int]] = {}
        self.repeated = 0
        self._notes: list[str] = []
        self._watched: dict[Path, None] = {}
        self._left_out: list[LeftOut] = []
        self._addresses: dict[int, str] = {}  # of rows whose image is an address
        self._open: dict[int, frozenset[int]] = {}  # rows of which only some labels are known: those that are absent
        self._groups: list[str] = []

    def start(
        self,
        file: Path,
        *,
        paths: Paths = "near",
        split: str = "",
        columns: tuple[Column, ...] = (),
        separator: str = "",
        values: Mapping[str, str] | None = None,
    ) -> None:
        """Begin with the rows of a label file, or of those in a folder, and record how it is read; see `FileReading`."""
        reading = FileReading(str(file), split, columns=columns, separator=separator, values=dict(values or {}))
        self._parts.append(_Part(file, len(self.rows), paths, reading))

    def leave_out(self, what: str, names: Sequence[str], reason: str, *, count: int = 0) -> None:
        """Record something that is there and is not read; see `LeftOut`."""
        self._left_out.append(LeftOut(what, tuple(names[:SHOWN]), reason, count or len(names)))

    @property
    def first_file(self) -> Path | None:
        """The first label file; None before `start`."""
        return self._parts[0].file if self._parts else None

    @property
    def file(self) -> Path:
        """The label file whose rows are being added."""
        return self._parts[-1].file

    def watch(self, path: Path) -> None:
        """Read the labels again, later, if this file or folder beside the label files has changed."""
        self._watched[path] = None

    def note(self, text: str) -> None:
        """Tell the person who prepares the data a sentence."""
        self._notes.append(text)

    def label(self, name: object, where: str) -> int:
        """Return the index of a class.

        Raises:
            DataError: it is not one of the listed classes, or there are far too many.
        """
        if type(name) is str and (number := self.index.get(name)) is not None:
            return number
        if self.fixed and type(name) is int and 0 <= name < len(self._numbers) and (number := self._numbers[name]) is not None:
            self._by_number.add(name)
            return number
        text = str(name).strip()
        number = self.index.get(text)
        if number is not None and not (self.fixed and type(name) is int):
            return number
        if self.fixed:
            return self._listed_number(text, where)
        if not text or not is_text(text):
            raise DataError(f"{where}: a label is empty or not text. Name it, or remove it.")
        if len(self.index) >= MAX_CLASSES:
            raise DataError(
                f"{where}: more than {MAX_CLASSES:,} different labels, such as {text[:60]!r}. Free text or numbers were probably "
                "taken for labels, or a list of labels was not taken apart: check the column and --delimiter."
            )
        return self.index.setdefault(text, len(self.index))

    def _listed_number(self, text: str, where: str) -> int:
        """Return the index that a number stands for where the classes are listed."""
        if text.removeprefix("-").isdecimal() and len(text) <= 9:
            count = len(self._numbered)
            if not 0 <= int(text) < count:
                from_1 = "" if self._file_counts or int(text) != count else f". {self._if_from_1()}"
                raise DataError(f"{where}: label {text}, but there are {count} classes, counted from 0. Mend the row{from_1}.")
            number = self._numbers[int(text)]
            if number is not None:
                self._by_number.add(int(text))
                return number
            text = self._numbered[int(text)]
        shown = f"{len(self.listed)} classes ({', '.join(self.listed[:3])}, ...)"
        raise DataError(f"{where}: {text[:100]!r} is not one of the {shown}. Mend it, or the list of classes.")

    def add(
        self,
        image: object,
        active: Iterable[object],
        *,
        row: int,
        split: str = UNASSIGNED,
        unknown: Iterable[object] = (),
        boxes: tuple[Box, ...] | None = None,
        absent: Iterable[object] | None = None,
        group: str = "",
        where: str = "",
    ) -> None:
        """Add an image with its labels.

        Args:
            image: as the label file names it.
            active: names of classes, or indices where the classes are listed.
            row: number of the row.
            split: empty where the image belongs to none yet.
            unknown: names or indices.
            boxes: of its objects; None where the format has no boxes.
            absent: names or indices, where all that are neither active nor absent are unknown; None where the others are absent.
            group: of images that belong together.
            where: place for errors; file and row unless given.

        Raises:
            DataError: the image is not a path, a label is not a class, or the image was listed before with other labels.
        """
        part = self._parts[-1]
        where = where or f"{part.file}, row {row}"
        if not isinstance(image, (str, int)) or isinstance(image, bool):
            kind = "missing" if image is None else type(image).__name__
            raise DataError(f"{where}: the image is {kind}, not a path. Give the path of its file.")
        image = str(image)
        if part.paths == "elsewhere" or ("://" in image and ADDRESS.match(image)):
            self._addresses[len(self.rows)] = image
            image = without_scheme(image)
        reference = cleaned(image, self.source.root, where)
        record = Record(
            image=reference,
            split=split,
            active=tuple([self.label(name, where) for name in active]),
            unknown=tuple(self.label(name, where) for name in unknown) if unknown else (),
            boxes=boxes,
        )
        if self._listed_before(record, row, where):
            self.repeated += 1
            return
        if split not in self.places:
            if len(self.places) >= MAX_SPLITS or not is_text(split):
                raise DataError(
                    f"{where}: {split[:60]!r} would be split {len(self.places) + 1:,} of the data. Another column was probably "
                    "taken for the split: rename it."
                )
            self.places[split] = {}
        self.places[split][reference] = len(self.rows)
        if absent is not None:
            self._open[len(self.rows)] = frozenset(self.label(name, where) for name in absent)
        self._groups.append(group)
        self.rows.add(record)
        self.row_numbers.append(row)

    def _listed_before(self, record: Record, row: int, where: str) -> bool:
        place = self.places.get(record.split, {}).get(record.image)
        if place is None or place < self._parts[-1].first:
            return False
        same = set(self.rows.active[place]) == set(record.active)
        if not same or set(self.rows.unknown[place]) != set(record.unknown) - set(record.active):
            raise DataError(
                f"{where}: {record.image} was listed in row {self.row_numbers[place]} with other labels. "
                + ONE_ROW[self.kind == "csv" and self.by_name]
            )
        return True

    def manifest(self, *, superclasses: Sequence[str] = ()) -> Manifest:
        """Return all rows; classes are ordered by name unless they were listed.

        Raises:
            DataError: there is no row, no class, or an image climbs out of the root.
        """
        source = self.source
        files = ", ".join(str(part.file) for part in self._parts) or str(source.root)
        if not len(self.rows):
            raise DataError(f"{files}: no image is listed. Check that this is the file of labels.")
        names = self.listed if self.fixed else (sort_classes(self.index) if self.by_name else tuple(self.index))
        order = self._order if self.fixed else "by name" if self.by_name else "by column"
        if not names:
            raise DataError(f"{files}: no image has a label, so there is no class. Check the column of labels.")
        if self._are_sentences():
            raise DataError(
                f"{files}: no label comes twice, and most are of several words, such as {max(names, key=len)[:60]!r}. "
                "Sentences are no labels: give the file or column that holds some, or say --label-column NAME if they are."
            )
        if self._are_identifiers():
            raise DataError(
                f"{files}: every image has a label that no other has, such as {names[0][:60]!r}, as identifiers are. Give "
                "the file or column that holds labels, or say --label-column NAME if they are."
            )
        self._refuse_measures(files)
        root, places = self._find_images()
        self._refuse_same_place()
        if self._by_number and not self._file_counts:
            self._notes.append(self._counting())
        blank = next((name for name in names if name.lower() in NO_LABEL), None)
        if blank is not None and not self.source.reading.classes:
            self._notes.append(f"{blank!r} is a class; if it stands for no label, say --drop={blank}")
        if self.repeated:
            self._notes.append(f"{counted(self.repeated, 'row')} listed twice with the same labels, counted once")
        description = Description(
            name=source.name,
            root=root.resolve(),
            classes=names,
            superclasses=tuple(name if is_text(name) else repr(name) for name in superclasses),
            source=describe_source(self.kind, [*(part.file for part in self._parts), *class_lists(source), *self._watched]),
            notes=tuple(self._notes),
            interpretation=Interpretation(self.kind, self._files(root), places, tuple(self._left_out), order),
        )
        numbers = {name: number for number, name in enumerate(names)}
        renumbered = None if self.fixed else np.array([numbers[name] for name in self.index], np.int32)
        table = self.rows.table(renumbered, self._unknown_of_open(len(names)))
        if source.reading.group_by or any(self._groups):
            table = table.append_column("group", pa.array(self._groups, pa.string()))
        return Manifest(description, table)

    def _counting(self) -> str:
        """Return which classes numbers were taken for."""
        numbers = sorted(self._by_number)
        shown = some_of([f"{number} is {self._numbered[number]}" for number in numbers], 3)
        note = f"labels are numbers and count from 0: {shown}"
        if numbers[0] > 0 and self._numbered[0] != OF_ZERO:
            note += f"; no image has 0, {self._numbered[0]}. {self._if_from_1()}"
        return note

    def _if_from_1(self) -> str:
        names = f"{OF_ZERO},{self._numbered[0]},..."
        return f"If they count from 1, put a class before the others and drop it: --classes {names} --drop {OF_ZERO}"

    def _are_sentences(self) -> bool:
        """Return True if the labels are what people wrote of each image, and no class that another has as well."""
        if self.fixed or self.source.reading.label_column or len(self.index) < FEW:
            return False
        once = len(self.index) == self.rows.active.ends[-1]
        return once and 2 * sum(name.count(" ") for name in self.index) >= 3 * len(self.index)

    def _are_identifiers(self) -> bool:
        """Return True if each of many images has one label, which no other has, as identifiers and paths of other files are."""
        count = len(self.rows)
        each = len(self.index) == count == self.rows.active.ends[-1] > MEASURES
        return each and not (self.fixed or self.source.reading.label_column)

    def _refuse_measures(self, files: str) -> None:
        """Raise if labels are measures: fractions, or numbers of which most come in one image alone, as coordinates do."""
        if self.fixed or self.source.reading.label_column:
            return
        values = {name: value for name in self.index if (value := number_of(name)) is not None}
        fraction = next((name for name, value in values.items() if not value.is_integer()), None)
        counts = np.bincount(self.rows.active.values, minlength=len(self.index)) if values else ()
        once = [name for name in values if counts[self.index[name]] < 2]
        several = self.rows.active.ends[-1] > len(self.rows)  # else they are the class of each
        if fraction is None and (not several or 2 * len(once) <= max(len(values), MEASURES)):
            return
        what = "fractions" if fraction else "numbers of which most come in one image alone"
        named = any(
            column.role == "labels" and not column.name.startswith("column ") for column in self._parts[0].reading.columns
        )
        advice = "Say which column holds labels: --label-column NAME" if named else "Give files that hold labels"
        raise DataError(
            f"{files}: labels such as {fraction or once[-1]} would be classes, although they are {what}, as coordinates and "
            f"other measures are. {advice}."
        )

    def _files(self, root: Path) -> tuple[FileReading, ...]:
        """Return how each label file was read."""
        return tuple(
            replace(
                part.reading,
                file=part.file.relative_to(root).as_posix() if part.file.is_relative_to(root) else str(part.file),
                images=len(rows),
            )
            for part, rows in self._rows_of_parts()
        )

    def _rows_of_parts(self) -> Iterator[tuple[_Part, range]]:
        """Yield each label file with the numbers of its rows."""
        ends = [*(part.first for part in self._parts[1:]), len(self.rows)]
        for part, end in zip(self._parts, ends, strict=True):
            yield part, range(part.first, end)

    def _unknown_of_open(self, count: int) -> dict[int, list[int]]:
        """Return the unknown labels, as they came up, of the rows in which only some labels are known."""
        if len(self._open) * count > MAX_UNKNOWN:
            raise DataError(
                f"{self._parts[0].file}: only some labels of {counted(len(self._open), 'image')} are known, so that "
                f"of {count:,} classes too many labels would be unknown. Name fewer classes with --classes FILE."
            )
        every = frozenset(range(count))
        return {row: sorted(every - absent - frozenset(self.rows.active[row])) for row, absent in self._open.items()}

    def _find_images(self) -> tuple[Path, tuple[ImagePlace, ...]]:
        """Turn references into paths, for each file and split by a rule of its own; return the root they start from."""
        images = self.rows.images
        if self.source.labels_only:
            return self.source.root, ()
        relative = [image for place, image in enumerate(images) if place not in self._addresses and not is_absolute(image)]
        droppable, every = common_folders(relative), Images(self.source.root)
        if len(relative) < len(images) and not self._addresses and (written := self._as_written(every)) is not None:
            return written, (ImagePlace("", len(images)),)
        located: list[tuple[Located, list[int]]] = []
        for part, rows in self._rows_of_parts():
            by_split: dict[int, list[int]] = {}
            for place in rows:
                by_split.setdefault(self.rows.split_codes[place], []).append(place)
            for code, places in by_split.items():
                split = list(self.rows.splits)[code]
                located.append((self._locate(part, places, split, droppable, every), places))
        root = min({one.root for one, _ in located}, key=lambda path: len(path.parts))
        for one, places in located:
            below = "" if one.root == root else one.root.relative_to(root).as_posix() + "/"
            for place, path in zip(places, one.paths, strict=True):
                images[place] = below + path
                if climbs_out(images[place]):
                    raise outside(images[place], root, self._where(place))
        self._notes += [one.note for one, _ in located if one.note]
        found = sum((one.places for one, _ in located), Counter[ImagePlace]())
        return root, tuple(replace(place, images=count) for place, count in found.most_common(MAX_PLACES))

    def _as_written(self, every: Images) -> Path | None:
        """Make images relative to their common folder and return it, if some lie where their absolute paths say.

        Return None if they do not have the names of images, or if images that moved lie below the root.
        """
        images = self.rows.images
        full = [image if is_absolute(image) else f"{self.source.root.resolve()}/{image}" for image in images]
        there = [path == image and os.path.isfile(path) for path, image in zip(full, images, strict=True)]  # noqa: PTH113 - many
        if not any(there) or not all(image.lower().endswith(EXTENSIONS) for image in images):
            return None
        relative = [path for path, image in zip(full, images, strict=True) if path != image]
        if not all(map(os.path.isfile, relative)):
            return None
        if not relative:
            tried = locate(self.source, self.file, images[:TRIED], images=every, split="", droppable=0, elsewhere=True)
            if len(tried.missing) < len(tried.paths):
                return None
        present = [path for path, here in zip(full, there, strict=True) if here] + relative
        above = [os.path.commonpath([os.path.dirname(path) for path in paths]) for paths in (full, present)]  # noqa: PTH120 - many
        folder = next((path for path in above if path != "/"), "/")  # one that is missing may be from another disk
        images[:] = [path.removeprefix(f"{folder.rstrip('/')}/").lstrip("/") for path in full]
        return Path(folder)

    def _locate(self, part: _Part, places: Sequence[int], split: str, droppable: int, every: Images) -> Located:
        """Return where the images of one file and split are."""
        references = [self.rows.images[place] for place in places]
        if part.paths == "exact":
            return as_listed(self.source.root, references)
        elsewhere = all(place in self._addresses or is_absolute(self.rows.images[place]) for place in places)
        located = locate(self.source, part.file, references, images=every, split=split, droppable=droppable, elsewhere=elsewhere)
        for k in located.missing:
            address, reference = self._addresses.get(places[k]), references[k]
            if len(located.missing) == len(places) and part.paths != "elsewhere" and address is not None:
                raise DataError(
                    f"{self._where(places[k])}: {address[:100]} is an address. Fetch the images first, and give their folder "
                    "with --data DIR unless it is that of the labels."
                )
            if is_absolute(reference) and len(located.missing) == len(places):
                raise DataError(
                    f"{self._where(places[k])}: {reference[:200]} does not lie under {self.source.root}. Say with --data DIR "
                    "which folder holds all images."
                )
            if is_absolute(located.paths[k]):
                located.paths[k] = re.sub(r"^(?:[A-Za-z]:)?/+", "", reference)
        return located

    def _where(self, place: int) -> str:
        part = next(part for part in reversed(self._parts) if part.first <= place)
        return f"{part.file}, row {self.row_numbers[place]}"

    def _refuse_same_place(self) -> None:
        """Raise if two references are one path, as a.jpg and ./a.jpg are."""
        seen: dict[tuple[int, str], int] = {}
        for place, key in enumerate(zip(self.rows.split_codes, self.rows.images, strict=True)):
            if (first := seen.setdefault(key, place)) != place:
                raise DataError(
                    f"{self._where(place)}: {key[1]} is listed twice, in two files or spellings, first in {self._where(first)}. "
                    "Remove one row, or name the file that is meant."
                )


def make_box(label: int, sides: Iterable[float], where: str) -> Box:
    """Return a box of a class by left, top, width and height in pixels.

    Raises:
        DataError: a number is not finite, or not one of pixels.
    """
    x, y, width, height = sides
    if not (abs(x) <= MAX_PIXEL and abs(y) <= MAX_PIXEL and abs(width) <= MAX_PIXEL and abs(height) <= MAX_PIXEL):
        raise DataError(f"{where}: the box {x:g}, {y:g}, {width:g}, {height:g} is not in pixels. Mend it.")
    return Box(label, x, y, width, height)


def _check_names(names: Sequence[str], source: Source) -> None:
    """Raise if a list of classes is too long to be one, or a name is empty, not text, or repeated."""
    where = ", ".join(map(str, source.files.values())) or str(source.root)
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{where}: {len(names):,} classes are listed, more than {MAX_CLASSES:,}. Were images or objects listed as classes?"
        )
    bad = next((name for name in names if not name.strip() or not is_text(name)), None)
    if bad is not None:
        raise DataError(f"{where}: the class name {bad[:60]!r} is empty or not text. Rename the class.")
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise DataError(f"{where}: the class name {name[:60]!r} appears twice. Rename one of them.")


def class_lists(source: Source) -> list[Path]:
    """Return the list of classes beside a label file, or in the folder of all, if there is one."""
    folders = dict.fromkeys((*(file.parent for _, file in label_files(source)), source.root))
    return [path for folder in folders if (path := folder / CLASS_LIST).is_file()][:1]
