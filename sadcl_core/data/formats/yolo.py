"""YOLO folders: a text per image with a line per box, `class x y width height` as shares of the image.

    data.yaml                 names: [cat, dog]            or classes.txt, obj.names, a name per line
    train/images/a.jpg        images/train/a.jpg           or a.jpg
    train/labels/a.txt        labels/train/a.txt           and a.txt beside it
    images/a.jpg              object_detection/a.txt       object_detection/config.yaml
    train/_darknet.labels     a name per line              (Roboflow)
    obj.data                  names = obj.names            train = train.txt, a list of images     (darknet)

A line with more than four numbers is a polygon; its extent is the box. An image without a text has no label.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from sadcl_core.data.formats.labels import CLASS_LIST, LabelRows
from sadcl_core.data.formats.locate import cleaned, inside
from sadcl_core.data.formats.source import Source, split_above, split_name
from sadcl_core.data.formats.walk import images_under
from sadcl_core.data.images import image_size
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.rows import Box
from sadcl_core.data.tables import read_classes, read_lines, read_yaml
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

SUFFIXES = ()
DESCRIPTIONS = (".yaml", ".yml")
DESCRIPTION_NAMES = (
    "data.yaml",
    "data.yml",
    "dataset.yaml",
    "dataset.yml",
    "obj.data",
    "obj.names",
    "train/_darknet.labels",
    "_darknet.labels",
)
BESIDE_TEXTS = ("config.yaml", "config.yml")  # descriptions only where the texts lie, for much else is called so
DARKNET = (".data", ".names", ".labels")
LISTS = ("classes", "train", "val", "valid", "test")  # texts beside images that hold no boxes
NAMED = 3  # texts without an image that a note shows
SPLIT_KEYS = ("train", "val", "valid", "test")
NOTHING = (None, "", "~", "null", "Null", "NULL")
LOOKED_AT = 200  # images, until one has a text beside it


def recognises(folder: Path) -> bool:
    """Return True if there is a description with names, or texts that hold boxes."""
    try:
        description = _description(folder)
        if description is not None and "names" in _content(description):
            return True
    except DataError:
        return True  # a description that cannot be read is better complained of than passed over
    beside = _folders_of_texts(folder)
    texts = (_text_of(folder, image, beside) for image in islice(images_under(folder), LOOKED_AT))
    first = next((text for text in texts if text is not None and text.stat().st_size), None)  # an empty one says nothing
    return first is not None and is_boxes(first)


def is_boxes(text: Path) -> bool:
    """Return True if the first line of a file is a class and four numbers or more."""
    try:
        line = next((line for _, line in read_lines(text) if line.strip()), "")
        return len([float(part) for part in line.split()]) >= 5
    except (DataError, ValueError):
        return False


def read(source: Source) -> Manifest:
    """Read the boxes of every image.

    Raises:
        DataError: the classes have no names, a line is no box, or a class number is out of range.
    """
    description = next(iter(source.files.values()), None) or _description(source.root)
    content = _content(description) if description is not None else {}
    rows = LabelRows(source, "yolo", classes=_names(content, description))
    if not rows.fixed:
        raise DataError(
            f"{source.root} names no classes. Add a data.yaml with names: [cat, dog], or a {CLASS_LIST} with a name per line."
        )
    images = dict.fromkeys(_images(source.root, content, description, rows.watch))  # one may be in two splits
    rows.start(description or source.root, paths="exact")
    beside = _folders_of_texts(source.root)
    texts = {image: _text_of(source.root, image, beside) for _, image in images}
    for number, (split, image) in enumerate(images, start=1):
        boxes = _boxes(texts[image], rows)
        labels = [box.label for box in boxes]
        place = source.root / image
        rows.watch(place.parent)
        rows.add(image, labels, row=number, split=split, boxes=_in_pixels(place, boxes), where=str(place))
    for note in _unpaired(texts.values()):
        rows.note(note)
    return rows.manifest()


def _unpaired(texts: Collection[Path | None]) -> Iterator[str]:
    """Yield notes on images without a text, and on texts without an image."""
    without = sum(text is None for text in texts)
    if without:
        yield f"{counted(without, 'image')} without a label file, so without labels"
    paired = {str(text) for text in texts if text is not None}
    every = (path for folder in {os.path.dirname(text) for text in paired} for path in Path(folder).glob("*.txt"))  # noqa: PTH120 - many
    alone = sorted(path for path in every if str(path) not in paired and path.stem not in LISTS and is_boxes(path))
    if alone:
        shown = ", ".join(path.name for path in alone[:NAMED])
        yield f"left out {counted(len(alone), 'label file')} without an image ({shown}{', ...' if len(alone) > NAMED else ''})"


def _description(folder: Path) -> Path | None:
    """Return the description in a folder, or in one below it that holds the texts."""
    below = [folder / name for name in _folders_of_texts(folder) if any((folder / name).glob("*.txt"))]
    places = [folder / name for name in DESCRIPTION_NAMES]
    places += [place / name for place in below for name in (*DESCRIPTION_NAMES, *BESIDE_TEXTS)]
    return next((place for place in places if place.is_file()), None)


def _folders_of_texts(folder: Path) -> tuple[str, ...]:
    """Return the folders in which the texts of `images` may lie: `labels`, or any other beside it."""
    if not (folder / "images").is_dir():
        return ("labels",)
    others = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return ("labels", *(name for name in others if name not in ("images", "labels")))


def _content(description: Path) -> dict[str, Any]:
    """Read a description: YAML, or darknet's lines of `key = value` and list of names."""
    if description.suffix not in DARKNET:
        content = read_yaml(description)
        if not isinstance(content, dict):
            raise DataError(f"{description} is no description of a data set. It needs names: [cat, dog].")
        return content
    if description.suffix in (".names", ".labels"):
        return {"names": list(read_classes(description))}
    pairs = (line.partition("=") for _, line in read_lines(description))
    values: dict[str, Any] = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    names = PurePosixPath(str(values.get("names", "obj.names"))).name
    return {**values, "names": list(read_classes(description.with_name(names)))}


def _names(content: Mapping[str, Any], description: Path | None) -> tuple[str, ...]:
    """Class names as a list, or as an object from number to name."""
    names = content.get("names", [])
    if isinstance(names, dict):
        names = [names.get(str(k)) for k in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{description}: names is not a list of class names, or leaves a number out. Write names: [cat, dog].")
    return tuple(names)


def _images(
    root: Path, content: Mapping[str, Any], description: Path | None, watch: Callable[[Path], None]
) -> Iterator[tuple[str, str]]:
    """Yield split and path of each image: where the description says, else wherever there are images; watch lists of them."""
    named = False
    base = content.get("path", "")
    for key in SPLIT_KEYS:
        values = content.get(key)
        for value in values if isinstance(values, list) else [values] if values not in NOTHING else []:
            if not isinstance(value, str) or not isinstance(base, str):
                raise DataError(f"{description}: {key} or path is no path. Write {key}: images/{key}.")
            place = _place(root, value, base, f"{description}: {key}")
            if place is not None:
                named = True
                if (root / place).is_file():
                    watch(root / place)
                yield from ((split_name(key), image) for image in _images_at(root, place))
    if not named:
        yield from ((split_above(image), image) for image in images_under(root))


def _place(root: Path, value: str, base: str, where: str) -> str | None:
    """A folder or list of images as the description names it: below the root, whatever stood above it on another machine."""
    for candidate in (PurePosixPath(base) / value, PurePosixPath(value)):
        full = PurePosixPath(os.path.normpath(root / candidate))
        if full.is_relative_to(os.path.normpath(root)) and os.path.exists(full):  # noqa: PTH110 - False for what is no path
            return full.relative_to(os.path.normpath(root)).as_posix()
    if below := _below(root, value):
        return below
    if split_name(where.rsplit(" ", 1)[-1]) == "test":  # often named and not shipped
        return None
    raise DataError(f"{where}: {value[:200]} is not below {root}. Mend the path, or leave the line out.")


def _images_at(root: Path, place: str) -> Iterator[str]:
    if (root / place).is_dir():
        for image in images_under(root / place):
            yield image if place == "." else f"{place}/{image}"
        return
    for number, line in read_lines(root / place):
        if line.strip():
            row = f"{root / place}, row {number}"
            image = os.path.normpath(cleaned(line, root, row))
            yield _below(root, image) or inside(image, root, row)


def _below(root: Path, path: str) -> str:
    """Return a path without the leading parts that are not on this disk; empty if nothing of it is."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("..", ".", "/")]
    ends = ("/".join(parts[first:]) for first in range(len(parts)))
    return next((end for end in ends if os.path.exists(root / end)), "")  # noqa: PTH110 - False for what is no path


def _text_of(root: Path, image: str, folders: Sequence[str]) -> Path | None:
    """The text with an image's boxes: beside it, or in one of some folders instead of the last `images`."""
    path = PurePosixPath(image).with_suffix(".txt")
    parts = list(path.parts)
    places = [path]
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        places = [*(PurePosixPath(*parts[:last], name, *parts[last + 1 :]) for name in folders), path]
    return next((root / place for place in places if os.path.isfile(root / place)), None)  # noqa: PTH113


def _boxes(path: Path | None, rows: LabelRows) -> tuple[Box, ...]:
    """The boxes in a text, as shares of the sides of its image."""
    if path is None:
        return ()
    rows.watch(path.parent)
    boxes = []
    for number, line in read_lines(path):
        fields = line.split()
        if not fields:
            continue
        where = f"{path}, row {number}"
        try:
            label, numbers = int(fields[0]), [float(field) for field in fields[1:]]
        except ValueError:
            raise DataError(f"{where}: {line.strip()[:60]!r} is no box. Write: class x y width height.") from None
        if not all(-1 <= value <= 2 for value in numbers):
            raise DataError(f"{where}: {line.strip()[:60]!r} is not in shares of the image, from 0 to 1. Mend the line.")
        boxes.append(Box(rows.label(label, where), *_extent(numbers, where)))
    return tuple(boxes)


def _extent(numbers: list[float], where: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of a box given by its middle, or of a polygon given by its corners."""
    if len(numbers) in (4, 5):  # the fifth is the confidence of a prediction
        x, y, width, height = numbers[:4]
        return x - width / 2, y - height / 2, width, height
    if len(numbers) < 6 or len(numbers) % 2:
        raise DataError(f"{where} has {len(numbers)} numbers after the class. Write: class x y width height.")
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _in_pixels(image: Path, boxes: tuple[Box, ...]) -> tuple[Box, ...] | None:
    """Boxes in pixels; None when the image cannot be read, which the check of images reports."""
    if not boxes:
        return ()
    try:
        width, height = image_size(image)
    except DataError:
        return None
    return tuple(Box(b.label, b.x * width, b.y * height, b.width * width, b.height * height) for b in boxes)
