"""A text per class with its images, as in MIRFlickr (Huiskes and Lew, MIR 2008).

    mirflickr25k_annotations_v080/baby.txt     1              a number a line: that at the end of the name of an image
    mirflickr25k_annotations_v080/sky.txt      sunset.jpg     or an image a line
    mirflickr/im1.jpg

The texts lie in a folder with `annotations` in its name, and are the only ones there. Images of no list have no label.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.formats.source import UNASSIGNED, Source, split_of_file
from sadcl_core.data.formats.unpack import not_there
from sadcl_core.data.formats.walk import folders_in, images_under
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import filled_lines, looks_like_image
from sadcl_core.errors import DataError

SUFFIXES = ()
FOLDER = "annotations"  # in the name of the folder of the lists
PROSE = re.compile(r"readme.*|licen[cs]e.*", re.IGNORECASE)
HEAD = 20  # lines that show what a text is


def recognises(folder: Path) -> bool:
    """Return True if there are several lists, called after no split, and no other texts beside them."""
    return bool(_lists(folder))


def read(source: Source) -> Manifest:
    """Read every list.

    Raises:
        DataError: no lists are found, or none of their images is on the disk.
    """
    lists = _lists(source.folder)
    if not lists:
        raise DataError(f"{source.folder} has no lists of images such as annotations/sky.txt, one per class. Check the path.")

    def parse(folder: Path) -> Listing:
        images = list(images_under(source.root))
        labels = {path.stem: [line for _, line in filled_lines(path)] for path in lists}
        names = {_key(image): image for image in reversed(images)}
        active: dict[str, list[str]] = {image: [] for image in images}
        gone = set()
        for label, listed in labels.items():
            for name in listed:
                image = names.get(_key(name))
                if image is None:
                    gone.add(name)
                else:
                    active[image].append(label)
        if len(gone) == len({name for listed in labels.values() for name in listed}):
            raise DataError(f"None of the {len(gone):,} images of {folder} lies below {source.root}. Say with --data DIR where.")
        notes = [f"each text lists the images of the class that it is called after: {', '.join(islice(labels, 3))}, ..."]
        notes += not_there(len(gone), "listed image")
        return Listing(list(labels), (Entry(image, own) for image, own in active.items()), notes, beside=lists)

    return read_listing(replace(source, files={"": lists[0].parent}), "class_lists", parse, content="lists", paths="exact")


def _lists(folder: Path) -> list[Path]:
    """Return the lists in a folder of annotations: this one, or one in it."""
    for place in (folder, *folders_in(folder)):
        if FOLDER in place.name.lower():
            texts = sorted(path for path in place.glob("*.txt") if not PROSE.fullmatch(path.stem))
            if len(texts) > 1 and all(split_of_file(text, place) == UNASSIGNED and _is_list(text) for text in texts):
                return texts
    return []


def _is_list(path: Path) -> bool:
    try:
        lines = [line for _, line in islice(filled_lines(path), HEAD)]
    except DataError:
        return False
    return all(map(str.isdecimal, lines)) or (all(map(looks_like_image, lines)) and not any(" " in line for line in lines))


def _key(name: str) -> int | str:
    """Return the number at the end of the name of an image, without extension, else the name."""
    stem = PurePosixPath(name.replace("\\", "/")).stem
    number = re.search(r"\d+$", stem)
    return int(number[0]) if number else stem
