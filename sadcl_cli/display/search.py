"""Sentences and tables of `sadcl search`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadcl_cli.console import new_table, one_line, show, show_table
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from sadcl_core.inference.embedding_index import EmbeddingIndex
    from sadcl_core.inference.search import Match


def index_sentence(index: EmbeddingIndex) -> str:
    """Say which features are searched."""
    about = index.about
    split = f", split {about['split']}" if about.get("split") else ""
    images, labels = counted(index.images.table.num_rows, "image"), counted(index.labels.table.num_rows, "label")
    return f"index {index.folder}: {images}, {labels} of {about.get('dataset', 'unknown data')}{split}"


def search_title(image: Path | None, label: str | None, *, prototype: bool) -> str:
    """Say what is compared with what."""
    if image is None:
        return f"nearest to the prototype of {label}" if prototype else f"{label} as in most images with it"
    return f"most like {image.name}" if label is None else f"{label} most like the {label} of {image.name}"


def show_matches(matches: Sequence[Match]) -> None:
    """Show a row for each match; whole images have no score."""
    table = new_table("image", "label", "cosine", *(["score"] if any(match.score is not None for match in matches) else []))
    for match in matches:
        what = match.label or ", ".join(match.labels) or "(no label)"
        score = [] if match.score is None else [f"{match.score:.2f}"]
        table.add_row(one_line(match.path or match.image), one_line(what), f"{match.cosine:.3f}", *score)
    show_table(table)


def show_duplicates(pairs: Sequence[tuple[Match, Match]], least: float) -> None:
    """Show a row for each pair, or say that there is none from a cosine on."""
    if not pairs:
        show(f"no two images at cosine {least:g} or above")
        return
    table = new_table("image", "the same as", "cosine")
    for pair in pairs:
        table.add_row(*(one_line(match.path or match.image) for match in pair), f"{pair[0].cosine:.3f}")
    show_table(table)


def match_document(match: Match) -> dict[str, Any]:
    """Return a match for JSON.

    Example:
        >>> from sadcl_core.inference.search import Match
        >>> match_document(Match("a.jpg", "/photos/a.jpg", 0.5, "dog", 0.9))["label"]
        'dog'
    """
    values = {**asdict(match), "cosine": round(match.cosine, 6), "labels": list(match.labels)}
    if match.score is not None:
        values["score"] = round(match.score, 6)
    return values
