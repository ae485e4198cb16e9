"""Tables: CSV, TSV, other delimited text, and Parquet, with a row per image.

    image,labels,split          filename,cat,dog,car        photos/a.jpg cat dog
    photos/a.jpg,cat;dog,train  a.jpg,1,0,?                 photos/b.jpg

The labels are in one cell (between `,` `;` `|` or spaces, or as a list), in one column per class (1, 0, and unknown: blank,
-1 or ?), or in the cells after the image. With a header or without. Also what Roboflow (`_classes.csv`), CheXpert and the
Hugging Face imagefolder (`metadata.csv`, `metadata.parquet`) write. Parquet needs a header by nature.

Columns are identified by their names, else by what they hold. Tables of several splits must have the same classes; where
a list of classes is given, columns that are not in it are not classes.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sadcl_core.data.formats.beside import names_of_numbers
from sadcl_core.data.formats.cells import (
    ACTIVE,
    BLANK,
    INACTIVE,
    LIST_KEYS,
    MEANINGS,
    NAME_KEYS,
    NOT_KNOWN,
    SEPARATORS,
    USUAL,
    Values,
    chosen_states,
    find_separator,
    find_values,
    flag_of,
    flags_in,
    is_list,
    labels_in,
    opened_cell,
    refuse_boxes,
    refuse_mixed,
    refuse_parts,
    refuse_values,
    vector_in,
)
from sadcl_core.data.formats.columns import Columns, Row, find_columns, label_cells
from sadcl_core.data.formats.labels import CLASS_LIST, LabelRows
from sadcl_core.data.formats.source import Source, label_files, split_name
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import (
    IMAGE_COLUMNS,
    cell_at,
    cell_text,
    find_column,
    is_filled,
    looks_like_image,
    number_of,
    read_lines,
    readable,
)
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runtime.files import from_cell
from sadcl_core.runtime.words import counted

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
OPTIONS = (
    *("delimiter", "long", "label_column", "image_column", "split_column", "group_by"),
    *("present", "absent", "unknown", "threshold"),
)
WHOLE = re.compile(r"^(\d+)\.0+$")  # numbers of groups, which programs also write so
PROSE = ("readme", "license")  # beside many data sets
BETWEEN_CELLS = ("\t", ",", ";", "|", " ")
SNIFFED = 20  # lines from which the delimiter is detected
LOOKED_AT = 10_000  # rows from which the columns are identified
DESCRIPTIONS_OF_CLASSES = "*class-descriptions*.csv"  # beside Open Images' labels: the name of each class


@dataclass(frozen=True)
class Opened:
    """A table that can be read.

    Attributes:
        header: names of the columns; None without a header.
        rows: number and cells of each row, all in the order of the columns.
        names: of classes, by the column that holds their numbers, as the file itself gives them.
        elsewhere: the images are named by their place on another machine or in a bucket.
        whole: a text in a cell of labels is one label, since several are written as a list. Elsewhere the last cell may go on in
            the cells after it, as labels do that were not quoted.
        nulls: a cell of labels that is missing says that nobody labelled the image, for one without a label is written otherwise.
    """

    header: list[str] | None
    rows: Iterator[Row]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elsewhere: bool = False
    whole: bool = False
    nulls: bool = False


@dataclass(frozen=True)
class _Table:
    """A table that has been opened: its columns, its first rows, and those that follow."""

    path: Path
    split: str
    opened: Opened
    columns: Columns
    head: list[Row]

    @cached_property
    def label_cells(self) -> Sequence[Any]:
        """The first cells of labels that are not blank."""
        rows = (cells for _, cells in self.head if len(cells) >= self.columns.width)
        columns = self.columns
        return [cell for cells in rows for cell in label_cells(cells, columns.labels, columns.rest) if is_filled(cell)]

    def names(self) -> tuple[str, ...]:
        """Return the names of the classes whose numbers the cells of labels hold; none where the file does not give them."""
        header, labels = self.opened.header, self.columns.labels
        return self.opened.names.get(header[labels[0]], ()) if header and len(labels) == 1 else ()


@dataclass
class _Entry:
    """Content of a row about an image, or of all of them; as `LabelRows.add` takes it."""

    image: Any
    row: int
    split: str
    group: str
    active: list[Any] = field(default_factory=list)
    unknown: list[Any] = field(default_factory=list)
    absent: list[Any] | None = None


def recognises(path: Path) -> bool:
    """Return True if a file is a table with a column of images."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return find_column(pq.read_schema(path).names, IMAGE_COLUMNS) is not None
    if path.name == CLASS_LIST or path.stem.lower().startswith(PROSE):
        return False
    if suffix == ".txt" and any(path.with_suffix(extension).is_file() for extension in EXTENSIONS):
        return False  # a caption, beside its image
    return find_layout([line for _, line in islice(read_lines(path), SNIFFED)]) is not None


def read(source: Source) -> Manifest:
    """Read one table per split, or one of all.

    Raises:
        DataError: no column holds images or labels, or a row is not like the others.
    """
    named = source.reading.image_column
    return read_tables(source, "csv", lambda path: _parquet(path) if path.suffix.lower() == ".parquet" else _text(path, named))


def read_tables(source: Source, kind: str, open_table: Callable[[Path], Opened], *, words: str = "a table") -> Manifest:
    """Read tables of any kind: the columns of each are identified, their values and separators are decided by all together.

    `words` are for the format in errors.

    Raises:
        UsageError: an option has no effect on such tables.
        DataError: no column holds images or labels, a row is not like the others, or it cannot be decided what is meant.
    """
    rows: LabelRows | None = None
    tables: list[_Table] = []
    for split, path in label_files(source):
        with readable(path, words):
            opened = open_table(path)
            rows = rows or LabelRows(source, kind)
            head = list(islice(opened.rows, LOOKED_AT))
            columns = find_columns(
                opened.header, head, path, source.reading, rows.listed, ragged=not opened.whole, numbered=opened.names
            )
            tables.append(_Table(path, split, opened, columns, head))
            names = tables[-1].names()
            if names != tables[0].names():
                raise DataError(f"{path} and {tables[0].path} list different classes. Use files of one data set.")
            if names and len(tables) == 1:
                rows = LabelRows(source, kind, classes=names)
            _refuse_other_columns(tables, rows)
    if rows is None:
        raise DataError(f"{source.root} has no table of labels. Name the file.")
    table_reader = _Reader(rows, tables)
    for table in tables:
        with readable(table.path, words):
            table_reader.add(table)
    table_reader.check_labels()
    table_reader.check_values()
    return rows.manifest()


class _Reader:
    """Adds the rows of tables, all read in the same way."""

    def __init__(self, rows: LabelRows, tables: Sequence[_Table]) -> None:
        self.rows, self.tables, self.reading = rows, tables, rows.source.reading
        self.paths = ", ".join(str(table.path) for table in tables)
        self._splits: dict[str, str] = {}  # by what stands in the column of splits of one table
        self.blanks: dict[Any, str] = {}  # of objects that name some classes each: a blank for each class
        self.values, self.flags = self._values()
        self.disagreed = 0  # labels that one row says are present, and another that they are not
        self.vector = self._vector()
        self.one_a_cell = False  # texts are one label each, as nothing stands between labels in any of them
        self.separator = self._separator()
        self.names = self._class_names()
        if self.reading.long and all(table.columns.flags for table in self.tables):
            raise UsageError(f"{self.paths}: --long has no effect, because each class has a column. Leave it out.")
        in_cells = any(table.columns.labels or table.columns.rest is not None for table in tables)
        for option, applies in {
            "delimiter": in_cells and not self.vector,
            **dict.fromkeys(("present", "absent", "unknown", "threshold"), bool(self.flags)),
        }.items():
            if getattr(self.reading, option) not in ("", (), None) and not applies:
                what = "no cell holds several labels" if option == "delimiter" else "no cell says 1 or 0 of a class"
                raise UsageError(f"{self.paths}: --{option} has no effect, because {what}. Leave it out.")

    def _values(self) -> tuple[Values, Counter[str]]:
        """Return what flags mean, and how often each occurs in the first rows."""
        every_count: list[Counter[str]] = []
        names: dict[str, None] = {}
        words = chosen_states(self.reading)
        objects: list[dict[str, Any]] = []
        for table in self.tables:
            counts = Counter(table.columns.counts)
            every_count.append(counts)
            names |= dict.fromkeys(name for _, name in table.columns.flags)
            for cell in table.label_cells if not table.columns.flags else ():
                own = _object_flags(cell) if not table.columns.vector else {}
                objects += [own] if own else []
                flags = (vector_in(cell) or ()) if table.columns.vector else own.values()
                if flags:
                    counts.update(flag_of(flag, words) for flag in flags)
        every = {name for own in objects for name in own}
        if any(flag_of(flag, words) == "0" for own in objects for flag in own.values()) and any(
            len(own) < len(every) for own in objects
        ):
            self.blanks = dict.fromkeys(every, "")
            every_count[-1][BLANK] += 1
        marks = {flag for flag, state in {**USUAL, **words}.items() if state == ACTIVE}
        labelled = {k: own for k, own in enumerate(every_count) if not marks.isdisjoint(own)}  # those of a test set may be hidden
        deciding = labelled.values() or every_count
        values = find_values(sum(deciding, Counter[str]()), self.reading, self.paths, list(names))
        for k, own in labelled.items():
            self._refuse_other_values(self.tables[k], own, values, list(names))
        return values, sum(every_count, Counter[str]())

    def _refuse_other_values(self, table: _Table, counts: Counter[str], values: Values, names: Sequence[str]) -> None:
        """Raise if the values of one table, read alone, would mean other things than in all of them."""
        alone = values
        with suppress(DataError):  # alone it does not decide
            alone = find_values(counts, self.reading, str(table.path), names)
        for flag in counts:
            if alone.states.get(flag) != values.states.get(flag):
                raise DataError(
                    f"{self.paths}: {flag} would mean {MEANINGS[values.states[flag]]}, but {table.path} alone holds "
                    f"{', '.join(sorted(counts))}, as if {flag} meant {MEANINGS[alone.states[flag]]}. Say --absent {flag} or "
                    f"--unknown {flag} for all of them, or write them in one way."
                )

    def _vector(self) -> int:
        """Return the length of the vectors of 0 and 1 in the cells of labels; 0 for other cells."""
        lengths = {table.columns.vector for table in self.tables if not table.columns.flags}
        if lengths <= {0}:
            return 0
        if len(lengths) > 1:
            raise DataError(f"{self.paths}: the labels are 0/1 vectors of several lengths. Give tables of one data set.")
        (length,) = lengths
        if len(self.rows.listed) != length:
            given = f", and {len(self.rows.listed)} names are given" if self.rows.listed else ""
            raise DataError(
                f"{self.paths}: each cell of labels is a 0/1 vector of length {length}{given}. Give the {length} names of the "
                "classes in their order: --classes FILE with one a line, or --classes a,b."
            )
        return length

    def _separator(self) -> str:
        """Return what stands between labels, decided by all tables together, so that their labels are split in the same way."""
        if self.vector:
            return "none"
        tables = [table for table in self.tables if not table.columns.flags and table.columns.value is None]
        cells = [cell for table in tables for cell in table.label_cells]
        texts = [cell for cell in cells if isinstance(cell, str) and isinstance(opened_cell(cell), str) and not is_list(cell)]
        if not (self.rows.fixed or self.reading.delimiter):
            refuse_boxes(texts, self.paths)
        if self.reading.delimiter or self.reading.long:
            if self.reading.delimiter and cells:
                self._check_delimiter(self.reading.delimiter, texts)
            return self.reading.delimiter or "none"
        self.one_a_cell = bool(texts)
        if any(table.opened.whole for table in self.tables):
            self._refuse_lists(texts)
            return "none"
        several = any(len(table.columns.labels) > 1 for table in tables)  # columns, with a label in each
        separator = self._likely_separator(texts) if several else find_separator(texts, self.paths)
        self.one_a_cell &= not separator
        return separator

    def _likely_separator(self, texts: Sequence[str]) -> str:
        """Return what stands between labels; empty also for texts that may be one label or several."""
        with suppress(DataError):
            return find_separator(texts, self.paths)
        return ""

    def _check_delimiter(self, delimiter: str, texts: Sequence[str]) -> None:
        """Raise if labels are lists, without a separator, or have another separator than the person says."""
        if not texts:
            raise UsageError(f"{self.paths}: --delimiter has no effect, because the cells hold lists of labels. Leave it out.")
        if delimiter in ("none", "\n") or self.rows.fixed or any(delimiter in text for text in texts):
            return
        other = self._likely_separator(texts)
        if other not in ("", " "):
            raise UsageError(
                f"{self.paths}: --delimiter {delimiter!r} has no effect, because {other!r} stands between labels, as in "
                f"{next(text for text in texts if other in text)[:60]!r}. Say --delimiter '{other}', or --delimiter none."
            )
        self.rows.note(f"{delimiter!r} (--delimiter) stands in none of the first cells, so each of them is one label")

    def _shown_separator(self, table: _Table) -> str:
        """Return what stands between labels, for the account; empty where no cell holds them as a text."""
        if table.columns.flags or self.vector:
            return ""
        lists = self.separator == "none" and not (self.reading.delimiter or self.reading.long)
        return "none" if self.one_a_cell else "" if lists else self.separator

    def _refuse_lists(self, texts: Sequence[str]) -> None:
        """Raise if texts are several labels each, where a list would be written as one; words between spaces may be one label."""
        if separator := self._likely_separator(texts):
            text = next(text for text in texts if separator in text)
            raise DataError(
                f"{self.paths}: {text[:60]!r} may be one label, or several. Say --delimiter none, or --delimiter '{separator}'."
            )

    def _class_names(self) -> dict[str, str]:
        """Return names by the cells of labels, from a list beside the table: Open Images', or one of numbers."""
        folders = dict.fromkeys((*(table.path.parent for table in self.tables), self.rows.source.root))
        if all(table.columns.value is None for table in self.tables):
            return self._names_of_numbers(folders)
        names: dict[str, str] = {}
        for path in dict.fromkeys(path for folder in folders for path in sorted(folder.glob(DESCRIPTIONS_OF_CLASSES))):
            self.rows.watch(path)
            self.rows.note(f"names of classes from {path.name}")
            with readable(path, "a list of classes"):
                lines = csv.reader(line for _, line in read_lines(path))
                names |= {row[0].strip(): row[1].strip() for row in lines if len(row) == 2}
        return names

    def _names_of_numbers(self, folders: Iterable[Path]) -> dict[str, str]:
        """Return names of classes by their numbers where all labels are whole numbers, and a table beside names them."""
        if self.rows.fixed or self.vector:
            return {}
        cells = (cell for table in self.tables for cell in table.label_cells if not table.columns.flags)
        numbers: set[str] = set()
        for cell in cells:
            if isinstance(cell, dict) or (isinstance(cell, str) and not cell.strip("[] ")[:1].isdecimal()):
                return {}
            with suppress(DataError):  # which is raised, with its row, where the cell is read
                own = [*map(str, labels_in(cell, self.separator, self.paths))]
                if not all(map(str.isdecimal, own)):
                    return {}
                numbers.update(own)
        path, names = names_of_numbers(folders, numbers) if numbers else (None, {})
        if path is not None:
            self.rows.watch(path)
            self.rows.note(f"names of classes from {path.name}")
        return names

    def add(self, table: _Table) -> None:
        """Add the rows of one table."""
        columns, rows = table.columns, self.rows
        rows.start(
            table.path,
            paths="elsewhere" if table.opened.elsewhere else "near",
            split=table.split,
            columns=columns.roles,
            separator=self._shown_separator(table),
            values=self.values.meanings(self.flags, below=NOT_KNOWN if columns.value is not None else INACTIVE),
        )
        rows.by_name &= not columns.flags
        for _, name in columns.flags:  # a class no image has is a class
            rows.label(name, str(table.path))
        entries = self._entries(table)
        if rows.source.reading.long or columns.value is not None:
            entries = self._merged(entries)
        unlabelled = 0
        for entry in entries:
            if entry is None:
                unlabelled += 1
            else:
                rows.add(**vars(entry))
        if unlabelled:
            rows.leave_out("row", (), "their labels are null", count=unlabelled)

    def _entries(self, table: _Table) -> Iterator[_Entry | None]:
        """Yield the content of each row; None for a row of JSON whose labels are null."""
        columns, path = table.columns, table.path
        width, rest, image_column, group = columns.width, columns.rest, columns.image, columns.group
        labels_of = self._labels_of(columns)
        self._splits = {}
        null = table.opened.nulls and len(columns.labels) == 1
        file = str(path)
        for row, cells in chain(table.head, table.opened.rows):
            where = f"{file}, row {row}"
            if len(cells) < width:
                raise DataError(f"{where} has {len(cells)} cells where {width} are needed. Mend the row.")
            if len(cells) > width and rest is None:
                raise DataError(f"{where} has {len(cells)} cells where the others have {width}. Mend the row.")
            image = cells[image_column]
            split = table.split if columns.split is None else self._split_of(columns, cells, where) or table.split
            own = "" if group is None else WHOLE.sub(r"\1", cell_text(cells[group]))
            entry = _Entry(image.strip() if isinstance(image, str) else image, row, split, own)
            if null and cells[columns.labels[0]] is None:
                yield None
                continue
            labels_of(cells, entry, where)
            if columns.unknown is not None and cells[columns.unknown] is not None:
                entry.unknown = entry.unknown + labels_in(cells[columns.unknown], self.separator, where)
            yield entry

    def _split_of(self, columns: Columns, cells: Sequence[Any], where: str) -> str:
        """Return the split of a row; blank if it has none."""
        assert columns.split is not None, "asked for tables with a column of splits"
        cell = cells[columns.split]
        if isinstance(cell, (dict, list)):
            raise DataError(f'{where}: the split is not text. Write "split": "train".')
        text = cell_text(cell)
        if text not in self._splits:
            self._splits[text] = columns.split_words.get(flag_of(text) or text, "") or split_name(text)
        return self._splits[text]

    def _labels_of(self, columns: Columns) -> Callable[[Sequence[Any], _Entry, str], None]:
        """Return the function that reads the labels of a row into its entry."""
        if columns.flags:
            numbers, names = zip(*columns.flags, strict=True)

            def read_flags(cells: Sequence[Any], entry: _Entry, where: str) -> None:
                self._sort(names, [cells[k] for k in numbers], entry, where)

            return read_flags
        if columns.vector:
            return lambda cells, entry, where: self._read_vector(label_cells(cells, columns.labels, columns.rest), entry, where)
        if columns.value is not None:
            value = columns.value
            return lambda cells, entry, where: self._read_value(columns, cells, cells[value], entry, where)

        def read_names(cells: Sequence[Any], entry: _Entry, where: str) -> None:
            read_labels(cells, entry, where)
            entry.active = [self.names.get(str(label), label) for label in entry.active]

        def read_labels(cells: Sequence[Any], entry: _Entry, where: str) -> None:
            for cell in label_cells(cells, columns.labels, columns.rest):
                if not isinstance(cell, dict) and (not isinstance(cell, str) or cell[:1] != "{"):
                    entry.active += labels_in(cell, self.separator, where)
                    continue
                flags = _object_flags(cell)
                if flags:
                    flags = self.blanks | flags
                    self._sort([*flags], [*flags.values()], entry, where)
                else:
                    entry.active += labels_in(opened_cell(cell), self.separator, where)

        return read_names if self.names else read_labels

    def _sort(self, names: Sequence[Any], flags: Sequence[Any], entry: _Entry, where: str) -> None:
        """Put each class into the active or unknown labels, by its flag."""
        states = self.values.read_all(flags)
        if None in states:
            k = states.index(None)
            raise DataError(
                f"{where}, column {names[k]!r}: {cell_text(flags[k])[:60]!r} is not 1, 0, or unknown (blank, -1, ?). Mend the "
                "cell, say what it means with --present, --absent or --unknown, say --threshold 0.5 where fractions are meant, "
                "or say with --classes FILE which columns are classes."
            )
        for name, state in compress(zip(names, states, strict=True), states):  # without those that are INACTIVE
            (entry.active if state == ACTIVE else entry.unknown).append(name)

    def _read_vector(self, cells: Sequence[Any], entry: _Entry, where: str) -> None:
        """Read the vector of 0 and 1 of a row."""
        vector = vector_in(cells[0] if len(cells) == 1 else cells)
        if vector is None or len(vector) != self.vector:
            raise DataError(f"{where}: the labels are not a 0/1 vector of length {self.vector}, as in other rows. Mend the row.")
        self._sort(self.rows.listed, vector, entry, where)

    def _read_value(self, columns: Columns, cells: Sequence[Any], value: Any, entry: _Entry, where: str) -> None:
        """Read a row of one label and its value: 1 present, 0 absent, of a fraction below the threshold nobody knows."""
        label = cell_text(cells[columns.labels[0]]) if columns.labels else ""
        if columns.joined:
            entry.image, _, label = str(entry.image).rpartition("_")
        state = self.values.read(value)
        fraction = number_of(cell_text(value))
        if state is None:
            how = "Say --threshold 0.5 to take labels from there on as present." if 0 < (fraction or 0) < 1 else "Mend the cell."
            raise DataError(
                f"{where}: the value {cell_text(value)[:60]!r} of the label is not 1, 0, or unknown (blank, -1, ?). {how}"
            )
        if state == INACTIVE and fraction is not None and 0 < fraction < 1:
            state = NOT_KNOWN
        entry.absent = []
        {ACTIVE: entry.active, INACTIVE: entry.absent, NOT_KNOWN: entry.unknown}[state].append(self.names.get(label, label))

    def _merged(self, entries: Iterable[_Entry | None]) -> Iterator[_Entry]:
        """Yield one entry per image and split, with the labels of all its rows.

        Where rows say that a label is absent, what no row names is unknown, and so is what rows disagree on; else it is absent.
        """
        merged: dict[tuple[str, str], _Entry] = {}
        verified = False
        for entry in entries:
            if entry is None:
                continue
            first = merged.setdefault((entry.split, str(entry.image)), entry)
            verified = verified or bool(entry.absent)
            if first is not entry:
                first.active.extend(entry.active)
                first.unknown.extend(entry.unknown)
                if first.absent is not None:
                    first.absent.extend(entry.absent or ())
        for entry in merged.values():
            both = set(entry.active).intersection(entry.absent or ())
            self.disagreed += len(both)
            yield replace(
                entry,
                active=[name for name in entry.active if name not in both],
                absent=[name for name in entry.absent or () if name not in both] if verified else None,
            )

    def check_labels(self) -> None:
        """Say which labels hold another separator, or are of several words; raise if cells were written in two ways."""
        names, separator = list(self.rows.index), self.separator
        if self.disagreed:
            self.rows.note(f"{counted(self.disagreed, 'label')} that rows say is there and is not, taken as unknown")
        if self.rows.fixed or any(table.columns.flags for table in self.tables):
            return
        if self.reading.delimiter != "none":
            refuse_values(names, self.paths)
        if self.reading.delimiter:
            return
        if not self.reading.label_column:
            refuse_parts(names, separator, self.paths)
        refuse_mixed(names, separator, self.paths, one_a_cell=self.one_a_cell)
        odd = [name for name in names if any(mark in name for mark in SEPARATORS[:-1] if mark != separator)]
        if odd and separator not in ("none", ""):
            self.rows.note(f"labels that hold another separator are kept whole: {', '.join(odd[:5])[:200]}")
        spaced = next((name for name in names if " " in name), None)
        if spaced is not None and self.one_a_cell:
            self.rows.note(f"labels such as {spaced[:60]!r} are kept whole; --delimiter ' ' takes them apart")

    def check_values(self) -> None:
        """Say which of the values that a person gave a meaning no cell holds."""
        unused = sorted(chosen_states(self.reading).keys() - self.values.seen)
        if unused:
            self.rows.note(f"no cell says {', '.join(unused)}, to which --present, --absent or --unknown gives a meaning")


def _object_flags(cell: Any) -> dict[str, Any]:
    """Return the classes and flags of a cell that is an object, in which null is unknown; empty for another cell."""
    flags = flags_in(opened_cell(cell)) if isinstance(cell, dict) or (isinstance(cell, str) and cell[:1] == "{") else None
    return {name: "?" if flag is None else flag for name, flag in (flags or {}).items()}


def _refuse_other_columns(tables: Sequence[_Table], rows: LabelRows) -> None:
    """Raise unless the columns of classes are those that were listed, or those of the first table: others would count as 0."""
    path, own = tables[-1].path, [name for _, name in tables[-1].columns.flags]
    expected = [name for _, name in tables[0].columns.flags]
    if rows.fixed and own:
        expected = list(rows.listed)
    lacking = [name for name in expected if name not in own]
    more = [name for name in own if name not in expected]
    if lacking or more:
        what = f"no column of the class {lacking[0]!r}" if lacking else f"a column of the class {more[0]!r}"
        others = "the list of classes" if rows.fixed else str(tables[0].path)
        verb = "has" if lacking else "has not, or left blank"
        raise DataError(
            f"{path} has {what}, which {others} {verb}. Give all the same columns; ? in a cell says that nobody knows."
        )


def _text(path: Path, image_column: str) -> Opened:
    """Open a delimited text file."""
    first = [line for _, line in islice(read_lines(path), SNIFFED)]
    layout = find_layout(first, image_column)
    if layout is None:
        if not any(line.strip() for line in first):
            raise DataError(f"{path} is empty. Give a table with a row per image.")
        if looks_like_image(first[0]):
            raise DataError(f"{path} lists images and no labels. Write their labels behind them: a.jpg,cat,dog.")
        raise DataError(
            f"{path} has no column of images: neither a header such as image,labels nor paths that end in .jpg, .png or the "
            "like. Name the column of images in a header."
        )
    delimiter, has_header = layout
    body = csv_rows(path, delimiter)
    if delimiter == " " and _is_after_space(first[has_header:]) and (not has_header or len(first[0].split()) == 2):
        body = ((number, line.split(None, 1)) for number, line in read_lines(path) if line.strip())
    return Opened([str(cell).strip() for cell in next(body)[1]] if has_header else None, body)


def _is_after_space(lines: Sequence[str]) -> bool:
    """Return True if labels with a mark between them stand behind the first space: a.jpg traffic light, dog."""
    lines = [line for line in lines if line.strip()]
    marked = any(mark in line for line in lines for mark in (",", ";", "|"))
    return marked and all(looks_like_image(line.split()[0]) and '"' not in line for line in lines)


def csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    """Yield the rows of a delimited text that are not blank, with their numbers.

    Raises:
        DataError: a row cannot be read.
    """
    escaped = False  # a cell of the row may be one of `to_cell`

    def lines() -> Iterator[str]:
        nonlocal escaped
        for _, line in read_lines(path):
            escaped = escaped or "'" in line
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            if escaped:
                row, escaped = [*map(from_cell, row)], False
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}, row {reader.line_num} cannot be read as a table ({error}). Mend the row.") from None


def find_layout(lines: Iterable[str], image_column: str = "") -> tuple[str, bool] | None:
    """Return the delimiter and whether the first row is a header; None if no cell is an image, or such a column."""
    lines = [line for line in lines if line.strip()]
    tables: dict[str, list[list[str]]] = {}
    for delimiter in BETWEEN_CELLS:
        rows: list[list[str]] = []
        with suppress(csv.Error):  # in a later row: what reads them all says where
            rows.extend(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
        if any(len(row) > 1 for row in rows):
            tables[delimiter] = rows
    for delimiter, rows in tables.items():
        image = next(filter(looks_like_image, rows[0]), None)
        if image is not None and all(looks_like_image(cell_at(row, rows[0].index(image))) for row in rows):
            return delimiter, False
    for delimiter, rows in tables.items():
        if len(rows[0]) > 1 and any(map(looks_like_image, rows[0])) and delimiter != " ":  # or it is prose that begins with one
            return delimiter, False
        if len(rows[0]) > 1 and _is_header(rows, delimiter):
            return delimiter, True
    named = (delimiter for delimiter, rows in tables.items() if image_column and image_column in map(str.strip, rows[0]))
    return next(((delimiter, True) for delimiter in named), None)


def _is_header(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Return True if the first row names a column of images; between spaces the first, for prose speaks of images as well."""
    named = find_column(rows[0], IMAGE_COLUMNS)
    if named is not None and (delimiter != " " or named == 0):
        return True
    return any(looks_like_image(cell) for row in rows[1:2] for cell in row)


def _parquet(path: Path) -> Opened:
    """Open a Parquet file, with the class names that the Hugging Face library put into it."""
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        for field in schema:
            if pa.types.is_struct(field.type) and field.name in IMAGE_COLUMNS:
                raise DataError(
                    f"{path} holds the images themselves in column {field.name}. Save them as files and give their paths."
                )
        names = class_names(schema)
        return Opened(list(schema.names), _parquet_rows(file, path, names), names, nulls=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet ({str(error)[:200]}). Write it again.") from None


def _parquet_rows(file: pq.ParquetFile, path: Path, names: Mapping[str, tuple[str, ...]]) -> Iterator[Row]:
    number = 0
    for batch in parquet_batches(file, path):
        columns = (_cells(column, names.get(name, ())) for name, column in zip(batch.schema.names, batch.columns, strict=True))
        for row in zip(*columns, strict=True):
            number += 1
            yield number, row


def parquet_batches(file: pq.ParquetFile, path: Path, size: int = 1 << 16) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file, `size` at a time.

    Raises:
        DataError: the file is damaged, or a text in it is not UTF-8.
    """
    row = 0
    try:
        for batch in file.iter_batches(size):
            batch.validate(full=True)  # or texts that are not UTF-8 raise later
            yield batch
            row += len(batch)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}, after row {row} cannot be read as Parquet ({str(error)[:200]}). Fetch it again.") from None


def _cells(column: pa.Array, names: tuple[str, ...]) -> Sequence[Any]:
    """Return the cells of a column, each number of a class as its name; one that is missing is blank unless it were a list.

    The Hugging Face library writes -1 where the label of a test set is kept secret.
    """
    cells: list[Any] = column.to_pylist()
    if pa.types.is_map(column.type):
        return [cell and dict(cell) for cell in cells]
    if pa.types.is_nested(column.type):
        return [None if cell == [-1] else cell for cell in cells] if names else cells
    flags = all(map(flag_of, names))  # no, yes
    named: dict[Any, Any] = {number: name if flags else [name] for number, name in enumerate(names)}
    named |= {None: ""} | ({-1: None} if names else {})
    return [named.get(cell, cell) for cell in cells] if names or column.null_count else cells


def class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the names of classes that the Hugging Face library put into the metadata, by the column of their numbers."""
    with suppress(ValueError, KeyError, AttributeError, TypeError):
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: names for name, feature in features.items() if (names := _names_in(feature))}
    return {}


def _names_in(feature: Any) -> tuple[str, ...]:
    """Return the names of the classes of a feature: of a class, a list of them, or the objects of an image."""
    if isinstance(feature, list):
        return _names_in(feature[0]) if feature else ()
    if not isinstance(feature, dict):
        return ()
    if isinstance(feature.get("names"), list):
        return tuple(map(str, feature["names"]))
    return next((names for key in ("feature", *LIST_KEYS, *NAME_KEYS) if (names := _names_in(feature.get(key)))), ())
