"""Read the values in cells: what 1, 0, -1 and blanks say of a class, what stands between labels, lists and vectors."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sadcl_core.data.formats import voc
from sadcl_core.data.formats.source import Reading
from sadcl_core.data.tables import cell_text, number_of
from sadcl_core.errors import DataError, UsageError

ACTIVE, INACTIVE, NOT_KNOWN = 1, 0, -1
MEANINGS = {ACTIVE: "present", INACTIVE: "absent", NOT_KNOWN: "unknown"}
BLANK = "blank"
FLAGS = {  # what a cell of a column of classes may say, and how it is written
    **dict.fromkeys(("1", "true", "yes", "y", "t"), "1"),
    **dict.fromkeys(("0", "-0", "false", "no", "n", "f"), "0"),
    "-1": "-1",
    **dict.fromkeys(("?", "unknown"), "?"),
    **dict.fromkeys(("", "nan", "na", "n/a", "<na>", "null", "none"), BLANK),
}
# what blank, 0 and -1 mean: as most write it, and CheXpert; as VOC's lists and CelebA; as tables of marks
USUAL = {"1": ACTIVE, "0": INACTIVE, "-1": NOT_KNOWN, BLANK: NOT_KNOWN, "?": NOT_KNOWN}
SIGNED = {**USUAL, "-1": INACTIVE, "0": NOT_KNOWN}
MARKED = {**USUAL, BLANK: INACTIVE}
FILLED = {**USUAL, "-1": INACTIVE}  # as CheXpert, with what is uncertain as absent
VOC_ALONE = frozenset(("aeroplane", "diningtable", "motorbike", "pottedplant", "tvmonitor"))  # as no other data set writes them

TAGS = re.compile(r"(?:<[^<>]+>)+")  # <cat><dog>
BETWEEN_TAGS = "><"
SEPARATORS = ("|", ";", "；", ",", "，", "、", "\t", " ")  # noqa: RUF001
NEVER_WITHIN = ("|", ";", "；")  # noqa: RUF001 - what hardly ever stands within a label
UNUSUAL = (" and ", " or ", "<br>", r"\n")  # separators that some use, and that are as often within a label
MARKS = re.compile(r"[^\w\s.()\[\]{}'\"<>-]+")  # the same, as are / + & : # and others
JOINTS = ("_", "-", ".")  # the same, where no other separator occurs
WORDS_BETWEEN = ("+", "&", "/", "//", "-", "\N{EN DASH}", ">", "*", "\N{BULLET}", "and", "or", "und")  # labels that are none
PROSE = frozenset(("a", "an", "the", "is", "are", "of", "on", "in", "with"))  # words of sentences
VALUED = re.compile(r"(.+?)\s*[:=(]\s*(\d*\.?\d+|true|false|yes|no)\)?", re.IGNORECASE)  # a label with its value: cat:0.9, cat=no
NEGATED = re.compile(r"(?:[-!~]|not?[ _-])(.+)", re.IGNORECASE)  # -cat, no cat
WRAPPED = re.compile(r"[A-Za-z][\w.]*\((\[.*\]|\{.*\}|\(.*\))(?:,[^\[\](){}]*)?\)", re.DOTALL)  # array([0, 1], dtype=int)
TUPLES = ("('", '("', "()")  # how Python writes lists of texts that are none
QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
QUOTED_LIST = re.compile(r"(?:'[^']*'|\"[^\"]*\")(?:[\s,;|]+(?:'[^']*'|\"[^\"]*\"))*")
NUMPY = re.compile(r"\[\s*(?:'[^']*'|\"[^\"]*\")(?:\s+(?:'[^']*'|\"[^\"]*\"))+\s*\]")  # texts with nothing but space between
EMPTY = ("[]", "()", "{}", "set()")  # lists without a label
MISSING = frozenset(  # how programs write an image without labels
    (
        *("", "nan", "n/a", "null", "<na>", "#n/a", "(null)", "\\n", "[nan]", "[null]", "['']", '[""]'),
        *("frozenset()", "character(0)", "list()", *EMPTY),
    )
)
OF_R = re.compile(r"c\(((?:\"[^\"]*\"|\d+)(?:, ?(?:\"[^\"]*\"|\d+))*)\)")  # c("cat", "dog")
BOXES = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:[\s,;]+-?\d+(?:\.\d+)?){3,}(?![\w.])")  # numbers, as those of a box
MAX_LIST = 1 << 17  # characters of a list that is written out
VALUE = (  # names of what says whether a label is there
    *("confidence", "value", "present", "presence", "is_present", "verified", "score", "probability", "prob", "certainty"),
    *("conf", "positive", "is_positive", "exists"),
)
NAME_KEYS = ("displayName", "name", "label", "tag", "tagName", "category")  # of an object that is one label
LIST_KEYS = ("choices", "labels", "category", "categories")  # of an object that holds labels
OPENED = re.compile(r"\w[\s_]*\([^)]*\w$")  # person (sitting
CLOSED = re.compile(r"\w[^(]*\)")  # standing)
DIGITS = re.compile(r"[01]+")
BETWEEN = re.compile(r"[\s,;|'\"]+")
COMMA = re.compile(r"[^\W_][,;]\s")  # no tag between spaces ends so
BITS = re.compile(r"[01]{3,}")
MARKED_BITS = re.compile(r"[01]([-/:._])[01](?:\1[01])+")


def flag_of(cell: Any, words: Collection[str] = ()) -> str:
    """Return `1`, `0`, `-1`, `?`, `blank` or one of some words for what a cell says of a class; an empty text for another cell.

    Example:
        >>> [flag_of(cell) for cell in ("1.0", False, "-1", None, "nan", "cat", 0.5)]
        ['1', '0', '-1', 'blank', 'blank', '', '']
        >>> [flag_of(cell, ("x", "2")) for cell in ("X", "2.0", "1")]
        ['x', '2', '1']
    """
    text = cell_text(cell).lower()
    if text in words:
        return text
    flag = FLAGS.get(text)
    if flag is None and (number := number_of(text)) is not None:
        text = f"{number:g}"
        flag = text if text in words else FLAGS.get(text)
    return flag or ""


@dataclass
class Values:
    """Meanings of the cells of the columns of classes.

    Attributes:
        states: ACTIVE, INACTIVE or NOT_KNOWN by what `flag_of` returns, and by texts that a person chose.
        threshold: fractions from here on are present, those below absent; None where fractions are refused.
        seen: what `flag_of` returned for the cells that were read.
    """

    states: Mapping[str, int]
    threshold: float | None = None
    seen: set[str] = field(default_factory=set)
    _known: dict[Any, int | None] = field(default_factory=dict)

    def read(self, cell: Any) -> int | None:
        """Return ACTIVE, INACTIVE or NOT_KNOWN; None for another value."""
        try:
            return self._known[cell]
        except (KeyError, TypeError):
            state = self._read(cell)
        if isinstance(cell, (str, int, float)) and len(self._known) < 10_000:
            self._known[cell] = state
        return state

    def read_all(self, cells: Sequence[Any]) -> list[int | None]:
        """Return what `read` returns, for each of some cells."""
        try:
            return list(map(self._known.__getitem__, cells))
        except (KeyError, TypeError):
            return list(map(self.read, cells))

    def _read(self, cell: Any) -> int | None:
        flag = flag_of(cell, self.states)
        if not flag and self.threshold is not None and (number := number_of(cell_text(cell))) is not None and 0 <= number <= 1:
            return ACTIVE if number >= self.threshold else INACTIVE
        self.seen.add(flag)
        return self.states.get(flag)

    def meanings(self, flags: Collection[str], *, below: int = INACTIVE) -> dict[str, str]:
        """Return `present`, `absent` or `unknown` for each of some flags and for fractions, of which small ones mean `below`."""
        shown = {flag: MEANINGS[self.states[flag]] for flag in sorted(flags) if flag in self.states}
        if self.threshold is not None:
            shown |= {f"{self.threshold:g} and above": MEANINGS[ACTIVE], f"below {self.threshold:g}": MEANINGS[below]}
        return shown


def chosen_states(reading: Reading) -> dict[str, int]:
    """Return ACTIVE, INACTIVE or NOT_KNOWN by each value that a person gives a meaning, as `flag_of` returns it.

    One spelling of a blank may have another meaning than the others.

    Raises:
        UsageError: two options name the same value.

    Example:
        >>> chosen_states(Reading(present=("x",), absent=("blank",), unknown=("NA", "2.0")))
        {'blank': 0, 'x': 1, 'na': -1, '2': -1}
    """
    options = ((reading.present, ACTIVE), (reading.absent, INACTIVE), (reading.unknown, NOT_KNOWN))
    words = [(word.lower(), state) for option, state in options for word in option]
    chosen: dict[str, int] = {}
    for word, state in sorted(words, key=lambda pair: pair[0] not in USUAL):
        number = number_of(word)
        flag = word if word in USUAL else flag_of(word) or (word if number is None else f"{number:g}")
        flag = word if flag == BLANK and chosen.get(flag, state) != state else flag
        if chosen.setdefault(flag, state) != state:
            meanings = f"{MEANINGS[chosen[flag]]} and {MEANINGS[state]}"
            raise UsageError(f"{word} is to mean {meanings}. Name it in one of --present, --absent and --unknown.")
    return chosen


def find_values(counts: Counter[str], reading: Reading, where: str, classes: Sequence[str] = ()) -> Values:
    """Decide what 0, -1 and blanks mean, from the choices of a person and the counts of all cells of classes.

    The counts are of what `flag_of` returns.

    Raises:
        DataError: they may be meant in two ways.

    Example:
        >>> find_values(Counter({"1": 9, "-1": 31}), Reading(), "a.csv").states["-1"]
        0
        >>> find_values(Counter({"1": 9, "0": 30, "-1": 1}), Reading(), "a.csv").states["-1"]
        -1
    """
    chosen = chosen_states(reading)
    undecided = [flag for flag in ("0", "-1", BLANK) if counts[flag] and flag not in chosen]
    marks = [flag for flag in counts if chosen.get(flag, flag == "1") == ACTIVE]
    zeros = [flag for flag in counts if flag == "0" or (flag not in USUAL and chosen.get(flag) == INACTIVE)]
    counts = Counter({**counts, "1": sum(counts[flag] for flag in marks), "0": sum(counts[flag] for flag in zeros)})
    readings = [one for one in (USUAL, SIGNED, MARKED) if chosen.items() <= {**chosen, **one}.items()] or [USUAL, SIGNED, MARKED]
    if chosen.get("-1") == INACTIVE and _zero_is_absent(counts):
        readings.append(FILLED)
    different = {tuple(one[flag] for flag in undecided): one for one in reversed(readings)}
    states = readings[0] if len(different) < 2 else _most_likely(counts, undecided, list(different.values()), classes)
    if states is None:
        raise DataError(f"{where}: {_two_meanings(counts, chosen, marks)}")
    return Values({**states, **chosen}, reading.threshold)


def _most_likely(
    counts: Counter[str], undecided: Sequence[str], readings: Sequence[dict[str, int]], classes: Sequence[str]
) -> dict[str, int] | None:
    """Return the reading that the counts leave alone; None if there are two."""
    choice = None
    if not counts["0"]:
        choice = None if BLANK in undecided else SIGNED
    elif _zero_is_absent(counts):
        choice = USUAL
    elif VOC_ALONE & (names := {name.lower() for name in classes}) and names <= voc.CLASSES.keys() and counts["-1"] > counts["1"]:
        choice = SIGNED
    return choice if choice in readings else None


def _zero_is_absent(counts: Counter[str]) -> bool:
    """Return True if 0 occurs more often than difficult labels would, or beside blanks, and most cells are not -1."""
    often = counts["0"] >= min(counts["-1"], 2 * counts["1"]) and counts["-1"] <= counts["0"] + counts["1"]
    return bool(counts["0"]) and (bool(counts[BLANK]) or often)


def _two_meanings(counts: Counter[str], chosen: Mapping[str, int], marks: Sequence[str]) -> str:
    """Return both meanings, and the options that choose."""
    if chosen.get("-1") == INACTIVE:
        return (
            f"with -1 as absent, 0, which occurs {counts['0']:,} times, may be absent as well, or unknown (difficult, as in "
            "VOC's lists). Say --absent -1,0, or --absent -1 --unknown 0."
        )
    if not counts["-1"] or "-1" in chosen:
        return (
            f"classes are marked with {', '.join(marks)} or left blank, and there is no 0, so blank may be absent or unknown. "
            "Say --absent blank or --unknown blank."
        )
    if not counts["0"]:
        return (
            "1, -1 and blank occur and no 0, so either -1 is absent and blank unknown, or -1 is unknown and blank absent. Say "
            "--absent -1 or --absent blank."
        )
    return (
        f"1, 0 and -1 occur {counts['1']:,}, {counts['0']:,} and {counts['-1']:,} times, so either 0 is absent and -1 unknown, "
        "or -1 is absent and 0 unknown (difficult, as in VOC's lists). Say --absent 0 or --absent -1."
    )


def find_separator(texts: Sequence[str], where: str) -> str:
    """Return what stands between labels, decided by all texts: the separator that leaves the fewest different labels.

    A space counts only where the same words come together in ever new combinations, goes before another separator only if that
    stands in few of the texts, and never counts where a comma or semicolon behind a word has a space behind it.

    Returns:
        One of SEPARATORS, or `><` of tags such as <cat><dog>; empty where none occurs.

    Raises:
        DataError: texts with spaces may be labels of several words, or several labels.

    Example:
        >>> find_separator(["hot dog;cat", "cat"], "a.csv")
        ';'
        >>> find_separator(["smile hat", "hat ;d", "smile", "hat smile"], "a.csv")
        ' '
    """
    if any(BETWEEN_TAGS in text for text in texts) and all(TAGS.fullmatch(text.strip()) for text in texts):
        return BETWEEN_TAGS
    counts = {mark: sum(_stands_between(text, mark) for text in texts if mark in text) for mark in SEPARATORS}
    words = False if any(map(COMMA.search, texts)) else _are_words(texts)
    if words is None and not any(2 * counts[mark] >= counts[" "] for mark in SEPARATORS[:-1]):
        text = next(text for text in texts if " " in text.strip())
        raise DataError(
            f"{where}: {text.strip()[:60]!r} may be one label of several words, or several labels. Say --delimiter none, or "
            "--delimiter ' '."
        )
    counts[" "] = counts[" "] if words else 0
    found = [mark for mark in SEPARATORS if counts[mark] and (mark == " " or 2 * counts[mark] >= counts[" "])]
    if len(found) > 1:  # a mark that begins a text, as in |_|, is part of it
        found = [mark for mark in found if not any(text.startswith(mark) for text in texts)] or found
    different = set(texts)
    return min(found, key=lambda mark: len({part for text in different for part in labels_of_text(text, mark)}), default="")


def _stands_between(text: str, mark: str) -> bool:
    """Return True if a mark has something on both sides, or ends the text; in ;d and |_| it is part of the label."""
    ends = text.rstrip().endswith(mark) and not text.startswith(mark)
    return ends or len(labels_of_text(text, mark)) > 1


def _are_words(texts: Sequence[str]) -> bool | None:
    """Return True if texts with spaces are several labels each, False if they are labels of several words, None if either.

    Several labels come together in ever new combinations: most words come again in other texts, there are fewer words than texts
    or many in each, and some come alone or by threes; none is a word of sentences. Labels of several words come again and again,
    and share no word.
    """
    counts = Counter(" ".join(text.split()) for text in texts)
    several = [text.split() for text in counts if " " in text]
    if not several or all(word.isdecimal() for text in several for word in text):
        return bool(several)  # numbers of classes
    words = Counter(word for text in counts for word in text.split())
    again = sum(words[word] > 1 for text in several for word in text)
    total = sum(map(len, several))
    mixed = max(map(len, several)) > 2 or any(word in counts for text in several for word in text)
    repeated = len(counts) * 2 <= len(texts)
    if 2 * again > total and mixed and (len(words) <= len(counts) or (not repeated and total > 3 * len(several))):
        return None if PROSE.intersection(words) else True
    return None if again or not repeated else False


def refuse_mixed(names: Iterable[str], separator: str, where: str, *, one_a_cell: bool) -> None:
    """Raise if a label is several of the others between another separator, or is what stands between them."""
    known = set(names)
    word = next((name for name in known if name.lower() in WORDS_BETWEEN), "")
    if separator == " " and word:
        raise DataError(
            f"{where}: {word!r} would be a label, since a space stands between labels. If it stands between labels itself say "
            f"--delimiter '{word}', else --delimiter ' '."
        )
    joined: dict[str, dict[str, list[str]]] = {}  # by mark, the labels that hold it, and their parts
    for name in known:
        marks = [mark for mark in SEPARATORS[:-1] if mark in name]
        marks += [mark for mark in UNUSUAL if mark in name] + MARKS.findall(name) if separator or one_a_cell else []
        marks += [mark for mark in JOINTS if mark in name] if one_a_cell else []
        for mark in marks:
            parts = labels_of_text(name, mark, blanks=True)
            if mark == separator or not all(parts):
                continue
            known_parts = [part in known for part in parts]
            if all(known_parts) or (mark in NEVER_WITHIN and any(known_parts)):
                each = "each part" if all(known_parts) else "a part"
                raise _one_or_several(where, name, f"{each} of it is one too", mark, separator)
            if one_a_cell and mark not in JOINTS and not all(map(str.isdecimal, parts)):
                joined.setdefault(mark, {})[name] = parts
    for mark, labels in joined.items():
        if len({part for parts in labels.values() for part in parts}) < len(labels):
            raise _one_or_several(where, min(labels), "its parts come again in others", mark, separator)


def _one_or_several(where: str, name: str, why: str, mark: str, separator: str) -> DataError:
    """Return the error for a label that may be several."""
    return DataError(
        f"{where}: {name[:60]!r} would be one label, although {why}. If {mark} stands between labels say --delimiter '{mark}', "
        f"else write the cells in one way, or say --delimiter {f'{separator!r}' if separator else 'none'}."
    )


def refuse_values(names: Collection[str], where: str) -> None:
    """Raise if every label ends in a value, as cat:0.9 and cat=no do: labels with 0 would be read as present."""
    matches = [match for name in names if (match := VALUED.fullmatch(name))]
    if not names or len(matches) < len(names) or any(match[2][0].isdigit() and float(match[2]) > 1 for match in matches):
        return
    example = matches[0]
    value = example[2] if example[2][0] in "0123456789." else int(example[2].lower() in ("true", "yes"))
    if not all(match[2].isdecimal() for match in matches) or len({match[1] for match in matches}) < len(names):
        raise DataError(
            f"{where}: {example[0][:60]!r} is a label with its value. Write {{{example[1][:60]!r}: {value}}} into "
            "the cells, a column per class, or a row per label with a column `value`."
        )


def refuse_boxes(texts: Iterable[str], where: str, *, alone: bool = False) -> None:
    """Raise if a text holds numbers such as those of a box, beside names or also `alone`; numbers of classes would ascend."""
    for text in texts:
        match = BOXES.search(text)
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", match[0])] if match else []
        mixed = match is not None and "," in match[0] and re.search(r"\d \d", match[0])  # x,y,x,y,class x,y,x,y,class
        if numbers != sorted({*numbers}) and (alone or mixed or any(map(str.isalpha, text))):
            raise DataError(
                f"{where}: {text.strip()[:60]!r} holds numbers such as those of a box. Write the names of labels alone: cat;dog."
            )


def refuse_parts(names: Collection[str], separator: str, where: str) -> None:
    """Raise if labels are parts of one, split within its parentheses, have their contraries, or are vectors that lost zeros."""
    first = next((name for name in names if OPENED.search(name)), None)
    last = next((name for name in names if CLOSED.fullmatch(name)), None)
    if first is not None and last is not None:
        raise DataError(
            f"{where}: {first[:60]!r} and {last[:60]!r} would be labels, since {separator!r} stands within parentheses as well. "
            f"Write lists of names, or another mark between them; or say --delimiter '{separator}' if they are labels."
        )
    contrary = {match[1] for name in names if (match := NEGATED.fullmatch(name))}
    plain = {name for name in names if not NEGATED.fullmatch(name)}
    if plain <= contrary and len(plain) > 1:
        name = next(name for name in names if NEGATED.fullmatch(name))
        raise DataError(
            f"{where}: {name[:60]!r} would be a label, and so are all labels with their contraries. Write only those that are "
            f"there, or say --delimiter {separator or 'none'!r} if these are labels."
        )
    if all(map(DIGITS.fullmatch, names)) and max(map(len, names), default=0) > 2:
        raise DataError(
            f"{where}: all labels are of the digits 0 and 1, such as {max(names, key=len)[:60]}, as 0/1 vectors "
            "whose first zeros a spreadsheet left out. Write names of labels, or a column per class, or say --label-column NAME."
        )


def labels_of_text(text: str, between: str, *, blanks: bool = False) -> list[str]:
    """Return the parts of a text between a separator and line breaks, without blank ones unless `blanks`."""
    if between == "none":
        return [text.strip()]
    if between == BETWEEN_TAGS:
        text = text.strip().removeprefix("<").removesuffix(">")
    parts = text.replace("\n", between).split(between) if between else text.splitlines()
    return [part for part in map(str.strip, parts) if part or blanks]


def labels_in(cell: Any, between: str, where: str) -> list[Any]:
    """Return the labels of one cell: a text, a list, a number, or nothing.

    `between` separates the labels of a text; if it is empty only line breaks do, and if it is `none` a text is one label.

    Raises:
        DataError: it holds something else.
    """
    if isinstance(cell, (list, tuple)):
        return _named(cell, where)
    if isinstance(cell, str):
        text = cell.strip()
        if len(text) < 13 and text.lower() in MISSING:
            return []
        if text[-2:] == ".0" and text[:-2].isdecimal():  # a whole number, as programs write it where cells are missing
            return [text[:-2]]
        if text in ("?", "-1"):
            raise DataError(
                f"{where}: {text} is not a label. Leave the image out if nothing is known, or give columns of 1, 0 and ?."
            )
        if text[-1] in "])}'\"" and is_list(text):
            return _named(written_list(text, where), where)
        if text[0] == "[" and "]" not in text:
            raise DataError(f"{where}: {text[:60]} is a list that does not end. Mend the cell.")
        return labels_of_text(text, between)
    if cell is None or cell != cell:  # missing, or NaN
        return []
    return _named([cell], where)


def _named(entries: Iterable[Any], where: str) -> list[Any]:
    """Return the names of labels, each a text, a number, or an object that names it."""
    labels = list(entries)
    if all(type(label) is str for label in labels):
        return labels
    for entry in filter(lambda label: isinstance(label, dict), labels):
        key = next((key for key in VALUE if isinstance(entry.get(key), (int, float)) and entry[key] < 1), None)
        if key is not None:
            name = json.dumps(_name_in(entry))[:60]
            raise DataError(
                f"{where}: label {name} has the {key} {entry[key]}, so it may not be there. Write the labels as "
                f"{{{name}: {entry[key]}}}, with --threshold 0.5 for fractions, or without {key} if all are present."
            )
    labels = [_name_in(entry) if isinstance(entry, dict) else entry for entry in labels]
    labels = [int(label) if isinstance(label, float) and label.is_integer() else label for label in labels]
    if not all(isinstance(label, (str, int)) and not isinstance(label, bool) for label in labels):
        raise DataError(f'{where}: the labels are not a list of names. Write ["cat", "dog"].')
    return labels


def _name_in(entry: Mapping[str, Any]) -> Any:
    return next((entry[key] for key in NAME_KEYS if key in entry), None)


def flags_in(cell: Any) -> dict[str, Any] | None:
    """Return the classes and flags of a cell that is an object such as {"cat": 1, "dog": 0}; None for another cell.

    `{"choices": ["cat"]}`, which Label Studio writes, and `{"name": "cat"}` name labels and hold no flags.
    """
    if isinstance(cell, dict) and not isinstance(_name_in(cell), str):
        return None if any(isinstance(cell.get(key), list) for key in LIST_KEYS) else cell
    return None


def opened_cell(cell: Any) -> Any:
    """Return a cell with its text parsed where it is a JSON object, and the labels out of `{"choices": [...]}`."""
    if isinstance(cell, str) and cell.lstrip()[:1] == "{" and len(cell) <= MAX_LIST:
        for parse in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                value = parse(cell.strip())
                if isinstance(value, dict):
                    return opened_cell(value)
    if isinstance(cell, dict):
        if not cell:
            return ""
        if isinstance(_name_in(cell), str):
            return [_name_in(cell)]
        return next((cell[key] for key in LIST_KEYS if isinstance(cell.get(key), list)), cell)
    return cell


def is_list(text: str) -> bool:
    """Return True if a text is a list, as JSON, Python, NumPy or PostgreSQL write it."""
    text = _unwrapped(text)
    ends = text[:1] + text[-1:]
    return (
        ends in ("[]", "{}")
        or (text[:2] in TUPLES and ends == "()")
        or (ends in ("''", '""') and QUOTED_LIST.fullmatch(text) is not None)
    )


def _unwrapped(text: str) -> str:
    """Return the list in a text such as `array([0, 1])`; another text without spaces at its ends."""
    text = text.strip()
    if match := OF_R.fullmatch(text) if text[:2] == "c(" else None:
        return f"[{match[1]}]"
    match = WRAPPED.fullmatch(text) if text[-1:] == ")" and text[:1] != "(" and len(text) <= MAX_LIST else None
    return match[1] if match else text


def written_list(text: str, where: str) -> list[Any]:
    """Parse a list as JSON, Python, NumPy or PostgreSQL writes it.

    Raises:
        DataError: the text is not a list.

    Example:
        >>> [written_list(text, "") for text in ('["a", "b"]', "array(['a'])", "{a,b c}", "[3 17]")]
        [['a', 'b'], ['a'], ['a', 'b c'], ['3', '17']]
    """
    shown, text = text, _unwrapped(text)
    text = f"[{text}]" if text[0] in "'\"" else text
    values: Any = None
    for parse in () if NUMPY.fullmatch(text) or len(text) > MAX_LIST else (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            values = values or parse(text)
    inner = text[1:-1].strip()
    if isinstance(values, (list, tuple, set)):
        if all(isinstance(label, (str, int, dict)) or (isinstance(label, float) and label.is_integer()) for label in values):
            return list(values)
    elif QUOTED_LIST.fullmatch(inner):
        return [first or second for first, second in QUOTED.findall(inner)]
    elif all(map(str.isdecimal, inner.split())):
        return inner.split()
    elif not re.search(r"[\[\](){}:]", inner) and ("," in inner or " " not in inner) and len(inner) <= MAX_LIST:
        return [label.strip() for label in next(csv.reader([inner], skipinitialspace=True)) if label.strip()]
    raise DataError(f'{where}: {shown[:60]} is not a list of labels. Write ["cat", "dog"], or cat;dog.')


def vector_in(cell: Any) -> list[str] | None:
    """Return the numbers of a cell that may be a vector of 0 and 1, one for each class; None for another cell.

    Example:
        >>> vector_in("0 1 1"), vector_in([0, 1.0]), vector_in("[1. 0.]"), vector_in("['0', '1']"), vector_in("cat;dog")
        (['0', '1', '1'], ['0', '1'], ['1', '0'], ['0', '1'], None)
    """
    if isinstance(cell, str):
        text = _unwrapped(cell).strip("[](){}'\" \t\r\n")
        if not text or (text[0] not in "01-." and text[:4].lower() not in ("true", "fals")):  # most cells of names end here
            return None
        marked = MARKED_BITS.fullmatch(text)
        parts: Sequence[Any] = list(text) if BITS.fullmatch(text) else text[::2] if marked else BETWEEN.split(text)
    elif isinstance(cell, (list, tuple)):
        parts = cell
    else:
        return None
    numbers: list[str] = []
    for part in parts:
        number = "" if isinstance(part, (dict, list)) else flag_of(part) or cell_text(part)
        if number != "-1" and ((value := number_of(number)) is None or not 0 <= value <= 1):  # of most lists of names the first
            return None
        numbers.append(number)
    return numbers or None


def find_vector(cells: Sequence[tuple[int, Any]], where: str, *, numbers: bool = False) -> int:
    """Return the length of the vectors of 0 and 1 in the cells of labels, each with the number of its row; 0 for other cells.

    Cells that may be vectors as well as numbers of classes are the latter if the file says so with `numbers`.

    Raises:
        DataError: they are all 0 and 1 but of several lengths, or may be vectors as well as numbers of classes.
    """
    vectors: list[tuple[int, list[str]]] = []
    odd: list[int] = []  # rows of cells that are none
    for row, cell in cells:
        if cell in EMPTY if isinstance(cell, str) else not cell and isinstance(cell, (list, tuple)):
            continue
        vector = vector_in(cell)
        if vector is not None:
            vectors.append((row, vector))
        else:
            odd.append(row)
            if 2 * len(odd) > len(cells):
                return 0
    lengths = Counter(len(vector) for _, vector in vectors)
    if set(lengths) <= {1}:
        return 0
    (length, count), *others = lengths.most_common()
    repeated = any(len(set(vector)) < len(vector) for _, vector in vectors)
    if (numbers and not repeated) or (odd and (not repeated or 2 * count <= len(vectors) + len(odd))):
        return 0
    if odd or others:
        if not repeated and max(lengths) <= 2:
            return 0  # numbers of two classes
        row = min([*odd, *(row for row, vector in vectors if len(vector) != length)])
        raise DataError(
            f"{where}, row {row}: the labels are 0/1 vectors, most of them ({count:,}) of length {length}, but not here. Mend "
            "the row, or write the names of the labels."
        )
    if not repeated and not any(vector[0] > vector[-1] for _, vector in vectors):
        raise DataError(
            f"{where}: every cell of labels is {' '.join(vectors[0][1])}, a 0/1 vector or the numbers of two classes. Write the "
            "names of the labels."
        )
    return length
