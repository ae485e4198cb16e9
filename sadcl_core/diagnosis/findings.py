"""The result of a check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Status = Literal["found", "passed", "not checked"]
Severity = Literal["serious", "doubtful", "minor"]
SEVERITIES: tuple[Severity, ...] = ("serious", "doubtful", "minor")  # the worst first
LISTED = 5  # classes or files that a sentence names


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        status: something is wrong, nothing is, or the check could not be made.
        message: one or two sentences with the numbers, or why the check could not be made.
        action: the one thing to do, where something was found.
        numbers: the evidence, by name.
        looks_for: what the check looks for, in a few words.
    """

    status: Status
    message: str
    action: str = ""
    severity: Severity | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    looks_for: str = ""


def found(severity: Severity, message: str, action: str, **numbers: Any) -> Finding:
    """Return that something is wrong, and the one thing to do."""
    return Finding("found", message, action, severity, numbers)


def passed(message: str, **numbers: Any) -> Finding:
    """Return that nothing is wrong."""
    return Finding("passed", message, numbers=numbers)


class NotCheckedError(Exception):
    """A check that cannot be made; the message says why."""


def outcome(look: Callable[[T], Finding], evidence: T) -> Finding:
    """Return the finding of a check, or that it could not be made."""
    try:
        return look(evidence)
    except NotCheckedError as error:
        return Finding("not checked", str(error))


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + rest
