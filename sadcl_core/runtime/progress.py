"""Callbacks by which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # how many are done, of how many
StagedProgress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many (0: not known)


class Bytes(str):
    """The name of a stage whose amounts are bytes."""


def stage(report: StagedProgress | None, what: str) -> Progress | None:
    """The progress of one stage, of a work that has several."""
    return None if report is None else lambda done, total: report(what, done, total)
