"""What a check comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Status = Literal["found", "passed", "not checked"]
Severity = Literal["serious", "doubtful", "minor"]
SEVERITIES: tuple[Severity, ...] = ("serious", "doubtful", "minor")  # the worst first
NAMED = 5  # classes or files that a sentence names
Part = TypeVar("Part")


@dataclass(frozen=True)
class Absent:
    """A piece of evidence that is not to be had, and why, as the end of a sentence."""

    why: str


class NotThereError(Exception):
    """What a check needs is not to be had; the message says why."""


def there(part: Part | Absent) -> Part:
    """The piece of evidence itself.

    Raises:
        NotThereError: it is absent.
    """
    if isinstance(part, Absent):
        raise NotThereError(part.why)
    return part


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        status: whether something was found, nothing was, or nothing could be looked at.
        said: one or two sentences with the numbers.
        action: the one thing to do, where something was found.
        severity: of what was found.
        numbers: the evidence, for programs.
    """

    status: Status
    said: str
    action: str = ""
    severity: Severity | None = None
    numbers: dict[str, Any] = field(default_factory=dict)


def found(severity: Severity, said: str, action: str, **numbers: Any) -> Verdict:
    """Something is wrong, and one thing is to be done."""
    return Verdict("found", said, action, severity, numbers)


def passed(said: str, **numbers: Any) -> Verdict:
    """Nothing is wrong."""
    return Verdict("passed", said, numbers=numbers)


def named(names: list[str]) -> str:
    """The first names, and how many more there are."""
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + rest
