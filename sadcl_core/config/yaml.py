"""Files of settings: YAML 1.2 or JSON, read as plain values and written with a comment at each value.

Values are what they look like: 010 is ten, 1e-3 a number; no, 1:30 and 2024-01-01 are text. Aliases, tags and keys given twice
are refused: no settings need them, and they are how a small file becomes a huge or a wrong one.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sadcl_core.errors import UsageError

MAX_BYTES = 100_000  # of a file; all settings with a comment each are a tenth of that
MAX_VALUES = 2_000
MAX_DEPTH = 20
SUCH_AS = "such as the config.yaml of a run"

INTEGER = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
NUMBER = re.compile(r"[-+]?([0-9]+(_[0-9]+)*(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
WORDS = {"true": True, "false": False, "null": None, "": None, "~": None}
PLAIN = re.compile(r"[A-Za-z_/]([\w ./@%+=-]*[\w./@%+=-])?")  # text that needs no quotes
QUOTED = ("yes", "no", "on", "off", "y", "n", *WORDS)  # other words, to readers of YAML 1.1


class UnreadableError(Exception):
    """Text that is not YAML, or more than settings need; lines and columns count from 1."""

    def __init__(self, problem: str, mark: Any = None) -> None:
        """`mark` has a line and a column that count from 0."""
        super().__init__(f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem)


def read_table(path: Path) -> dict[str, Any]:
    """Return the nested values of a YAML or JSON file; none if it has only comments.

    Raises:
        UsageError: the file is missing, empty, no regular file, too large, or does not hold a table.
    """
    text = _read_text(path)
    if not text.strip():
        raise UsageError(f"{path} is empty. Give a YAML file with settings, {SUCH_AS}.")
    try:
        values = parse_yaml(text.replace("\t", " ") if path.suffix.lower() == ".json" else text)
    except UnreadableError as error:
        raise UsageError(f"{path} cannot be read, {error}. Mend it, or give a YAML file {SUCH_AS}.") from None
    if not isinstance(values, dict | None):
        raise UsageError(f"{path} holds no table of settings. Write lines such as seed: 3, or give a YAML file {SUCH_AS}.")
    return values or {}


def parse_yaml(text: str, *, only_text: bool = False, max_values: int = MAX_VALUES) -> Any:
    """Return one YAML document: tables, lists, text, numbers, true and false, and None where there is nothing.

    Args:
        text: of the document.
        only_text: leave every value and key the text that it is, as names of classes are.
        max_values: most values in it, keys among them.

    Raises:
        UnreadableError: it is not YAML, or holds what no settings need.

    Example:
        >>> parse_yaml("a: [1e-3, no, true]")
        {'a': [0.001, 'no', True]}
    """
    try:
        return _Document(text, only_text=only_text, max_values=max_values).read()
    except MarkedYAMLError as error:
        problem = (error.problem or "this is not YAML") + (" (indent with spaces)" if "'\\t'" in (error.problem or "") else "")
        raise UnreadableError(problem, error.problem_mark or error.context_mark) from None
    except (YAMLError, ValueError, AttributeError) as error:
        raise UnreadableError(f"this is not YAML ({' '.join(str(error).split())})") from None


def format_yaml(values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Return nested values as YAML, each on a line with `# comment` at its end; `read_table` reads exactly the same values.

    Values are those that JSON has; the comments are by dotted key, `default` where there is none.

    Example:
        >>> print(format_yaml({"data": {"img_size": 64, "train_split": "2007"}}, {"data.img_size": "flag"}))
        data:
          img_size: 64  # flag
          train_split: "2007"  # default
        <BLANKLINE>
    """
    return "".join(f"{line}\n" for line in _lines(values, comments))


class _Document:
    """Values from the events of ruamel's parser; stops at what no settings need before it grows."""

    def __init__(self, text: str, *, only_text: bool, max_values: int) -> None:
        self.events = YAML(typ="safe", pure=True).parse(text)
        self.only_text = only_text
        self.left = max_values

    def read(self) -> Any:
        """Return the value of the only document."""
        value = None
        start = next(event for event in self.events if isinstance(event, events.DocumentStartEvent | events.StreamEndEvent))
        if isinstance(start, events.DocumentStartEvent):
            value = self.value(next(self.events))
        for event in self.events:
            if isinstance(event, events.DocumentStartEvent):
                raise UnreadableError("a second document begins; keep one of them", event.start_mark)
        return value

    def value(self, event: Any, depth: int = 0) -> Any:
        """Return the value that begins with an event."""
        self.left -= 1
        if isinstance(event, events.AliasEvent):
            raise UnreadableError(
                f"the alias *{event.anchor} stands for values written elsewhere; write them out here", event.start_mark
            )
        if event.tag is not None:
            raise UnreadableError(f"the tag {event.tag} is not read; leave it out", event.start_mark)
        if depth >= MAX_DEPTH:
            raise UnreadableError("this is nested deeper than any setting", event.start_mark)
        if self.left < 0:
            raise UnreadableError("these are more values than settings have", event.start_mark)
        if isinstance(event, events.ScalarEvent):
            return self.scalar(event)
        return [*self.items(depth)] if isinstance(event, events.SequenceStartEvent) else self.table(depth)

    def items(self, depth: int) -> Iterator[Any]:
        """Yield the values up to the end of a list."""
        while not isinstance(event := next(self.events), events.SequenceEndEvent):
            yield self.value(event, depth + 1)

    def table(self, depth: int) -> dict[str, Any]:
        """Return the keys and values up to the end of a table."""
        table: dict[str, Any] = {}
        while not isinstance(event := next(self.events), events.MappingEndEvent):
            key = self.value(event, depth + 1)
            if not isinstance(key, str):
                raise UnreadableError("a key must be text; quote it if it is a name", event.start_mark)
            if key in table:
                raise UnreadableError(f"the key {key!r} is given twice in one table; keep one of them", event.start_mark)
            table[key] = self.value(next(self.events), depth + 1)
        return table

    def scalar(self, event: Any) -> Any:
        """Return quoted text, with the two halves joined that JSON writes for some characters, or what plain letters mean."""
        if event.style:
            return event.value.encode("utf-16", "surrogatepass").decode("utf-16")
        return event.value if self.only_text else _plain(event.value)


def _plain(text: str) -> Any:
    """Return what letters without quotes mean in YAML 1.2."""
    if INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if NUMBER.fullmatch(text):
        return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    word = text.lower()
    return WORDS[word] if word in WORDS and text in (word, word.upper(), word.title()) else text


def _lines(values: Mapping[str, Any], comments: Mapping[str, str], path: tuple[str, ...] = ()) -> Iterator[str]:
    for key, value in values.items():
        start = f"{'  ' * len(path)}{on_one_line(key)}:"
        if isinstance(value, Mapping) and value:
            yield start
            yield from _lines(value, comments, (*path, key))
        else:
            comment = comments.get(".".join((*path, key)), "default")  # it may be the name of a file
            yield f"{start} {on_one_line(value)}  # {''.join(letter if letter.isprintable() else '?' for letter in comment)}"


def on_one_line(value: Any) -> str:
    """Return a value as JSON, which is YAML, without the quotes that text does not need."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{on_one_line(key)}: {on_one_line(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(on_one_line, value)) + "]"
    if not isinstance(value, str):
        return re.sub(r"^(-?\d+)e", r"\1.0e", json.dumps(value))  # 1e-05 is text to readers of YAML 1.1
    if PLAIN.fullmatch(value) and value.lower() not in QUOTED and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable()) if value else "''"


def _read_text(path: Path) -> str:
    """Return the text of a small regular file: a pipe may never end."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is a folder, a pipe or a device. Give a YAML file, {SUCH_AS}.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES:,} bytes and no file of settings. Give a YAML file {SUCH_AS}.")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read ({reason}). Give a YAML file with settings as UTF-8, {SUCH_AS}.") from None
