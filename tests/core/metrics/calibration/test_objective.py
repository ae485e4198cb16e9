from __future__ import annotations

import pytest

from sadcl_core.errors import UsageError
from sadcl_core.metrics.calibration import Objective, parse_objective


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f1", Objective("f1")),
        (" F1 ", Objective("f1")),
        ("precision>=0.9", Objective("precision", 0.9)),
        ("precision:0.9", Objective("precision", 0.9)),
        ("precision=.9", Objective("precision", 0.9)),
        ("Precision >= 90%", Objective("precision", 0.9)),
        ("recall 0.8", Objective("recall", 0.8)),
        ("recall≥1", Objective("recall", 1.0)),
    ],
)
def test_is_read_as_people_write_it(text: str, expected: Objective) -> None:
    assert parse_objective(text) == expected
    assert parse_objective(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("precision", r"'precision>=0\.9', or write precision:0\.9"),
        ("recall", r"'recall>=0\.9', or write recall:0\.9"),
        ("f1>=0.8", "takes no value"),
        ("precision:90", "between 0 and 1"),
        ("recall:0", "between 0 and 1"),
        ("recall:101%", "between 0 and 1"),
        ("accuracy", "Write f1"),
        ("precision<=0.5", "Write f1"),
        ("precision:-1", "Write f1"),
        ("", "Write f1"),
    ],
)
def test_refusal_says_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        parse_objective(text)


@pytest.mark.parametrize(("kind", "at_least"), [("f1", 0.5), ("precision", None), ("recall", 0.0), ("recall", 1.1)])
def test_an_objective_makes_sense(kind: str, at_least: float | None) -> None:
    with pytest.raises(ValueError, match="at_least"):
        Objective(kind, at_least)  # type: ignore[arg-type]
