"""VOC's lists of one class each, without its annotations: 1 is present, -1 absent, and 0 difficult, which is unknown.

DIR[/VOCdevkit][/VOC2007]/ImageSets/Main/dog_trainval.txt     000005 -1
DIR[/VOCdevkit][/VOC2007]/JPEGImages/000005.jpg               000007  1
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.formats.source import Source
from sadcl_core.data.formats.voc import image_suffix
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import filled_lines
from sadcl_core.errors import DataError

SUFFIXES = ()
OPTIONS = ("difficult",)
PLACES = ("*", "VOCdevkit/*", ".", "VOCdevkit")  # of JPEGImages and ImageSets
LIST = re.compile(r"(.+)_(trainval|train|val|test)")
STATES = {"ignore": "unknown", "negative": "absent", "positive": "present"}  # of difficult objects


def recognises(folder: Path) -> bool:
    """Return True if a folder holds images and lists of classes in VOC's layout, and no annotations."""
    return _devkit(folder) is not None


def read(source: Source) -> Manifest:
    """Read the lists of trainval and test, or of train, val and test.

    Raises:
        DataError: no such list is found, a row is not an image with 1, -1 or 0, or the lists of a split name different images.
    """
    devkit = _devkit(source.root)
    if devkit is None:
        raise DataError(f"{source.root} has no lists such as ImageSets/Main/dog_trainval.txt beside JPEGImages/.")
    lists = _lists(devkit)
    whole = "trainval" in lists and ("test" in lists or "train" not in lists)
    words = ("trainval", "test") if whole else ("train", "val", "test")
    prefix = (devkit / "JPEGImages").relative_to(source.root).as_posix()

    def parse(path: Path) -> Listing:
        match = LIST.fullmatch(path.stem)
        assert match is not None, "only such files are listed"
        own = lists[match[2]]
        columns = {name: dict(_rows(file)) for name, file in own.items()}
        images = columns[match[1]].keys()
        other = next((file for name, file in own.items() if columns[name].keys() != images), None)
        if other is not None:
            raise DataError(f"{other} and {path} name different images. Unpack all lists of one data set.")
        states = {"1": "present", "-1": "absent", "0": STATES[source.reading.difficult]}

        def entry(name: str) -> Entry:
            labels = {label: states[column[name]] for label, column in columns.items()}
            active, unknown = ([label for label in labels if labels[label] == state] for state in ("present", "unknown"))
            return Entry(f"{prefix}/{name}{image_suffix(devkit, name)}", active, unknown)

        return Listing(sorted(own), map(entry, images), values=states, beside=[*own.values()])

    parts = tuple((word.replace("trainval", "train"), min(lists[word].values())) for word in words if word in lists)
    return read_listing(replace(source, parts=parts), "voc_lists", parse, content="lists of classes", paths="exact")


def _devkit(folder: Path) -> Path | None:
    """Return the folder that holds JPEGImages and lists of classes, without annotations."""
    places = (path.parent for place in PLACES for path in sorted(folder.glob(f"{place}/JPEGImages")))
    return next((place for place in places if _lists(place) and not any((place / "Annotations").glob("*.xml"))), None)


def _lists(devkit: Path) -> dict[str, dict[str, Path]]:
    """Return the lists of classes by split."""
    lists: dict[str, dict[str, Path]] = {}
    for path in sorted((devkit / "ImageSets" / "Main").glob("*_*.txt")):
        if match := LIST.fullmatch(path.stem):
            lists.setdefault(match[2], {})[match[1]] = path
    return lists


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and flag of each image of a list."""
    for row, line in filled_lines(path):
        fields = line.split()
        if len(fields) != 2 or fields[1].lstrip("+") not in ("1", "-1", "0") or Path(fields[0]).name != fields[0]:
            raise DataError(f"{path}, row {row}: {line[:60]!r} is not an image and 1, -1 or 0. Mend the row.")
        yield fields[0], fields[1].lstrip("+")
