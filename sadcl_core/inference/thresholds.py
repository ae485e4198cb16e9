"""Thresholds: from `0.5`, `auto`, `cat=0.3`, a table or a file to one number for each class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest
from sadcl_core.runtime.files import regular, safe_name, write_json
from sadcl_core.runtime.words import counted

ThresholdRequest: TypeAlias = (
    float | str | Path | Mapping[str, float] | Sequence[str] | Sequence[float] | npt.NDArray[np.floating] | None
)

SCHEMA_VERSION = 1
LARGEST = 1 << 27  # bytes of a file of thresholds
DEFAULT = 0.5  # as in the published tables
AUTO = "auto"
SCALE = "scores"  # in a file of thresholds: which scores they are for
CALIBRATED, AS_THEY_ARE = "calibrated", "as they are"


@dataclass(frozen=True)
class Thresholds:
    """A label counts when its score is above the threshold of its class.

    Attributes:
        values: (K,) in 0..1.
        description: for people, such as "0.5" or "the model's own thresholds, 0.10 to 0.40".
        name: for file names; empty for 0.5.
    """

    values: tuple[float, ...]
    description: str
    name: str


def choose(
    request: ThresholdRequest, classes: Sequence[str], own: Sequence[float] = (), *, calibrated: bool | None = None
) -> Thresholds:
    """Return a threshold for each class.

    Args:
        request: a number for all classes, K numbers, a table from class names to numbers, or texts as on the command line:
            numbers, `auto`, `CLASS=NUMBER` (several with commas between them) and files, of which later ones win. A class
            without a threshold takes the model's own, or 0.5 when it has none.
        classes: K names.
        own: K thresholds of the model, or none.
        calibrated: True if the scores are calibrated, False if they are not, None if unknown; a file of thresholds for the other
            kind is refused.

    Raises:
        UsageError: it is none of these, out of 0..1, no class of the model, or `auto` for a model without thresholds.
        DataError: the file is damaged or names other classes.

    Example:
        >>> choose(["0.3", "dog=0.7"], ["cat", "dog"]).values
        (0.3, 0.7)
        >>> choose({"dog": 0.7}, ["cat", "dog"]).values
        (0.5, 0.7)
        >>> choose(None, ["cat", "dog"], own=[0.2, 0.4]).values
        (0.2, 0.4)
    """
    if isinstance(request, Mapping):
        for name in request:
            _known(name, classes, name)
        table = {name: _in_range(value, f"{name}={value}") for name, value in request.items()}
        return _with_named(table, _general(None, classes, own, calibrated), classes)
    items: list[Any] = [request] if isinstance(request, float | int | str | Path) else [] if request is None else list(request)
    if not isinstance(request, float | int) and items and all(isinstance(item, float | int | np.floating) for item in items):
        if len(items) != len(classes):
            both = f"{counted(len(items), 'threshold')} for {counted(len(classes), 'class', 'classes')}"
            raise UsageError(f"{both}. Give one of each class, in order.")
        values = tuple(_in_range(float(item), f"{item}") for item in items)
        return Thresholds(values, f"thresholds of {min(values):.2f} to {max(values):.2f}", "own")
    texts = [str(item) for item in items]
    general = [text for text in texts if "=" not in text or _is_file(text)]
    if len(general) > 1:
        raise UsageError(f"--threshold {general[0]} and {general[1]} are both for all classes. Give one of them.")
    base = _general(general[0] if general else None, classes, own, calibrated)
    return _with_named(dict(pair for text in texts if text not in general for pair in _named(text, classes)), base, classes)


def read_thresholds(path: Path, classes: Sequence[str], *, calibrated: bool | None = None) -> tuple[float, ...]:
    """Read a JSON file of class names and numbers, such as `sadcl eval --calibrate` writes; every class must be there.

    Raises:
        DataError: it is not such a file, a class is missing, or a number is not in 0..1.
        UsageError: it says that it is for calibrated scores and these are not, or the other way round.
    """
    try:
        stored = json.loads(regular(path, most=LARGEST).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as JSON ({type(error).__name__}). Give a file of sadcl eval --calibrate."
        ) from None
    table = stored.get("thresholds", stored) if isinstance(stored, dict) else None
    if not isinstance(table, dict):
        raise DataError(f'{path} holds no thresholds. It must look like {{"cat": 0.3, "dog": 0.5}}.')
    about = {} if table is stored else stored
    version, scale = about.get("schema_version", SCHEMA_VERSION), about.get(SCALE)
    if version != SCHEMA_VERSION:
        raise DataError(f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}. Calibrate again.")
    if calibrated is not None and scale in (CALIBRATED, AS_THEY_ARE) and calibrated != (scale == CALIBRATED):
        other = "calibrated, and these are not" if scale == CALIBRATED else "not calibrated, and these are"
        raise UsageError(f"{path} is for scores that are {other}. Calibrate this model, or leave --uncalibrated out or in.")
    missing = [name for name in classes if name not in table]
    if missing:
        raise DataError(f"{path} has no threshold for {missing[0]!r} ({len(missing):,} of {len(classes):,} classes). Add it.")
    for name in classes:
        if isinstance(table[name], bool) or not isinstance(table[name], int | float) or not 0 <= table[name] <= 1:
            raise DataError(f"{path}: the threshold of {name!r} is {table[name]!r}, not a number between 0 and 1. Mend it.")
    return tuple(float(table[name]) for name in classes)


def write_thresholds(path: Path, classes: Sequence[str], values: Sequence[float], about: Mapping[str, Any]) -> Path:
    """Write a file that `read_thresholds` reads, with facts about the thresholds beside them."""
    write_json(path, {"schema_version": SCHEMA_VERSION, **about, "thresholds": dict(zip(classes, values, strict=True))})
    return path


def _with_named(named: Mapping[str, float], base: Thresholds, classes: Sequence[str]) -> Thresholds:
    if not named:
        return base
    values = tuple(named.get(name, value) for name, value in zip(classes, base.values, strict=True))
    description = ", ".join(f"{name} {value:g}" for name, value in named.items())
    name = "-".join(f"{safe_name(name)}-{value:g}" for name, value in list(named.items())[:3])
    return Thresholds(values, f"{description}, others above {base.description}", f"{base.name}-{name}".strip("-"))


def _general(item: str | None, classes: Sequence[str], own: Sequence[float], calibrated: bool | None) -> Thresholds:
    """Return the same kind of threshold for all classes: a number, the model's own, or those of a file."""
    if item is None:
        item = AUTO if own else str(DEFAULT)
    if item == AUTO:
        if not own:
            raise UsageError(
                "--threshold auto: the model has no thresholds of its own, or --uncalibrated leaves them out. "
                "Make them: sadcl eval --calibrate."
            )
        description = f"the model's own thresholds, {min(own):.2f} to {max(own):.2f}"
        never = sum(value >= 1 for value in own)
        if never:
            description += f" ({never} classes are never predicted: no threshold reaches the objective)"
        return Thresholds(tuple(own), description, AUTO)
    try:
        value = _in_range(float(item), item)
    except ValueError:
        path = Path(item)
    else:
        return Thresholds((value,) * len(classes), f"{value:g}", "" if value == DEFAULT else f"above-{value:g}")
    if not _is_file(item):
        raise UsageError(
            f"--threshold {item}: neither a number nor a file, neither auto nor CLASS=NUMBER. Give one of these, such as 0.5."
        )
    values = read_thresholds(path, classes, calibrated=calibrated)
    return Thresholds(values, f"the thresholds of {path}, {min(values):.2f} to {max(values):.2f}", safe_name(path.stem))


def _is_file(text: str) -> bool:
    """Return True if the text is the path of a file."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _named(item: str, classes: Sequence[str]) -> list[tuple[str, float]]:
    """Split `cat=0.3,dog=0.2` into pairs; a class name may itself hold a comma when it stands alone."""
    whole, _, last = item.rpartition("=")
    pairs = []
    for part in [item] if whole in classes and "," not in last else item.split(","):
        name, equals, number = part.rpartition("=")
        if not equals:
            raise UsageError(f"--threshold {item}: {part!r} is not CLASS=NUMBER. Write it like cat=0.3,dog=0.2.")
        _known(name, classes, item)
        try:
            value = float(number)
        except ValueError:
            raise UsageError(f"--threshold {item}: {number!r} is not a number. Write it like cat=0.3.") from None
        pairs.append((name, _in_range(value, item)))
    return pairs


def _known(name: str, classes: Sequence[str], item: str) -> None:
    if name not in classes:
        raise UsageError(f"--threshold {item}: there is no class {name!r}. {suggest(name, classes)}")


def _in_range(value: float, item: str) -> float:
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold {item}: scores lie between 0 and 1. Give a number in that range.")
    return float(value)
