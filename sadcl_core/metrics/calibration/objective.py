"""The aim that thresholds are tuned for, as people write it: `f1`, `precision>=0.9`, `recall:0.8`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from sadcl_core.errors import UsageError

Kind = Literal["f1", "precision", "recall"]
_FORM = re.compile(r"(?P<kind>[a-z0-9]+)(?:\s*(?:>=|≥|=>|[:=>\s])\s*(?P<number>[0-9]*\.?[0-9]+)\s*(?P<percent>%?))?")
_EXAMPLES = "Write f1, precision:0.9 or recall:0.8"


@dataclass(frozen=True)
class Objective:
    """The highest F1; or the most recall with a precision of `at_least`; or the most precision with a recall of `at_least`.

    Attributes:
        kind: f1, precision or recall.
        at_least: above 0, at most 1; None for f1.
    """

    kind: Kind
    at_least: float | None = None

    def __post_init__(self) -> None:
        if (self.kind == "f1") != (self.at_least is None):
            raise ValueError(f"{self.kind} with at_least {self.at_least}: precision and recall need it, f1 has none")
        if self.at_least is not None and not 0 < self.at_least <= 1:
            raise ValueError(f"at_least must be above 0 and at most 1, got {self.at_least}")

    def __str__(self) -> str:
        """Return the form that `parse_objective` reads."""
        return self.kind if self.at_least is None else f"{self.kind}>={self.at_least}"


def parse_objective(text: str) -> Objective:
    """Read `f1`, or `precision` or `recall` with the value it must reach: `precision>=0.9`, `recall:0.8`, `recall = 80%`.

    Raises:
        UsageError: it is none of these.

    Example:
        >>> parse_objective("recall: 80%")
        Objective(kind='recall', at_least=0.8)
    """
    match = _FORM.fullmatch(text.strip().lower())
    if match is None or match["kind"] not in ("f1", "precision", "recall"):
        raise UsageError(f"{text!r} is not an aim for thresholds. {_EXAMPLES}.")
    kind = cast(Kind, match["kind"])
    if kind == "f1":
        if match["number"] is not None:
            raise UsageError(f"{text!r}: F1 is made as high as it goes and takes no value. {_EXAMPLES}.")
        return Objective("f1")
    if match["number"] is None:
        raise UsageError(
            f"{text!r} does not say which {kind} must be reached. In a shell > redirects, so quote it, '{kind}>=0.9', "
            f"or write {kind}:0.9."
        )
    value = float(match["number"]) / (100 if match["percent"] else 1)
    if not 0 < value <= 1:
        raise UsageError(f"{text!r}: a {kind} lies between 0 and 1. Write it like {kind}:0.9 or {kind}:90%.")
    return Objective(kind, value)
