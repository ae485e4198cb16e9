"""The table of suspected label errors; see `sadcl_core.metrics.label_errors`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from sadcl_core.metrics.label_errors import SuspectedError
from sadcl_core.runtime.files import replacing, to_cell

COLUMNS = ("image", "label", "kind", "score", "margin", "similarity", "suspicion", "rank")


def write_suspects(path: Path, suspects: Sequence[SuspectedError], images: Sequence[str], classes: Sequence[str]) -> None:
    """Write a table as CSV, a row per suspected label, the most suspicious first; the first rank is 1. A split has image names.

    Raises:
        UsageError: the place cannot be written to.
        MachineError: the disk is full.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for rank, one in enumerate(suspects, start=1):
            similarity = "" if one.similarity is None else f"{one.similarity:.4f}"
            numbers = (f"{one.score:.6f}", f"{one.margin:.4f}", similarity, f"{one.suspicion:.4f}", rank)
            writer.writerow((to_cell(images[one.image]), to_cell(classes[one.label]), one.kind, *numbers))
