"""Say what a class reaches that was added to a model."""

from __future__ import annotations

import math
from dataclasses import asdict
from shlex import quote
from typing import Any

from sadcl_cli.console import one_line
from sadcl_core.training.extend import LEAST_OF_INTERVAL, Extension

NAMED = 5  # images that look like the class


def document_of(extension: Extension) -> dict[str, Any]:
    """Return an extension as a document for JSON."""
    document = {**asdict(extension), "run": str(extension.run), "model": str(extension.model)}
    if math.isnan(extension.interval[0]):
        document["interval"] = None
    return {"schema_version": 1, **document}


def sentences_of(extension: Extension) -> list[str]:
    """Return the result in one sentence, and notes on what it means."""
    name, (low, high) = one_line(extension.name), extension.interval
    sure = " interpolated" if math.isnan(low) else f" [{low:.1f}, {high:.1f}] interpolated"
    if extension.photos < LEAST_OF_INTERVAL:
        sure += f" (no interval for fewer than {LEAST_OF_INTERVAL} photos)"
    sentences = [
        f"{name}: AP {extension.ap_interpolated:.1f}{sure}, {extension.ap_non_interpolated:.1f} non-interpolated, "
        f"{extension.photos:,} photos among {extension.compared:,} {one_line(extension.source)}, each scored by rows that were "
        "fitted without it",
        f"threshold {extension.threshold:.3f}: {extension.recall:.0f} % of the photos are above it, and "
        f"{extension.false_positives:,} of the {extension.compared:,} other images",
    ]
    if not extension.confirmed:
        sentences.append(
            f"nobody has looked whether those images show {name}: they counted as without it, and where they show it "
            "the class is better than these numbers. Photos from elsewhere may make it look better than it is"
        )
    if extension.alike:
        some = ", ".join(map(one_line, extension.alike[:NAMED]))
        sentences.append(f"images without {name} that look most like it: {some}")
    sentences.append(
        f"run saved to {extension.run}, where sadcl eval --data LABELS -w {quote(str(extension.run))} measures it on labels"
    )
    return sentences
