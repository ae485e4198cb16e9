"""YOLO folders: a text per image with a line per box, `class x y width height` as shares of the image.

    data.yaml                 names: [cat, dog]            or classes.txt, obj.names, a name per line
    train/images/a.jpg        images/train/a.jpg           or a.jpg
    train/labels/a.txt        labels/train/a.txt           and a.txt beside it
    img/a.jpg                 object_detection/a.txt       object_detection/config.yaml
    train/_darknet.labels     a name per line              (Roboflow)
    obj.data                  names = obj.names            train = train.txt, a list of images     (darknet)

A line with more than four numbers is a polygon, whose extent is the box, or with `kpt_shape` a box and points. An image without a
text has no label, unless no image of its split has one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from sadcl_core.data.formats.labels import CLASS_LIST, LabelRows
from sadcl_core.data.formats.locate import cleaned, inside
from sadcl_core.data.formats.source import Source, split_above, split_name
from sadcl_core.data.formats.texts import LOOKED_AT, Texts
from sadcl_core.data.formats.walk import folders_in, images_under
from sadcl_core.data.images import image_size
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.rows import Box
from sadcl_core.data.tables import filled_lines, first_line, read_classes, read_lines, read_yaml
from sadcl_core.errors import DataError
from sadcl_core.runtime.files import exists
from sadcl_core.runtime.words import counted, some_of

SUFFIXES = ()
DESCRIPTIONS = (".yaml", ".yml", ".data")
USUAL = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "obj.data", "obj.names", "_darknet.labels")
NAMES = (".names", ".labels", ".txt")  # suffixes of lists of names, one a line
LISTS = ("classes", "train", "val", "valid", "test")  # texts beside images that hold no boxes
NAMED = 3  # texts without an image that a note shows
SPLIT_KEYS = ("train", "val", "valid", "test")
NOTHING = (None, "", "~", "null", "Null", "NULL")


def recognises(folder: Path) -> bool:
    """Return True if there is a description of a usual name with names, or texts that hold boxes."""
    try:
        description = next(iter(_descriptions(folder)), folder)
        if description.name in USUAL and "names" in _content(description, folder):
            return True
    except DataError:
        return True  # so that reading it says what is wrong with it
    images = list(islice(images_under(folder), LOOKED_AT))
    texts = map(Path, filter(None, map(_texts(folder, images).of, images)))
    first = next((text for text in texts if text.stat().st_size), None)  # an empty one says nothing
    return first is not None and is_boxes(first)


def is_boxes(text: Path) -> bool:
    """Return True if the first line of a file is a class and four numbers or more."""
    try:
        return len([float(part) for part in first_line(text).split()]) >= 5
    except (DataError, ValueError):
        return False


def read(source: Source) -> Manifest:
    """Read the boxes of every image.

    Raises:
        DataError: the classes have no names, no image has a text, a line is not a box, or a class number is out of range.
    """
    root = source.root
    description = next(iter(source.files.values()), None) or _description(root, classes=bool(source.reading.classes))
    content = _content(description, root) if description is not None else {}
    rows = LabelRows(source, "yolo", classes=_names(content, description))
    if not rows.fixed:
        other = next((path for path in sorted(root.glob("*/*.y*ml")) if _has_names(path, root)), None)
        hint = (
            f", but {other} does. Name its folder, or the file and --data {root}"
            if other is not None
            else (f". Add a data.yaml with names: [cat, dog], or a {CLASS_LIST} with a name per line")
        )
        raise DataError(f"{root} names no classes{hint}.")
    images = [*dict.fromkeys(_images(root, content, description, rows.watch))]  # one may be in two splits
    rows.start(description or root, paths="exact")
    names = [image for _, image in images]
    texts = [*map(_texts(root, names).of, names)]
    labelled = {split for (split, _), text in zip(images, texts, strict=True) if text}
    if images and not labelled:
        raise DataError(
            f"{root}: none of the {counted(len(images), 'image')} has a text with its boxes, neither beside it nor in a folder "
            "such as labels/ beside that of the images. Give the folder that holds both."
        )
    places = dict.fromkeys(os.path.relpath(os.path.dirname(text), root) for text in texts if text)  # noqa: PTH120 - many
    origin = f", names of classes from {os.path.relpath(description, root)}" if description is not None else ""
    rows.note(f"boxes from {some_of([f'{place}/' for place in places], NAMED)}{origin}")
    points = _points(content, description)
    confidences: list[float] = []
    for number, ((split, image), text) in enumerate(zip(images, texts, strict=True), start=1):
        if split not in labelled:
            continue
        boxes = _boxes(text, rows, points, confidences)
        place = root / image
        rows.watch(place.parent)
        rows.add(image, [box.label for box in boxes], row=number, split=split, boxes=_in_pixels(place, boxes), where=str(place))
    for split, count in Counter(split for split, _ in images if split not in labelled).items():
        rows.leave_out("image", (), f"no image of split {split} has a label file", count=count)
    if confidences:
        rows.note(f"boxes have confidences, the lowest {min(confidences):g}, and all of them count as labels")
    for note in _unpaired([text for (split, _), text in zip(images, texts, strict=True) if split in labelled]):
        rows.note(note)
    return rows.manifest()


def _unpaired(texts: Collection[str]) -> Iterator[str]:
    """Yield notes on images without a text, and on texts without an image."""
    without = sum(not text for text in texts)
    if without:
        yield f"{counted(without, 'image')} without a label file, so without labels"
    paired = {text for text in texts if text}
    every = (path for folder in {os.path.dirname(text) for text in paired} for path in Path(folder).glob("*.txt"))  # noqa: PTH120 - many
    alone = sorted(path for path in every if str(path) not in paired and path.stem not in LISTS and is_boxes(path))
    if alone:
        yield f"left out {counted(len(alone), 'label file')} without an image ({some_of([p.name for p in alone], NAMED)})"


def _texts(root: Path, images: Sequence[str]) -> Texts:
    return Texts(root, images, (".txt", ".TXT"), (("images", "labels"),))


def _description(folder: Path, *, classes: bool) -> Path | None:
    """Return the description of a folder: of a usual name, else another file with names of classes.

    Raises:
        DataError: there are several, with other names of classes, and none are given.
    """
    candidates = _descriptions(folder)
    if candidates and candidates[0].name in USUAL:
        return candidates[0]
    found: dict[tuple[str, ...], Path] = {}
    for path in candidates:
        if _has_names(path, folder):
            found.setdefault(_names(_content(path, folder), path), path)
    if len(found) > 1 and not classes:
        shown = ", ".join(str(path.relative_to(folder)) for path in found.values())
        raise DataError(f"{folder}: the classes have names in {shown}. Name the one that is meant, with --data {folder}.")
    return next(iter(found.values()), None)


def _descriptions(folder: Path) -> list[Path]:
    """Return the files that may be descriptions, the likeliest first: in the folder, lists of names and darknet's also below.

    YAML counts below only beside texts of boxes: elsewhere it belongs to another data set.
    """
    found: dict[Path, tuple[bool, bool, int, bool]] = {}
    for place in (folder, *folders_in(folder)):
        names = [name for name in os.listdir(place) if not name.startswith(".")]  # noqa: PTH208 - many
        for name in sorted(name for name in names if name == CLASS_LIST or name.lower().endswith((*NAMES[:-1], *DESCRIPTIONS))):
            suffix = Path(name).suffix.lower()
            listed = suffix in NAMES[:-1] or name == CLASS_LIST
            texts = islice((other for other in names if other.endswith(".txt")), LOOKED_AT)
            if listed or suffix == ".data" or place == folder or any(is_boxes(place / text) for text in texts):
                usual = USUAL.index(name) if name in USUAL else len(USUAL)
                found[place / name] = (usual == len(USUAL), place != folder, usual, listed)
    return sorted(found, key=found.__getitem__)


def _has_names(path: Path, root: Path) -> bool:
    try:
        return bool(_names(_content(path, root), path))
    except DataError:
        return False


def _content(description: Path, root: Path) -> dict[str, Any]:
    """Read a description: YAML, or darknet's lines of `key = value` and list of names."""
    suffix = description.suffix.lower()
    if suffix in NAMES:
        return {"names": list(read_classes(description))}
    if suffix != ".data":
        content = read_yaml(description)
        if not isinstance(content, dict):
            raise DataError(f"{description} is no description of a data set. It needs names: [cat, dog].")
        return content
    pairs = (line.partition("=") for _, line in read_lines(description))
    values: dict[str, Any] = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    names = str(values.get("names", "obj.names"))
    below = _below(root, names)
    return {**values, "names": list(read_classes(root / below if below else description.with_name(PurePosixPath(names).name)))}


def _points(content: Mapping[str, Any], description: Path | None) -> int:
    """Return how many numbers follow a box for its points: the product of `kpt_shape`; 0 without."""
    shape = content.get("kpt_shape", [])
    try:
        return prod(map(int, shape)) if shape else 0
    except (TypeError, ValueError):
        raise DataError(f"{description}: kpt_shape is not two numbers. Write kpt_shape: [17, 3].") from None


def _names(content: Mapping[str, Any], description: Path | None) -> tuple[str, ...]:
    """Return the class names of a list, or of an object from number to name."""
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
            place = _place(root, value, base, f"{description}: {key}", description)
            if place is not None:
                named = True
                if (root / place).is_file():
                    watch(root / place)
                yield from ((split_name(key), image) for image in _images_at(root, place))
    if not named:
        yield from ((split_above(image), image) for image in images_under(root))


def _place(root: Path, value: str, base: str, where: str, description: Path | None) -> str | None:
    """Return a folder or list of images of a description as a path below the root, without its folders of another machine."""
    for candidate in (PurePosixPath(base) / value, PurePosixPath(value)):
        full = PurePosixPath(os.path.normpath(root / candidate))
        if full.is_relative_to(os.path.normpath(root)) and os.path.exists(full):  # noqa: PTH110 - False for what is no path
            return full.relative_to(os.path.normpath(root)).as_posix()
    if below := _below(root, value):
        return below
    if split_name(where.rsplit(" ", 1)[-1]) == "test":  # often named and not shipped
        return None
    folder = Path(os.path.normpath((description.parent if description is not None else root) / base))
    there = base and exists(folder / value)
    advice = f"Say --data {folder}" if there else "Mend the path, or leave the line out"
    raise DataError(f"{where}: {value[:200]} is not below {root}. {advice}.")


def _images_at(root: Path, place: str) -> Iterator[str]:
    if (root / place).is_dir():
        for image in images_under(root / place):
            yield image if place == "." else f"{place}/{image}"
        return
    for number, line in filled_lines(root / place):
        row = f"{root / place}, row {number}"
        image = os.path.normpath(cleaned(line, root, row))
        yield _below(root, image) or inside(image, root, row)


def _below(root: Path, path: str) -> str:
    """Return a path without the leading parts that are not on this disk; empty if nothing of it is."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("..", ".", "/")]
    ends = ("/".join(parts[first:]) for first in range(len(parts)))
    return next((end for end in ends if os.path.exists(root / end)), "")  # noqa: PTH110 - False for what is no path


def _boxes(path: str, rows: LabelRows, points: int, confidences: list[float]) -> tuple[Box, ...]:
    """Return the boxes in a text, as shares of the sides of its image; none without a text."""
    if not path:
        return ()
    rows.watch(Path(path).parent)
    boxes = []
    for number, line in filled_lines(Path(path)):
        fields = line.split()
        where = f"{path}, row {number}"
        try:
            label, numbers = int(fields[0].removesuffix(".0")), [float(field) for field in fields[1:]]
        except ValueError:
            raise DataError(f"{where}: {line[:60]!r} is no box. Write: class x y width height.") from None
        if points and len(numbers) == 4 + points:
            numbers = numbers[:4]
        if not all(-1 <= value <= 2 for value in numbers):
            raise DataError(f"{where}: {line[:60]!r} is not in shares of the image, from 0 to 1. Mend the line.")
        confidences += numbers[4:] if len(numbers) == 5 else []
        boxes.append(Box(rows.label(label, where), *_extent(numbers, where)))
    return tuple(boxes)


def _extent(numbers: list[float], where: str) -> tuple[float, float, float, float]:
    """Return left, top, width and height of a box given by its middle, or of a polygon given by its corners."""
    if len(numbers) in (4, 5):  # the fifth is the confidence of a prediction
        x, y, width, height = numbers[:4]
        return x - width / 2, y - height / 2, width, height
    if len(numbers) < 6 or len(numbers) % 2:
        raise DataError(f"{where} has {len(numbers)} numbers after the class. Write: class x y width height.")
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _in_pixels(image: Path, boxes: tuple[Box, ...]) -> tuple[Box, ...] | None:
    """Return boxes in pixels; None when the image cannot be read, which the check of images reports."""
    if not boxes:
        return ()
    try:
        width, height = image_size(image)
    except DataError:
        return None
    return tuple(Box(b.label, b.x * width, b.y * height, b.width * width, b.height * height) for b in boxes)
