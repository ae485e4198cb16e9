"""Read the formats that come down to a list of images with the names of their labels: their readers parse a file and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from sadcl_core.data.formats.labels import LabelRows, Paths, make_box
from sadcl_core.data.formats.source import UNASSIGNED, Source, label_files
from sadcl_core.data.formats.walk import images_under
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import readable
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted


class Entry(NamedTuple):
    """One image of a label file.

    Attributes:
        image: as the file names it.
        active: names of its labels, or indices into the classes where the file lists them.
        unknown: names or indices.
        split: empty where the file has one for all, or none.
        boxes: label, and left, top, width and height in pixels; None where the format has no boxes.
        absent: names or indices, where what is neither active nor absent is unknown; None where all others are absent.
    """

    image: Any
    active: Sequence[Any] = ()
    unknown: Sequence[Any] = ()
    split: str = UNASSIGNED
    boxes: Sequence[tuple[Any, Sequence[float]]] | None = None
    absent: Sequence[Any] | None = None


@dataclass(frozen=True)
class Listing:
    """The content of a label file.

    Attributes:
        classes: in their order; empty where the file does not list them.
        entries: the images; None for one that nobody has annotated.
        notes: for the person who prepares the data.
        values: `present`, `absent` or `unknown` by what the file holds of a class.
        beside: files that were read with it, such as one of splits.
    """

    classes: Sequence[str]
    entries: Iterable[Entry | None]
    notes: Sequence[str] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    beside: Sequence[Path] = ()


def read_listing(
    source: Source, kind: str, parse: Callable[[Path], Listing], *, content: str, paths: Paths = "elsewhere"
) -> Manifest:
    """Read one label file or more with a function that parses one of them; those of one split are parts.

    Raises:
        DataError: a file is missing or damaged, or two list different classes.
    """
    rows: LabelRows | None = None
    listed: tuple[str, ...] = ()
    for split, path in label_files(source):
        with readable(path, content):
            listing = parse(path)
            if rows is None:
                listed = tuple(listing.classes)
                rows = LabelRows(source, kind, classes=listed)
            if tuple(listing.classes) != listed:
                raise DataError(f"{path} and {rows.first_file} list different classes. Use files of one data set.")
            rows.start(path, paths=paths, values=listing.values)
            for file in listing.beside:
                rows.watch(file)
            for note in listing.notes:
                rows.note(f"{path.name}: {note}")
            without = _add(listing.entries, split, rows)
            if without:
                rows.note(f"{path.name}: left out {counted(without, 'image')} without an annotation")
    if rows is None:
        raise DataError(f"{source.root} has no {content}. Name the file.")
    return rows.manifest()


def _add(entries: Iterable[Entry | None], split: str, rows: LabelRows) -> int:
    """Add the images that are annotated; return how many are not."""
    without = 0
    for number, entry in enumerate(entries, start=1):
        if entry is None:
            without += 1
        else:
            add_entry(entry, rows, row=number, split=entry.split or split, where=f"{rows.file}, image {number}")
    return without


def add_entry(entry: Entry, rows: LabelRows, *, row: int, split: str, where: str) -> None:
    """Add an image with its labels and boxes; see `LabelRows.add`."""
    boxes = None
    if entry.boxes is not None:
        boxes = tuple(make_box(rows.label(name, where), map(float, sides), where) for name, sides in entry.boxes)
    rows.add(
        entry.image, entry.active, row=row, split=split, unknown=entry.unknown, boxes=boxes, absent=entry.absent, where=where
    )


def images_by_name(source: Source) -> dict[str, str]:
    """Return the images below the root by their name without extension; of those of the same name, the first.

    Returns:
        Paths relative to the root; none where only the labels are read.
    """
    images = [] if source.labels_only else sorted(images_under(source.root), reverse=True)
    return {PurePosixPath(image).stem: image for image in images}


def choose(names: Iterable[str], chosen: str, usual: Sequence[str], path: Path, what: str) -> str:
    """Return the field that holds the labels: the one that a person chose, else the first of `usual` names.

    Errors call the fields by the noun `what`.

    Raises:
        DataError: no field may hold labels, several may, or the chosen one is not among them.
    """
    fields = list(dict.fromkeys(names))
    shown = ", ".join(fields)[:200]
    if chosen and chosen not in fields:
        raise DataError(f"{path} has no {what} {chosen!r}, only {shown or 'none'}. Check --label-column.")
    if not fields:
        raise DataError(f"{path} has no {what} with labels. Check that this is the file of labels.")
    likely = next((name for name in usual if name in fields), fields[0] if len(fields) == 1 else "")
    if not (chosen or likely):
        raise DataError(f"{path} has the {what}s {shown}, and each may hold the labels. Say which: --label-column NAME.")
    return chosen or likely
