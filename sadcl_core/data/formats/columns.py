"""The one decision about columns: which holds images, splits, labels, a class, or something about the image.

A column has its role for a reason: a person named it, it has a usual name, or its cells leave no other. Columns of 1 and
0 are classes where most columns are such; where two readings are possible, an error shows both and the option that chooses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from shlex import quote
from typing import Any, NoReturn

from sadcl_core.data.formats.cells import BLANK, USUAL, VALUE, chosen_states, find_vector, flag_of
from sadcl_core.data.formats.locate import ADDRESS
from sadcl_core.data.formats.source import NUMBERED_SPLITS, SPLIT_NAMES, Reading, split_name
from sadcl_core.data.interpretation import Column, Role
from sadcl_core.data.tables import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    cell_at,
    cell_text,
    column_word,
    find_column,
    is_filled,
    looks_like_image,
    number_of,
)
from sadcl_core.errors import DataError

SURELY_SPLIT = ("split", "split_name")  # whatever words they hold
SPLIT = (*SURELY_SPLIT, "set", "subset", "partition", "usage", "phase", "ml_use")
IS_SPLIT = re.compile(r"i[sn]_?(train|test|val)(?:ing|id|idation)?(?:_?set)?$")  # 1: the image is in it
BESIDE = {"train": "test", "test": "train", "val": "train"}  # the split of the other images
UNKNOWN = ("unknown", "unknown_labels")
REJECTED = frozenset(("reject", "rejected", "ignore", "ignored", "skip", "skipped", "declined"))  # of the labels of a row
VALUES = ("scores", "confidences", "probabilities", "probs", "values")  # of the labels in a cell
VERDICTS = REJECTED | {"accept", "accepted", "approve", "approved", "pending", ""}
GROUP = re.compile(
    r"(?:patient|subject|participant|scene|site|hospital|study|series|sequence|video|clip|session|group|case|location|family|"
    r"photographer|wsi|specimen)(?:_?(?:id|no|nr|number|name|uid|index))?|(?:study|series)_?instance_?uid|"
    r"(?:lesion|animal|individual|person|user|owner|slide|plot|tree|flight|recording|film|movie|burst|trip|camera|eye|plate|dog|cat|cow)"
    r"_?(?:id|no|nr|number|name|uid|index)"
)
ORIGIN = r"source|licen[cs]e|copyright|credit|comments?|remarks?|notes?|author"  # of the image, and what people wrote of it
ABOUT = re.compile(  # names of columns that are about the image, whatever they hold
    r"|index|id|idx|uid|uuid|unnamed:.*|__index_level_\d+__|.*_(?:id|idx|index|uid|uuid)|(?:image|region|file|annotation)_?id|.*#|"
    r"(?:.*_)?(?:sex|gender|age)|fold|k_?fold|(?:.*_)?(?:width|height)|(?:.*_)?file_?size|(?:num|n|number_of|count_of)_.*|(?:.*_)?count|"
    r"(?:.*_)?(?:annotators?|raters?|labell?ers?|annotated_by|labell?ed_by|reviewed_by|created_by)|"
    r"(?:.*_)?(?:confidence|confidences|probability|certainty)|"
    r"(?:.*_)?(?:timestamp|created|updated|date|lead_time|datetime)|.*_at|(?:.*_)?(?:url|md5|sha\d+|checksum)|"
    f"{ORIGIN}|"
    r"x_?min|x_?max|y_?min|y_?max|bbox.*|area|latitude|longitude|lat|lon|lng"
)
MEASURE = re.compile(  # those of ABOUT that would not be told by 1 and 0, so that such a column may be a class: date, area
    r"(?:.*_)?(?:width|height|file_?size|timestamp|created|updated|date|lead_time|datetime|url|checksum)|bbox|area|latitude|longitude|"
    f"{ORIGIN}"
)
DOUBTFUL = re.compile(  # of a class as well as of a fact about the image
    r"(?:is_?)?(?:visible|occluded|truncated|difficult|crowd|group_?of|depiction|inside|verified|reviewed|checked|approved|valid|usable|val|test|"
    r"flag|flagged|ignore|ignored|hard|corrupted|duplicate|(?:un)?labell?ed|annotated|synthetic|augmented|public|batch|version|year|month|"
    r"hour|weight|rating|rank|priority|total|quality|skip|done|status|order|page|row)"
)
UNLABELLED = ("unlabeled", "unlabelled", "no_label", "no_labels")  # as Roboflow calls the column of images without a class
NUMBERED = re.compile(rf"(?:{'|'.join(LABEL_COLUMNS)})_?\d+")  # of several columns with a label each
DATE = re.compile(r"\d{4}[-/.]\d\d?[-/.]\d\d?(?!\d)")
NUMBERS = re.compile(r"\d+(?:[ ,;|]+\d+)*")
SIDES = 4  # numbers of a box
FEW = 4  # rows that may happen to be numbered
SHOWN = 200  # characters of names in an error
WORDS = 8  # different texts of a column of splits or verdicts
SURE = frozenset(("1", "0"))
SINGLE: tuple[Role, ...] = ("image", "split", "unknown", "value")  # roles that one column has
Row = tuple[int, Sequence[Any]]


@dataclass(frozen=True)
class Columns:
    """Numbers of columns; None where there is none.

    Attributes:
        image: of the images.
        split: of the splits.
        unknown: of unknown labels.
        labels: cells of labels.
        rest: from here on every cell is one of labels.
        flags: one column per class: its number and the class.
        value: of a table of one label a row: whether it is present.
        group: of what holds images together.
        width: cells that every row has.
        vector: length of the vectors of 0 and 1 in the cells of labels; 0 for other cells.
        joined: the cell of the image ends in its class: ID_1_epidural.
        split_words: splits by the cells of their column, where these are not names of splits.
        roles: what each column was read as, and why.
        counts: of what `flag_of` returns for the cells of classes.
    """

    image: int
    split: int | None = None
    unknown: int | None = None
    labels: tuple[int, ...] = ()
    rest: int | None = None
    flags: tuple[tuple[int, str], ...] = ()
    value: int | None = None
    group: int | None = None
    width: int = 0
    vector: int = 0
    joined: bool = False
    split_words: dict[str, str] = field(default_factory=dict)
    roles: tuple[Column, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)


def find_columns(
    header: list[str] | None,
    head: list[Row],
    path: Path,
    reading: Reading,
    listed: Sequence[str] = (),
    *,
    ragged: bool = True,
    numbered: Collection[str] = (),
) -> Columns:
    """Identify the columns of a table by its header, if it has one, its first rows, and the choices of a person.

    Names of classes may be listed elsewhere. In a ragged table the last cell of labels goes on in the cells after it. The
    file may say of a column that it is `numbered`, and holds numbers of classes.

    Raises:
        DataError: no column holds images or labels, or it cannot be decided which do.
    """
    if not head:
        raise DataError(f"{path} has a header and no row. Give a table with a row per image.")
    if header is None:
        for option in ("label_column", "image_column", "split_column"):
            if getattr(reading, option) not in ("", "none"):
                raise DataError(f"{path} has no header, so no column has a name. Leave --{option.replace('_', '-')} out.")
        return _Headerless(head, path, reading, listed).columns()
    return _Named(header, head, path, reading, listed, ragged=ragged, numbered=numbered).columns()


class _Columns:
    """Roles of columns in the making; a column that has one is not considered for another."""

    def __init__(self, head: list[Row], path: Path, reading: Reading, listed: Sequence[str]) -> None:
        self.head, self.path, self.reading, self.listed = head, path, reading, listed
        self.numbered: frozenset[int] = frozenset()
        self.reasons: dict[int, tuple[Role, str]] = {}
        self._profiles: dict[int, _Profile] = {}
        self.words = frozenset(chosen_states(reading))

    def profile(self, k: int) -> _Profile:
        """Return what the cells of a column hold."""
        if k not in self._profiles:
            texts: Counter[str] = Counter()
            cells = [cell_at(row, k) for _, row in self.head]
            for cell, count in Counter(cells if all(map(isinstance, cells, repeat(str))) else map(cell_text, cells)).items():
                texts[cell_text(cell).lower()] += count
            self._profiles[k] = _Profile(texts, self.words, self.reading.threshold)
        return self._profiles[k]

    def numbers_rows(self, k: int) -> bool:
        """Return True if a column counts the rows, as an index does."""
        first = cell_text(cell_at(self.head[0][1], k))
        if first not in ("0", "1") or len(self.head) <= FEW:
            return False
        return all(cell_text(cell_at(row, k)) == str(number) for number, (_, row) in enumerate(self.head, int(first)))

    def is_numbers(self, k: int) -> bool:
        """Return True if every cell of a column that is filled in is a number, and some are neither 0 nor 1 nor blank."""
        texts = [text for _, row in self.head if (text := cell_text(cell_at(row, k)))]
        return all(number_of(text) is not None for text in texts) and not (texts and self.profile(k).is_flags)

    def holds_lists(self, k: int) -> bool:
        """Return True if the first cell of a column is a list or an object."""
        return isinstance(cell_at(self.head[0][1], k), (list, dict))

    def is_dates(self, k: int) -> bool:
        """Return True if every cell of a column begins with a date."""
        return all(DATE.match(cell_text(cell_at(row, k))) for _, row in self.head)

    def give(self, k: int, role: Role, reason: str) -> None:
        """Give a column its role."""
        self.reasons[k] = (role, reason)

    def of(self, role: Role) -> list[int]:
        """Return the columns that have a role."""
        return sorted(k for k, (own, _) in self.reasons.items() if own == role)

    def result(self, header: Sequence[str], classes: Sequence[str], width: int, rest: int | None, **more: Any) -> Columns:
        """Return the columns by their roles; from `rest` on cells of labels are not columns but the rest of each row."""
        image, split, unknown, value = (next(iter(self.of(role)), None) for role in SINGLE)
        assert image is not None, "of every table one column is that of the images"
        flags, labels = self.of("class"), tuple(k for k in self.of("labels") if rest is None or k < rest)
        return Columns(
            image=image,
            split=split,
            unknown=unknown,
            labels=labels,
            rest=rest,
            flags=tuple(zip(flags, classes, strict=True)),
            value=value,
            width=width,
            vector=0 if flags or value is not None else self.vector(labels, rest, width),
            roles=tuple(Column(header[k] or f"column {k + 1}", *self.reasons[k]) for k in sorted(self.reasons)),
            counts=sum((self.profile(k).flags for k in (flags if value is None else [value])), Counter[str]()),
            **more,
        )

    def vector(self, labels: Sequence[int], rest: int | None, width: int) -> int:
        """Return the length of the vectors in the cells of labels; 0 for other cells."""
        filled: list[tuple[int, Any]] = []
        for row, cells in self.head:
            own = label_cells(cells, labels, rest) if len(cells) >= width else []
            if any(map(is_filled, own)):
                filled.append((row, own[0] if len(own) == 1 else own))
        return find_vector(filled, str(self.path), numbers=not self.numbered.isdisjoint(labels))


class _Profile:
    """Contents of the cells of one column.

    Attributes:
        flags: counts of what `flag_of` returns.
        words: the texts, in lower case, if they are few.
        other: a text that is neither a flag nor a fraction; None without one.
        sure: a cell says 1 or 0 in so many words, not by a letter.
        fraction: a number between 0 and 1; None without one.
    """

    def __init__(self, texts: Counter[str], words: frozenset[str], threshold: float | None) -> None:
        self.flags: Counter[str] = Counter()
        self.other: str | None = None
        self.fraction: str | None = None
        self.distinct = len(texts)
        self.words = frozenset(texts) if len(texts) <= WORDS else frozenset()
        self.lists = bool(texts)  # every text is a list of whole numbers, or one of them
        self.sure = False
        for text, count in texts.items():
            flag = flag_of(text, words)
            if flag:
                self.flags[flag] += count
                self.sure = self.sure or ((flag in SURE or flag not in USUAL) and text not in ("y", "n", "t", "f"))
                continue
            number = number_of(text)
            self.lists = self.lists and NUMBERS.fullmatch(text) is not None
            if number is None or not 0 < number < 1:
                self.other = text if self.other is None else self.other
            elif threshold is None:
                self.fraction = self.fraction or text
            else:
                self.flags["1" if number >= threshold else "0"] += count

    @property
    def is_flags(self) -> bool:
        """True if every cell is a flag, and one says 1, 0, -1 or a word that a person gave a meaning."""
        return self.other is None and self.fraction is None and bool(set(self.flags) - {BLANK, "?"})

    @property
    def below_one(self) -> str:
        """A cell below 1 of a column of flags and fractions; empty without one, and for a column of other things."""
        return "" if self.other is not None else (self.fraction or ("0" if self.flags["0"] else ""))

    @property
    def names_splits(self) -> bool:
        """True if every cell that is filled in is the name of a split, of several that occur."""
        splits = {split_name(word) for word in self.words} - {""}
        return len(splits) > 1 and splits <= set(SPLIT_NAMES.values())

    @property
    def is_unknown(self) -> bool:
        """True if all cells that are filled in say that nobody knows."""
        return self.other is None and self.fraction is None and set(self.flags) - {BLANK} == {"?"}

    @property
    def says_nothing(self) -> bool:
        """True if all cells are blank or unknown."""
        return self.other is None and self.fraction is None and set(self.flags) <= {BLANK, "?"}

    @property
    def is_partly_flags(self) -> bool:
        """True if some cells say 1 or 0, and others are numbers, fractions or texts."""
        several = self.lists and self.other is not None and not self.other.isdecimal()
        return (self.sure and not self.is_flags and not several) or (self.fraction is not None and self.other is None)


class _Named(_Columns):
    """Columns of a table with a header."""

    def __init__(
        self,
        header: list[str],
        head: list[Row],
        path: Path,
        reading: Reading,
        listed: Sequence[str],
        *,
        ragged: bool,
        numbered: Collection[str],
    ) -> None:
        super().__init__(head, path, reading, listed)
        self.header, self.ragged = header, ragged
        self.numbered = frozenset(k for k, name in enumerate(header) if name in numbered)
        twice = next((name for number, name in enumerate(header) if name and name in header[:number]), None)
        if twice is not None:
            raise DataError(f"{path}: the header names {twice!r} twice. Rename one of the columns.")

    def columns(self) -> Columns:
        """Return the columns."""
        image = self._image()
        words = self._split()
        group = self._group()
        unknown = find_column(self.header, UNKNOWN)
        unknown = None if unknown in self.reasons else unknown
        joined = self._labels(image, unknown)
        for k, name in enumerate(self.header):
            about = "its name is that of a fact about images" if _is_about(name) else "no label"
            self.reasons.setdefault(k, ("unknown", "its name is a usual one") if k == unknown else ("metadata", about))
        width = len(self.header)
        rest = width if self.ragged and self.of("labels") == [width - 1] else None  # a list that was not quoted
        return self.result(
            self.header, [self.header[k] for k in self.of("class")], width, rest, group=group, joined=joined, split_words=words
        )

    def _named(self, name: str, option: str) -> int:
        """Return the column that a person named, exactly or else without regard to case and spaces."""
        alike = find_column(self.header, [column_word(name)]) if name not in self.header else self.header.index(name)
        if alike is None:
            shown = ", ".join(self.header)[:200]
            more = ", or put what it is to capture of the paths in parentheses: '(p\\d+)'" if option == "--group-by" else ""
            raise DataError(f"{self.path} has no column '{name}', only {shown}. Check {option}{more}.")
        return alike

    def _image(self) -> int:
        """Return the column of images: of those whose cell is a path the one with a usual name, else any; else a usual name."""
        if self.reading.image_column:
            k = self._named(self.reading.image_column, "--image-column")
            self.give(k, "image", "--image-column")
            return k
        first = self.head[0][1]
        paths = [k for k in range(len(self.header)) if looks_like_image(cell_at(first, k))]
        here = [k for k in paths if not ADDRESS.match(str(first[k]).strip())] or paths
        among = find_column([self.header[k] for k in here], IMAGE_COLUMNS)
        named = find_column(self.header, IMAGE_COLUMNS)
        if len(here) > 1 and among is None:
            shown, first = ", ".join(self.header[j] for j in here)[:200], quote(self.header[here[0]])
            raise DataError(f"{self.path}: columns {shown} hold paths of images. Say which: --image-column {first}.")
        for k in paths:
            self.give(k, "metadata", "it holds paths of images as well")
        if here:
            k, reason = here[among or 0], "it holds paths of images"
        elif named is not None:
            k, reason = named, "its name is a usual one"
        else:
            shown = ", ".join(self.header)[:200]
            raise DataError(f"{self.path} has no column of images ({shown}). Say which it is: --image-column NAME.")
        self.give(k, "image", reason if among is None else "its name is a usual one and it holds paths of images")
        return k

    def _split(self) -> dict[str, str]:
        """Choose the column of splits, and return splits by its cells where these are not names of splits."""
        if self.reading.split_column == "none":
            return {}
        reason = "--split-column"
        if self.reading.split_column:
            k: int | None = self._named(self.reading.split_column, "--split-column")
        else:
            k, reason = find_column(self.header, SPLIT), "its name is a usual one"
            flagged = [j for j, name in enumerate(self.header) if IS_SPLIT.match(column_word(name)) and self.profile(j).is_flags]
            k = flagged[0] if k is None and len(flagged) == 1 else k
            k, reason = (self._of_splits(), "it holds names of splits") if k is None else (k, reason)
        if k is None or k in self.reasons:
            return {}
        self._refuse_other_words(k, reason)
        self.give(k, "split", reason)
        word = column_word(self.header[k])
        match = IS_SPLIT.match(word) or IS_SPLIT.match(f"is_{word}")
        if match and self.profile(k).is_flags:
            return {"1": match[1], "0": BESIDE[match[1]]}
        values = set(self.profile(k).flags) if self.profile(k).other in (None, "2") else set()
        if column_word(self.header[k]) == "partition" and values and self.profile(k).other == "2":
            return NUMBERED_SPLITS
        if values & SURE and not reason.startswith("--"):
            raise DataError(
                f"{self.path}: column {self.header[k]!r} names splits, but holds numbers such as {min(values & SURE)}. Write "
                "train, val and test into it, or say --split-column none if it is something else."
            )
        return {}

    def _of_splits(self) -> int | None:
        """Return the only column that holds names of splits, whatever it is called."""
        own = (self.reading.group_by, self.reading.label_column, *self.reading.classes)
        free = (k for k, name in enumerate(self.header) if k not in self.reasons and name not in own)
        named = [k for k in free if not self.holds_lists(k) and self.profile(k).names_splits]
        if len(named) > 1:
            shown, example = ", ".join(self.header[k] for k in named)[:200], quote(self.header[named[0]])
            raise DataError(
                f"{self.path}: columns {shown} hold names of splits. Say --split-column {example}, or --split-column none."
            )
        return named[0] if named else None

    def _refuse_other_words(self, k: int, reason: str) -> None:
        """Raise if a column of a name that others have as well, such as usage or set, holds no word that names a split."""
        profile, name = self.profile(k), self.header[k]
        word, names = column_word(name), {*SPLIT_NAMES.values(), ""}
        if reason.startswith("--") or word in SURELY_SPLIT or any(split_name(text) in names for text in profile.words):
            return
        if profile.other is None or (word == "partition" and profile.other == "2"):
            return
        raise DataError(
            f"{self.path}: column {name!r} may name splits, but holds {profile.other[:60]!r} and no train, val or test. Say "
            f"--split-column {quote(name)} if these are splits, or --split-column none."
        )

    def _group(self) -> int | None:
        """Return the column that holds images together: the one a person named, else a likely one whose values come again."""
        if self.reading.group_by:
            k = self._named(self.reading.group_by, "--group-by")
            self.reasons.setdefault(k, ("group", "--group-by"))
            return k
        for k, name in enumerate(self.header):
            word = column_word(name)
            likely = GROUP.fullmatch(word) is not None and (not self.profile(k).is_flags or _is_about(name))
            if k not in self.reasons and likely and 1 < self.profile(k).distinct < len(self.head):
                self.give(k, "group", "its name is that of a group, and values come again")
                return k
        return None

    def _labels(self, image: int, unknown: int | None) -> bool:
        """Choose the column of labels, or those of the classes; return whether the cell of the image ends in its class.

        What a person named comes first; then a column that is called as those of labels are and holds texts; then columns of
        1 and 0, as classes; then the only column that is left.
        """
        free = [k for k in range(len(self.header)) if k not in self.reasons and k != unknown]
        self._refuse_rejected(free)
        if self._chosen(image, free):
            return False
        numbered = [k for k in free if NUMBERED.fullmatch(column_word(self.header[k])) and self.profile(k).other is not None]
        if len(numbered) > 1:
            for k in numbered:
                self.give(k, "labels", "its name is a usual one, with a number")
            return False
        named = self._label_column(free)
        facts = [k for k in free if k != named and not self._is_fact(k) and not self.numbers_rows(k)]
        flags = [k for k in facts if self.profile(k).is_flags]
        if named is not None and not self.profile(named).is_flags:
            self._in_a_cell(named, flags, image, free)
            return False
        if named is not None and not flags:
            self._refuse_second([named, *(k for k in free if k != named and self._is_called_labels(k))])
            return self._of_one_column(named, image)
        named_as_others = [named, unknown if flags and unknown is not None and self.profile(unknown).is_flags else None]
        more = [k for k in named_as_others if k is not None]  # a class called `unknown` or `label` among the others
        facts, flags = sorted([*facts, *more]), sorted([*flags, *more])
        if flags:
            self._classes(facts, flags)
            return False
        self._refuse_second([*facts, *(k for k in self.of("group") if self._may_be_labels(k))] if len(facts) == 1 else [])
        if len(facts) == 1 and not self.profile(facts[0]).is_partly_flags:
            self._refuse_numbers(facts[0])
            self.give(facts[0], "labels", "no other column is left")
            return False
        if len(facts) > 1 and all(self.profile(k).says_nothing for k in facts):
            shown = ", ".join(self.header[k] for k in facts)[:200]
            raise DataError(
                f"{self.path}: no cell of the columns {shown} says whether a class is there: all are blank or unknown."
            )
        if facts and all(self.profile(k).is_partly_flags for k in facts):
            self._refuse_partly(facts[0])
        raise DataError(
            f"{self.path} has no column of labels ({', '.join(self.header)[:200]}). Call it labels, or have one of 1 and 0 per "
            f"class, or say --label-column NAME.{self._hint(facts)}"
        )

    def _refuse_numbers(self, k: int) -> None:
        """Raise if a column of no usual name holds a whole number in each cell: a class, or a measure such as a price."""
        if self.profile(k).other is not None and self.is_numbers(k) and not self.listed and k not in self.numbered:
            name = self.header[k]
            raise DataError(
                f"{self.path}: column {name!r} holds numbers alone, of classes or of something else. Say --label-column "
                f"{quote(name)}, or give the names of the classes with --classes FILE."
            )

    def _refuse_rejected(self, free: Sequence[int]) -> None:
        """Raise if a column says that the labels of some rows were rejected or ignored, as Prodigy does."""
        for k in free:
            words = frozenset[str]() if self.holds_lists(k) else self.profile(k).words
            if words <= VERDICTS and REJECTED & words and self.words.isdisjoint(words):
                raise DataError(
                    f"{self.path}: column {self.header[k]!r} says of some rows that they were rejected or ignored. Take these "
                    "rows out, and the column; or, where it says of the label of its row whether it is there, call it value and "
                    "write 1, 0 and ? into it."
                )

    def _is_fact(self, k: int) -> bool:
        """Return True if a column has the name of a fact about the image, and may hold one."""
        measure = self.profile(k).is_flags and MEASURE.fullmatch(column_word(self.header[k])) is not None
        return _is_about(self.header[k]) and not measure

    def _may_be_labels(self, k: int) -> bool:
        """Return True if a likely group may be one of labels as well: a scene such as `road`, no scene 12."""
        other = self.profile(k).other or ""
        return column_word(self.header[k]) in ("scene", "location", "family", "site", "group") and other.isalpha()

    def _hint(self, columns: Sequence[int]) -> str:
        """Return how a column that may be meant as a class can be read as one; blank without such a column."""
        texts = {k: frozenset(cell_text(cell_at(row, k)) for _, row in self.head) for k in columns}
        for k in columns:
            other, name = self.profile(k).other, self.header[k]
            if other is not None and re.fullmatch(r"[01],\d+", other):
                return f" If {other} in column {name!r} is a number, say --decimal ,."
            if other is not None and 1 < len(texts[k]) <= FEW and sum(own <= texts[k] for own in texts.values() if any(own)) > 1:
                shown = " and ".join(repr(text)[:30] if text else BLANK for text in sorted(texts[k], reverse=True))
                return (
                    f" If {shown} in column {name!r} say of a class whether it is there, say what each means, with --present, "
                    "--absent and --unknown."
                )
        return ""

    def _chosen(self, image: int, free: Sequence[int]) -> bool:
        """Choose the columns that a person named as labels or classes; return False if none were named."""
        if self.reading.label_column:
            name = self.reading.label_column
            columns = [
                self._named(one, "--label-column") for one in ([name] if name in self.header else map(str.strip, name.split(",")))
            ]
            for k in columns:
                if self.reasons.get(k, ("",))[0] in ("image", "split"):
                    name = self.header[k]
                    raise DataError(f"{self.path}: column {name!r} holds images or splits, not labels. Check --label-column.")
                self.give(k, "labels", "--label-column")
            if len(columns) == 1 and not self._value(image, k, free) and self.profile(k).is_flags and len(self.listed) < 2:
                raise _one_class_or_two(self.path, self.header[k], self.profile(k).flags, self._classes_option([k]))
            return True
        named = [k for k, name in enumerate(self.header) if k != image and name in self.reading.classes]
        own = [k for k in named if self.header[k] != self.reading.split_column]
        for k in own:
            self.give(k, "class", "named in --classes")
        return bool(own)

    def _label_column(self, free: Sequence[int]) -> int | None:
        """Return the column called as those of labels are, else the only one whose last word is such a name."""
        named = find_column([self.header[k] for k in free], LABEL_COLUMNS)
        if named is not None:
            called = [k for k in free if self._is_called_labels(k)]
            self._refuse_second(called if free[named] in called else [])
            return free[named]
        matches = [k for k in free if column_word(self.header[k]).rpartition("_")[2] in LABEL_COLUMNS]
        matches = [k for k in matches if not self.profile(k).says_nothing]
        self._refuse_second([k for k in matches if self.profile(k).other is not None])
        return matches[0] if len(matches) == 1 else None

    def _is_called_labels(self, k: int) -> bool:
        """Return True if a column is called as those of labels are and holds texts."""
        return column_word(self.header[k]) in LABEL_COLUMNS and self.profile(k).other not in (None, "[]", "{}")

    def _refuse_second(self, columns: Sequence[int]) -> None:
        """Raise if each of several columns may hold the labels."""
        if len(columns) > 1:
            names = [self.header[k] for k in columns]
            shown, example = ", ".join(names)[:200], quote(names[-1])
            several = f", or several of them: --label-column {quote(','.join(names[:2]))}" if "," not in "".join(names) else ""
            raise DataError(f"{self.path}: columns {shown} may hold the labels. Say which: --label-column {example}{several}.")

    def _in_a_cell(self, labels: int, flags: list[int], image: int, free: Sequence[int]) -> None:
        """Choose the column of labels unless there are as good columns of classes beside it, or one of 1 and 0 for a split."""
        for k in flags if not (self.of("split") or self.reading.split_column) else ():
            if IS_SPLIT.match(f"is_{column_word(self.header[k])}"):
                name = quote(self.header[k])
                raise DataError(
                    f"{self.path}: column {self.header[k]!r} may say which images a split has. Say --split-column {name} if it "
                    "does, or --split-column none."
                )
        values = find_column([self.header[k] for k in free], VALUES)
        if values is not None and self.profile(free[values]).other is not None:
            raise DataError(
                f"{self.path}: column {self.header[free[values]]!r} may hold a value for each label of its row. Write objects "
                f'such as {{"cat": 0.9}} into column {self.header[labels]!r}, with --threshold 0.5, or say --label-column '
                f"{quote(self.header[labels])} if all labels are present."
            )
        if not self._value(image, labels, free) and len(flags) > 1:
            shown = ", ".join(self.header[k] for k in flags)[:200]
            raise DataError(
                f"{self.path}: labels are in column {self.header[labels]!r}, or columns of 1 and 0 are the classes ({shown}). "
                f"Say --label-column {self.header[labels]!r}, or with {self._classes_option(flags)} which columns are classes."
            )
        self.give(labels, "labels", "its name is a usual one")

    def _value(self, image: int, labels: int, free: Sequence[int]) -> bool:
        """Choose the column that says 1 or 0 of the label of each row, in a table of one label a row."""
        named = find_column([self.header[k] for k in free], VALUE)
        value = None if named is None or free[named] == labels else free[named]
        if value is None:
            if self.reading.long:
                self._refuse_flags(labels, free)
            return False
        several = self.profile(image).distinct < len(self.head)
        low = self.profile(value).below_one
        if several or self.reading.long or (low and self.reading.threshold is not None):
            self.give(value, "value", "its name is that of the value of a label")
            return True
        if low and not self.reading.label_column:
            raise DataError(
                f"{self.path}: column {self.header[value]!r} may say of each label whether it is there, and holds {low}. Say "
                f"--long if it does, with --threshold 0.5 for fractions, or --label-column {quote(self.header[labels])} if all "
                "labels are present."
            )
        return False

    def _refuse_flags(self, labels: int, free: Sequence[int]) -> None:
        """Raise if a column beside the labels says 1 or 0 of each: labels with 0 would be read as present."""
        for k in free:
            if k != labels and not _is_about(self.header[k]) and (self.profile(k).is_flags or self.profile(k).fraction):
                raise DataError(
                    f"{self.path}: column {self.header[k]!r} says 1 or 0 of each label. Call it value if 0 means that the "
                    "label is absent, else leave it out."
                )

    def _of_one_column(self, k: int, image: int) -> bool:
        """Choose the roles where one column of 1 and 0 is all there is: of rows IMAGE_CLASS, or of a class; see `_labels`."""
        if self._are_joined(image):
            self.give(image, "image", "its cells end in the class")
            self.give(k, "value", "1 or 0 of the class that the cell of the image ends in")
            return True
        name = self.header[k]
        if len(self.listed) > 1:  # numbers of classes
            self.give(k, "labels", "its name is a usual one, and classes are listed")
            return False
        raise _one_class_or_two(self.path, name, self.profile(k).flags, self._classes_option([k]))

    def _are_joined(self, image: int) -> bool:
        """Return True if the cells of images are every combination of an image and a class: ID_1_any, ID_1_epidural, ID_2_any."""
        pairs = [cell_text(cell_at(row, image)).rpartition("_") for _, row in self.head]
        images, classes = {pair[0] for pair in pairs}, {pair[2] for pair in pairs}
        count = len({(pair[0], pair[2]) for pair in pairs})
        full = (len(images) - 1) * len(classes) < count <= len(images) * len(classes)
        return full and "" not in images and 1 < len(classes) < len(images) and not any(map(str.isdecimal, classes))

    def _classes(self, facts: list[int], flags: list[int]) -> None:
        """Choose the columns of classes, if most columns are such and none is doubtful."""
        partly = [k for k in facts if k not in flags and self.profile(k).is_partly_flags]
        rest = [k for k in facts if k not in flags and k not in partly and not self.profile(k).is_unknown]
        rest = [k for k in rest if set(self.profile(k).flags) != {BLANK} or self.profile(k).other is not None]
        unlabelled = next((k for k in flags if column_word(self.header[k]) in UNLABELLED), None)
        if unlabelled is not None and self._says_none_is_there(unlabelled, flags):
            self.give(unlabelled, "metadata", "it is 1 where no class is there, and such images count as without labels")
            facts, flags = ([k for k in columns if k != unlabelled] for columns in (facts, flags))
        doubtful = [k for k in flags if DOUBTFUL.fullmatch(column_word(self.header[k])) or _is_about(self.header[k])]
        if doubtful and len(doubtful) < len(flags):
            self._ask(flags, doubtful, "may be classes, or facts about the images")
        if partly:
            self._refuse_partly(partly[0])
        if len(rest) > len(flags):
            shown = ", ".join(self.header[k] for k in rest)[:100]
            self._ask(flags, [], f"hold 1 and 0, but most columns do not ({shown})", self._hint(rest))
        for k in facts:
            if k in flags or self.profile(k).is_unknown:
                self.give(k, "class", "it holds 1 and 0, as most columns do" if k in flags else "all its cells are unknown")

    def _says_none_is_there(self, column: int, flags: Sequence[int]) -> bool:
        """Return True if one of several columns of 1 and 0 is 1 where all others are 0, and only there."""
        others = [k for k in flags if k != column]
        present = ([flag_of(cell_at(row, k), self.words) == "1" for k in (column, *others)] for _, row in self.head)
        return bool(others) and all(own != any(rest) for own, *rest in present)

    def _ask(self, flags: Sequence[int], doubtful: Sequence[int], why: str, hint: str = "") -> NoReturn:
        """Raise with both readings of some columns of 1 and 0."""
        names = [self.header[k] for k in doubtful or flags]
        about = [
            name
            for k, name in enumerate(self.header)
            if name not in ("", *names) and _is_about(name) and self.profile(k).is_flags
        ]
        beside = f" (as {', '.join(about)[:100]} are)" if about else ""
        raise DataError(
            f"{self.path}: columns {', '.join(names)[:200]} {why}{beside}. Say which are classes: "
            f"{self._classes_option([k for k in flags if k not in doubtful] or flags)}"
            f"{', with or without those' if doubtful else ''}; or --label-column NAME.{hint}"
        )

    def _classes_option(self, columns: Sequence[int]) -> str:
        """Return the option that makes classes of some columns, as a shell takes it."""
        names = ",".join(self.header[k] for k in columns)
        return (
            "--classes FILE" if len(names) > SHOWN or any("," in self.header[k] for k in columns) else f"--classes {quote(names)}"
        )

    def _refuse_partly(self, k: int) -> NoReturn:
        """Raise for a column that is one of 1 and 0 only in part."""
        profile, name = self.profile(k), self.header[k]
        bad = profile.fraction if profile.fraction is not None else profile.other
        row = next(row for row, cells in self.head if cell_text(cell_at(cells, k)).lower() == bad)
        if profile.fraction is not None:
            raise DataError(
                f"{self.path}, row {row}, column {name!r}: {bad} is a fraction, neither 0 or 1 nor unknown. Say --threshold 0.5 "
                "to take fractions from there on as present, or say with --classes which columns are classes."
            )
        raise DataError(
            f"{self.path}, row {row}, column {name!r}: {str(bad)[:60]!r} is not 1, 0, or unknown (blank, -1, ?). Mend the cell, "
            f"say what it means with --present, --absent or --unknown {quote(str(bad)[:60])}, or say with --classes FILE, or "
            "--classes a,b, which columns are classes."
        )


class _Headerless(_Columns):
    """Columns of a table without a header."""

    def columns(self) -> Columns:
        """Return the columns."""
        first = self.head[0][1]
        image = next((k for k, cell in enumerate(first) if looks_like_image(cell)), 0)
        self.give(image, "image", "it holds paths of images")
        width = min(len(row) for _, row in self.head)
        words = [{cell_text(row[k]).lower() for _, row in self.head} for k in range(width)]
        split = next((k for k in range(width) if k != image and words[k] <= {*SPLIT_NAMES, "unassigned"}), None)
        if split is not None:
            self.give(split, "split", "it holds names of splits")
        for k in range(width):
            if k not in self.reasons and self.numbers_rows(k):
                self.give(k, "metadata", "it counts the rows")
        same = all(len(row) == len(first) for _, row in self.head)
        if same:
            self._sides(width)
            self._refuse_measures()
        others = sorted({*range(len(first))} - self.reasons.keys())
        if self.of("metadata") and not others:
            raise DataError(f"{self.path} lists images with their numbers, and no labels. Give the file of labels.")
        last, header = max(self.reasons), [""] * len(first)
        blank = [k for k in others if set(self.profile(k).flags) == {BLANK} and self.profile(k).other is None]
        flags = same and bool(others) and all(self.profile(k).is_flags or k in blank for k in others)
        if flags and not (len(others) == 1 and len(self.listed) > 1):  # numbers of classes
            self._flags(others)
            return self.result(header, self.listed, len(first), None)
        labels = [k for k in others if k < last]
        for k in labels or others:
            self.give(k, "labels", "no other column is left")
        return self.result(header, (), last + 1, None if labels else last + 1)

    def _flags(self, others: Sequence[int]) -> None:
        """Choose columns of 1 and 0 as classes, if there is a name for each."""
        if len(others) == 1 and not self.listed:
            raise _one_class_or_two(self.path, f"column {others[0] + 1}", self.profile(others[0]).flags, "--classes NAME")
        if len(self.listed) != len(others):
            raise DataError(
                f"{self.path} has {len(others)} columns of 1 and 0 and no header to name their classes. Add one, or give "
                "--classes FILE."
            )
        for k in others:
            self.give(k, "class", "it holds 1 and 0, and classes are listed")

    def _refuse_measures(self) -> None:
        """Raise if columns of numbers or dates stand beside others that may be labels, or are as many as the sides of a box."""
        others = [k for k in range(len(self.head[0][1])) if k not in self.reasons]
        numbers = [k for k in others if self.is_numbers(k) or self.is_dates(k)]
        if numbers and not self.listed and (len(numbers) < len(others) or len(numbers) >= SIDES):
            row, cells = self.head[0]
            raise DataError(
                f"{self.path}, row {row}: {cell_text(cells[numbers[0]])[:60]} may be a label, or a measure. Put a header above "
                "the rows that names the columns, such as image,x,y,label."
            )

    def _sides(self, width: int) -> None:
        """Choose the columns of numbers, as those of a box, where there is one column beside them, of its class."""
        others = [k for k in range(width) if k not in self.reasons]
        numbers = [k for k in others if self.is_numbers(k)]
        if len(numbers) >= SIDES and len(others) - len(numbers) == 1:
            for k in numbers:
                self.give(k, "metadata", "numbers, as those of a box beside its class")


def _one_class_or_two(path: Path, name: str, flags: Collection[str], option: str) -> DataError:
    """Return the error for labels that are 1 and 0 alone, with the option for one class."""
    return DataError(
        f"{path}: column {name!r} holds only {' and '.join(sorted(flags))}, so either it says of one class whether it is "
        f"there, or these are two classes. Say {option} for one class, or give the names of both with --classes NAME0,NAME1."
    )


def label_cells(cells: Sequence[Any], labels: Sequence[int], rest: int | None) -> list[Any]:
    """Return the cells of a row that hold labels; see `Columns`."""
    own = [cells[k] for k in labels]
    if rest is None:
        return own
    own += cells[rest:]
    if (
        len(own) > 1 and all(isinstance(cell, str) for cell in own) and own[0][:1] == "[" and own[-1][-1:] == "]"
    ):  # a list that was not quoted
        own = [",".join(own)]
    return own


def _is_about(name: str) -> bool:
    word = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name.strip())
    return any(ABOUT.fullmatch(text) or IS_SPLIT.fullmatch(text) for text in (column_word(name), column_word(word)))
