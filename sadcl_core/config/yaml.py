"""A file of settings, or one value of them, as plain Python values; what is broken or hostile is refused in one sentence.

YAML, as editors read it today (1.2), so that a value is what it looks like: 010 is ten, 1e-3 a number, 1:30 and
2024-01-01 are text. A JSON file is read as well. Aliases, tags and keys given twice are refused: no settings need them,
and they are how a small file becomes a huge or a wrong one.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from sadcl_core.errors import UsageError

MAX_BYTES = 100_000  # of a file; all settings with a comment each are a tenth of that
MAX_VALUES = 2_000
MAX_DEPTH = 20
SUCH_AS = "such as the config.yaml of a run"

WHOLE = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
NUMBER = re.compile(r"[-+]?([0-9]+(_[0-9]+)*(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
TRUE, FALSE, EMPTY = ("true", "yes", "on"), ("false", "no", "off"), ("", "~", "null")
MAX_DIGITS = 300  # of a whole number; more are text, as no setting is so large


class UnreadableError(Exception):
    """Text that is no YAML, or more than settings need; lines and columns count from 1."""

    def __init__(self, problem: str, line: int = 0, column: int = 0) -> None:
        """Where it is not known, the line is 0."""
        super().__init__(f"line {line}, column {column}: {problem}" if line else problem)


def read_table(path: Path) -> dict[str, Any]:
    """The nested values of a YAML or JSON file. One that has only comments sets nothing.

    Raises:
        UsageError: the file is missing, is none of settings, or is empty, as one is whose writing failed.
    """
    text = _text(path)
    if not text.strip():
        raise UsageError(f"{path} is empty. Give a YAML file with settings, {SUCH_AS}.")
    try:
        values = read_value(text.replace("\t", " ") if path.suffix.lower() == ".json" else text)
    except UnreadableError as error:
        raise UsageError(f"{path} cannot be read, {error}. Mend it, or give a YAML file {SUCH_AS}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no table of settings. Write lines such as seed: 3, or give a YAML file {SUCH_AS}.")
    return values


def read_value(text: str) -> Any:
    """One YAML document: tables, lists, text, numbers, yes and no, and None where there is nothing.

    Raises:
        UnreadableError: it is none, or holds what no settings need.
    """
    try:
        node = _Loader(text).get_single_node()
        return None if node is None else _value(node)
    except yaml.reader.ReaderError as error:
        raise _at(text, error.position, f"the character {chr(int(error.character))!r} is not allowed in YAML") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or "this is no YAML") + (" (indent with spaces)" if "'\\t'" in (error.problem or "") else "")
        raise UnreadableError(problem, *((mark.line + 1, mark.column + 1) if mark else ())) from None


def reads_as_text(text: str) -> bool:
    """Whether these letters without quotes are text, and not a number, yes, no or nothing."""
    return isinstance(_plain(text), str)


def _text(path: Path) -> str:
    """What stands in a file, which must be a small and regular one: a pipe may never end."""
    try:
        if path.is_dir():
            inside = path / "config.yaml"
            raise UsageError(f"{path} is a folder. Give {inside if inside.is_file() else f'a YAML file, {SUCH_AS}'}.")
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is a pipe or a device and no file. Save the settings to a file and give that.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read ({reason}). Give a YAML file with settings, {SUCH_AS}.") from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES:,} bytes and no file of settings. Give a YAML file {SUCH_AS}.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"{path} is not UTF-8 text (line {line}). Save it as UTF-8, or give a YAML file {SUCH_AS}.") from None


class _Loader(yaml.SafeLoader):
    """Composes nodes, and stops at what no settings need, before it is large."""

    depth = 0
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """See the class."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self.values += 1
        if isinstance(event, yaml.AliasEvent):
            raise _refused(f"the alias *{event.anchor} stands for values written elsewhere; write them out here", event)
        if event.tag is not None:
            raise _refused(f"the tag {event.tag} is not read; leave it out", event)
        if self.depth >= MAX_DEPTH:
            raise _refused("this is nested deeper than any setting", event)
        if self.values > MAX_VALUES:
            raise _refused(f"these are more than {MAX_VALUES:,} values, so it is no file of settings", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _refused(problem: str, at: Any) -> yaml.MarkedYAMLError:
    """What is wrong, and the event or node where it is."""
    return yaml.MarkedYAMLError(None, None, problem, at.start_mark)


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _joined(node) if node.style else _plain(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item) for item in node.value]
    table: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _value(key_node)
        if not isinstance(key, str):
            raise _refused("a key must be text; quote it if it is a name", key_node)
        if key in table:
            raise _refused(f"the key {key!r} is given twice in one table; keep one of them", key_node)
        table[key] = _value(value_node)
    return table


def _joined(node: yaml.ScalarNode) -> str:
    """Quoted text; JSON writes one character as two halves, which PyYAML leaves apart."""
    try:
        return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _refused("half a character (\\ud800 to \\udfff) stands alone", node) from None


def _plain(text: str) -> Any:
    """What letters without quotes mean."""
    if WHOLE.fullmatch(text):
        return int(text.replace("_", "")) if len(text) <= MAX_DIGITS else text
    if NUMBER.fullmatch(text):
        return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    for words, value in ((TRUE, True), (FALSE, False), (EMPTY, None)):
        if text.lower() in words and text in (text.lower(), text.upper(), text.title()):
            return value
    return text


def _at(text: str, position: int, problem: str) -> UnreadableError:
    before = text[:position]
    return UnreadableError(problem, before.count("\n") + 1, position - before.rfind("\n"))
