"""From what a person says of thresholds to one number per class: `0.5`, `auto`, `cat=0.3`, or a file of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest
from sadcl_core.runtime.files import write_json

SCHEMA_VERSION = 1
DEFAULT = 0.5  # as in the published tables
AUTO = "auto"
SCALE = "scores"  # in a file of thresholds: which scores they are for
CALIBRATED, AS_THEY_ARE = "calibrated", "as they are"


@dataclass(frozen=True)
class Thresholds:
    """A label counts when its score is above the threshold of its class.

    Attributes:
        values: (K,) in 0..1.
        said: for people, after "labels above".
        name: for file names; empty for 0.5.
    """

    values: tuple[float, ...]
    said: str
    name: str


def choose(
    asked: Sequence[str],
    classes: Sequence[str],
    own: Sequence[float] = (),
    *,
    calibrated: bool | None = None,
) -> Thresholds:
    """The thresholds that were asked for, the later ones of the same class winning.

    Args:
        asked: numbers, `auto`, `CLASS=NUMBER` (several with commas between them), or files; where nothing is said of a class,
            the model's own, or 0.5 when it has none.
        classes: K names.
        own: K thresholds of the model, or none.
        calibrated: whether the scores are, if that is known: a file of thresholds for the others is refused.

    Raises:
        UsageError: it is none of these, out of 0..1, no class of the model, or `auto` for a model without thresholds.
        DataError: the file is damaged or names other classes.
    """
    general = [item for item in asked if "=" not in item or _is_file(item)]
    if len(general) > 1:
        raise UsageError(f"--threshold {general[0]} and {general[1]} are both for all classes. Give one of them.")
    base = _general(general[0], classes, own, calibrated) if general else _general(AUTO if own else str(DEFAULT), classes, own)
    named = {name: value for item in asked if item not in general for name, value in _named(item, classes)}
    if not named:
        return base
    values = tuple(named.get(name, value) for name, value in zip(classes, base.values, strict=True))
    said = ", ".join(f"{name} {value:g}" for name, value in named.items())
    name = "-".join(f"{_plain(name)}-{value:g}" for name, value in list(named.items())[:3])
    return Thresholds(values, f"{said}, others above {base.said}", f"{base.name}-{name}".strip("-"))


def read_thresholds(path: Path, classes: Sequence[str], *, calibrated: bool | None = None) -> tuple[float, ...]:
    """A JSON file of class names and numbers, such as `sadcl eval --calibrate` writes; every class must be there.

    Raises:
        DataError: it is no such file, a class is missing, or a number is not in 0..1.
        UsageError: it says that it is for calibrated scores and these are not, or the other way round.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as JSON ({type(error).__name__}). Give a file of sadcl eval --calibrate."
        ) from None
    table = stored.get("thresholds", stored) if isinstance(stored, dict) else None
    if not isinstance(table, dict):
        raise DataError(f'{path} holds no thresholds. It must look like {{"cat": 0.3, "dog": 0.5}}.')
    version = stored.get("schema_version", SCHEMA_VERSION) if table is not stored else SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        raise DataError(f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}. Calibrate again.")
    scale = stored.get(SCALE) if table is not stored else None
    if calibrated is not None and scale in (CALIBRATED, AS_THEY_ARE) and calibrated != (scale == CALIBRATED):
        other = "calibrated, and these are not" if scale == CALIBRATED else "not calibrated, and these are"
        raise UsageError(f"{path} is for scores that are {other}. Calibrate this model, or leave --uncalibrated out or in.")
    missing = [name for name in classes if name not in table]
    if missing:
        raise DataError(f"{path} has no threshold for {missing[0]!r} ({len(missing):,} of {len(classes):,} classes). Add it.")
    return tuple(_from_file(path, name, table[name]) for name in classes)


def write_thresholds(path: Path, classes: Sequence[str], values: Sequence[float], about: Mapping[str, Any]) -> Path:
    """Write what `read_thresholds` reads, and what it was made for and on."""
    write_json(path, {"schema_version": SCHEMA_VERSION, **about, "thresholds": dict(zip(classes, values, strict=True))})
    return path


def _general(item: str, classes: Sequence[str], own: Sequence[float], calibrated: bool | None = None) -> Thresholds:
    if item == AUTO:
        if not own:
            raise UsageError(
                "--threshold auto: the model has no thresholds of its own, or --uncalibrated leaves them out. "
                "Make them: sadcl eval --calibrate."
            )
        said = f"the model's own thresholds, {min(own):.2f} to {max(own):.2f}"
        never = sum(value >= 1 for value in own)
        said += f" ({never} classes are never said: no threshold reaches what was asked for)" if never else ""
        return Thresholds(tuple(own), said, AUTO)
    try:
        value = float(item)
    except ValueError:
        return _file(Path(item), classes, calibrated)
    value = _in_range(value, item)
    return Thresholds((value,) * len(classes), f"{value:g}", "" if value == DEFAULT else f"above-{value:g}")


def _file(path: Path, classes: Sequence[str], calibrated: bool | None) -> Thresholds:
    if not _is_file(str(path)):
        raise UsageError(
            f"--threshold {path} is no number, no file, and neither auto nor CLASS=NUMBER. Give one of these, such as 0.5."
        )
    values = read_thresholds(path, classes, calibrated=calibrated)
    return Thresholds(values, f"the thresholds of {path}, {min(values):.2f} to {max(values):.2f}", _plain(path.stem))


def _is_file(text: str) -> bool:
    """Whether this is the path of a file; a long list of thresholds is none."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _named(item: str, classes: Sequence[str]) -> list[tuple[str, float]]:
    """`cat=0.3,dog=0.2` as pairs; a class name may itself hold a comma when it stands alone."""
    whole, _, last = item.rpartition("=")
    pairs = []
    for part in [item] if whole in classes and "," not in last else item.split(","):
        name, equals, number = part.rpartition("=")
        if not equals:
            raise UsageError(f"--threshold {item}: {part!r} is not CLASS=NUMBER. Write it like cat=0.3,dog=0.2.")
        if name not in classes:
            raise UsageError(f"--threshold {item}: there is no class {name!r}. {suggest(name, classes)}")
        try:
            pairs.append((name, _in_range(float(number), item)))
        except ValueError:
            raise UsageError(f"--threshold {item}: {number!r} is no number. Write it like cat=0.3.") from None
    return pairs


def _in_range(value: float, item: str) -> float:
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold {item}: scores lie between 0 and 1. Give a number in that range.")
    return value


def _from_file(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"{path}: the threshold of {name!r} is {value!r}, not a number between 0 and 1. Mend it.")
    return float(value)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)[:40]
