"""Read the formats that have a file for each image, beside it or in another folder: labelImg's, labelme's, Supervisely's."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.listing import Entry, add_entry
from sadcl_core.data.formats.locate import plain
from sadcl_core.data.formats.source import Source, split_above
from sadcl_core.data.formats.walk import files_under, images_under, is_folder
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

LOOKED_AT = 50  # files of a suffix, until one is an annotation
ENTRIES, FOLDERS = 500, 500  # among which they are looked for: files of a folder, and folders


def first_files(folder: Path, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """Return the first files below a folder with each of some suffixes; not all of many folders and files are looked at."""
    found: dict[str, list[Path]] = {suffix: [] for suffix in suffixes}
    folders = [folder]
    for where in islice(folders, FOLDERS):  # more of them are added on the way
        with suppress(OSError), os.scandir(where) as entries:
            for entry in islice(entries, ENTRIES):
                if is_folder(entry):
                    folders += [] if entry.name.startswith(".") else [Path(entry)]
                elif entry.name.lower().endswith(tuple(suffixes)) and not entry.name.startswith("."):
                    own = found[Path(entry).suffix.lower()]
                    own += [Path(entry)] if len(own) < LOOKED_AT else []
        if all(len(own) == LOOKED_AT for own in found.values()):
            break
    return found


def read_annotations(source: Source, kind: str, suffix: str, parse: Callable[[Path, LabelRows], Entry | None]) -> Manifest:
    """Read every file with a suffix below the root, with a function that returns None where a file holds something else.

    A file belongs to the image of its own name, as near to it as can be; the name that it holds may be of another time or
    machine, or blank. An image without a file has no label, and folders called train, val or test are the splits.

    Raises:
        DataError: no image has a file, one has two, or a file is damaged.
    """
    rows = LabelRows(source, kind)
    rows.start(source.root, paths="exact")
    images = list(images_under(source.root))
    by_stem: dict[str, list[str]] = {}
    for image in images:
        by_stem.setdefault(plain(PurePosixPath(image).stem), []).append(image)
    found: dict[str, tuple[str, Entry]] = {}
    without_image: list[str] = []
    for file in files_under(source.folder, suffix):
        entry = parse(source.folder / file, rows)
        if entry is None:
            continue
        rows.watch((source.folder / file).parent)
        image = _image_of(file, entry.image, by_stem) or (file.removesuffix(suffix) if source.labels_only else "")
        if not image:
            without_image.append(file)
        elif image in found:
            raise DataError(f"{source.folder}: {found[image][0]} and {file} are both about {image}. Remove one of them.")
        else:
            found[image] = file, entry
    if not found:
        raise DataError(
            f"{source.root} has no image with a {suffix} file of its name. Name the folder of both, or the images with --data."
        )
    described = {plain(PurePosixPath(image).stem) for image in found}
    empty = [image for image in images if image not in found and plain(PurePosixPath(image).stem) not in described]
    for number, image in enumerate(sorted([*found, *empty]), start=1):
        file, entry = found.get(image, ("", Entry(image)))
        where = str(source.folder / file if file else source.root / image)
        split = split_above(image) or split_above(file)
        add_entry(entry._replace(image=image), rows, row=number, split=split, where=where)
    if empty:
        rows.note(f"{counted(len(empty), 'image')} without a {suffix} file of the same name, so without labels")
    if without_image:
        count = counted(len(without_image), f"{suffix} file")
        rows.note(f"{count} without an image of the same name, such as {without_image[0]}, left out")
    return rows.manifest()


def _image_of(file: str, named: str, by_stem: dict[str, list[str]]) -> str:
    """Return the image that a file is about: of the file's name, else of that named in it; of several the nearest; else blank.

    Raises:
        DataError: it may be one of several.
    """
    path, named = PurePosixPath(file), plain(named.replace("\\", "/").rpartition("/")[2])
    stems = (plain(path.stem), plain(PurePosixPath(path.stem).stem), PurePosixPath(named).stem)
    images = next((by_stem[stem] for stem in stems if stem in by_stem), [])

    def nearness(image: str) -> tuple[bool, bool, int]:
        other = PurePosixPath(image)
        called = plain(other.name) in (named, plain(path.stem))
        return other.parent == path.parent, called, len({*other.parent.parts} & {*path.parent.parts})

    best = sorted(images, key=nearness, reverse=True)
    if len(best) > 1 and nearness(best[0]) == nearness(best[1]):
        raise DataError(f"{file} may be about {best[0]} or {best[1]}. Put it beside its image, or give one of the folders.")
    return best[0] if best else ""
