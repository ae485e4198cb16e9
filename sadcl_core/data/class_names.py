"""Names of classes: their order, and which class of one data set is which of another."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sadcl_core.config.yaml import UnreadableError, parse_yaml
from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest
from sadcl_core.runtime.files import from_home, regular

MAX_NAMES = 200_000  # in a class map
MAX_MAP = 1 << 25  # bytes of one

# names of one thing in COCO, PASCAL VOC, NUS-WIDE, Open Images and everyday labels; spelling and plural rules are not guessed
SYNONYMS = (
    ("airplane", "aeroplane", "plane"),
    ("motorcycle", "motorbike"),
    ("couch", "sofa"),
    ("tv", "tvmonitor", "television"),
    ("bicycle", "bike"),
    ("potted plant", "houseplant"),
    ("dining table", "kitchen & dining room table"),
    ("cell phone", "mobile phone", "cellular telephone"),
    ("hair drier", "hair dryer"),
    ("donut", "doughnut"),
    ("automobile", "car"),
    ("cow", "cattle"),
    ("person", "people", "human"),
    ("remote", "remote control"),
    ("refrigerator", "fridge"),
    ("microwave", "microwave oven"),
    ("laptop", "laptop computer"),
    ("keyboard", "computer keyboard"),
    ("mouse", "computer mouse"),
    ("sports ball", "ball"),
    ("boat", "boats"),
    ("traffic light", "traffic signal"),
)


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names in their order: as numbers if all are whole numbers, else as texts.

    Example:
        >>> sort_classes({"dog", "cat", "10", "2"}), sort_classes({"10", "2", "1"})
        (('10', '2', 'cat', 'dog'), ('1', '2', '10'))
    """
    texts = sorted(names)
    numbers = all(text.removeprefix("-").isdecimal() and len(text) < 20 for text in texts)
    return tuple(sorted(texts, key=int) if numbers else texts)


def match_classes(
    here: Sequence[str], there: Sequence[str], class_map: Mapping[str, str | None] | None = None
) -> dict[str, str | None]:
    """Return for each class here its class there, or None.

    A class is looked up in `class_map`; else it has the very same name there; else the same name without regard to case, spaces
    and punctuation; else a synonym. The map gives names there by names here, None for a class that has none there.

    Raises:
        UsageError: `class_map` names a class that does not exist.

    Example:
        >>> match_classes(["sofa", "Traffic Light", "unicorn"], ["couch", "traffic_light"])
        {'sofa': 'couch', 'Traffic Light': 'traffic_light', 'unicorn': None}
    """
    for name, other in (class_map or {}).items():
        if name not in here:
            raise UsageError(f"The class map speaks of {name!r}, which this data set does not have. {suggest(name, here)}")
        if other is not None and other not in there:
            raise UsageError(
                f"The class map takes {name!r} from {other!r}, which the other model does not have. {suggest(other, there)}"
            )
    same, plain = set(there), {_plain(name): name for name in reversed(there)}
    alike = {_same_thing(name): name for name in reversed(there)}
    matched = {name: name if name in same else plain.get(_plain(name)) or alike.get(_same_thing(name)) for name in here}
    return {**matched, **(class_map or {})}


def vectors_file(source: str) -> Path | None:
    """Return the file that word vectors come from, None where they are made here, as `random` or `cooccurrence`.

    Raises:
        DataError: the file is missing, or a folder, a pipe or a device.

    Example:
        >>> vectors_file("random")
    """
    if source in ("random", "cooccurrence"):
        return None
    try:
        return regular(from_home(source))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"model.word_vectors={source} cannot be read ({reason}). Give random, cooccurrence or a file.") from None


def load_class_map(path: Path) -> dict[str, str | None]:
    """Read a YAML or JSON table of class names here and class names there; a class with an empty value has none there.

    Raises:
        UsageError: the file is missing or not such a table.
    """
    try:
        table = parse_yaml(regular(path, most=MAX_MAP).read_text(encoding="utf-8"), max_values=MAX_NAMES)
    except (OSError, UnicodeDecodeError, UnreadableError) as error:
        raise UsageError(f"The class map {path} cannot be read ({type(error).__name__}). Check --class-map.") from None
    if not isinstance(table, dict) or not all(isinstance(x, str | None) for pair in table.items() for x in pair) or None in table:
        raise UsageError(f"The class map {path} is not a table of names. Write a line a class, such as aeroplane: airplane.")
    return table


def _plain(name: str) -> str:
    """Return the letters, marks and digits of a name; a name of signs alone stays as it is."""
    return "".join(letter for letter in name.casefold() if unicodedata.category(letter)[0] in "LMN") or name


def _same_thing(name: str) -> str:
    return _FIRST.get(_plain(name), _plain(name))


_FIRST = {_plain(name): _plain(group[0]) for group in SYNONYMS for name in group}
