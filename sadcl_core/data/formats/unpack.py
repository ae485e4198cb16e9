"""Write the images that are inside label files to a folder beside the manifest, since the manifest names files."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sadcl_core.data.formats.labels import CLASS_LIST, class_lists
from sadcl_core.data.formats.source import Source, describe_source, label_files
from sadcl_core.data.image_files import check_decodable, identify, image_file
from sadcl_core.data.images import EXTENSIONS, explained_image
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import replacing
from sadcl_core.runtime.words import counted

UNPACKED = "unpacked"  # beside the manifest
# first bytes of a file, and its suffix
STARTS = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"GIF8": ".gif",
}


def unpack_folder(source: Source) -> Path:
    """Return the folder for the images of label files.

    Raises:
        DataError: the source has no such folder, since images are unpacked only when data are prepared.
    """
    if source.unpacked is None:
        raise DataError(f"{source.root} holds its images in the label files. Unpack them first: sadcl prepare-data.")
    return source.unpacked


def unpack(source: Source, name: str, content: bytes) -> str:
    """Write an image unless it is there; return its path below the folder.

    The first bytes of its content decide on the suffix where the name has none of an image.
    """
    if not name.lower().endswith(EXTENSIONS):
        name += next((suffix for start, suffix in STARTS.items() if content.startswith(start)), ".jpg")
    path = unpack_folder(source) / name
    if not source.labels_only and not (path.is_file() and path.read_bytes() == content):
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return name


def compose(
    source: Source,
    name: str,
    files: Mapping[str, str],
    bands: Sequence[str],
    plane: Callable[[Image.Image], npt.NDArray[np.uint8]],
) -> str:
    """Write the picture of an image from its files, unless it is there; return its path below the folder.

    Paths of files below the root are by NAME_BAND, without extension, the bands those of red, green and blue; `plane` returns the
    grey values (H, W) of a file.

    Raises:
        DataError: some of the files are missing or damaged, or they are of several sizes.
    """
    path = unpack_folder(source) / f"{name}.png"
    if source.labels_only or path.is_file():
        return path.name
    planes = []
    for band in bands:
        if f"{name}_{band}" not in files:
            raise DataError(f"{source.root} has no {name}_{band}. Unpack the files of all colours or bands there.")
        file = source.root / files[f"{name}_{band}"]
        with explained_image(file), identify(image_file(file)) as image:
            check_decodable(image)
            planes.append(plane(image))
    if len({values.shape for values in planes}) > 1:
        raise DataError(f"{source.root}: the files of {name} have different sizes. Fetch them again.")
    content = io.BytesIO()
    Image.fromarray(np.stack(planes, axis=-1)).save(content, "PNG")
    return unpack(source, path.name, content.getvalue())


def not_there(count: int, noun: str, plural: str = "") -> list[str]:
    """Return the note on images of a table that are not on the disk, for many fetch a part of a large data set; none for 0."""
    return [f"left out {counted(count, noun, plural)}, not on the disk"] if count else []


def read_unpacked(
    source: Source,
    kind: str,
    files: Mapping[str, Path],
    read: Callable[[Source], Manifest],
    *,
    notes: Sequence[str] = (),
    **reading: Any,
) -> Manifest:
    """Read the labels of unpacked images, in files by split, as those of the label files that held both.

    Choices of reading that were followed when the images were unpacked are replaced by `reading`.

    Raises:
        DataError: as `read` raises it, but about the label file of a split, where it is one.
    """
    folder, given, beside = unpack_folder(source), label_files(source), class_lists(source)
    (folder / CLASS_LIST).unlink(missing_ok=True)
    for path in beside:
        shutil.copyfile(path, folder / CLASS_LIST)
    inner = replace(source, root=folder, files=files, parts=(), guess=False, reading=replace(source.reading, **reading))
    try:
        manifest = read(inner)
    except DataError as error:
        text = str(error)
        for split, file in files.items():
            own = [path for of_split, path in given if of_split == split or len(given) == 1]
            text = text.replace(str(file), str(own[0])) if len(own) == 1 else text
        raise DataError(text) from None
    paths = [path for _, path in given]
    origin = describe_source(kind, [*paths, *beside, *dict.fromkeys(path.parent for path in paths)])
    note = f"the images were in {paths[0].name}{' and other files' if len(paths) > 1 else ''}; they are unpacked to {UNPACKED}/"
    manifest.description = replace(manifest.description, source=origin, notes=(note, *notes, *manifest.description.notes))
    return manifest
