"""PASCAL VOC 2007 and 2012 (Everingham et al., IJCV 2010).

    DIR[/VOCdevkit]/VOC2007/{Annotations/*.xml, ImageSets/Main/*.txt, JPEGImages/*.jpg}

Labels come from the objects of the XML files. A class that is only there as `difficult` is unknown: the devkit
ignores such an image for that class. Training uses trainval and is tested on test where test is annotated (2007),
else train and val (2012).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from sadcl_core.data.formats.source import describe_source
from sadcl_core.data.manifest import Box, Description, Manifest, Record
from sadcl_core.errors import DataError

# class: superclass, as in the devkit's taxonomy
CLASSES = {
    "aeroplane": "vehicle",
    "bicycle": "vehicle",
    "bird": "animal",
    "boat": "vehicle",
    "bottle": "indoor",
    "bus": "vehicle",
    "car": "vehicle",
    "cat": "animal",
    "chair": "indoor",
    "cow": "animal",
    "diningtable": "indoor",
    "dog": "animal",
    "horse": "animal",
    "motorbike": "vehicle",
    "person": "person",
    "pottedplant": "indoor",
    "sheep": "animal",
    "sofa": "indoor",
    "train": "vehicle",
    "tvmonitor": "indoor",
}
INDEX = {name: position for position, name in enumerate(CLASSES)}


def read(folder: Path, name: str) -> Manifest:
    """Read `voc2007` or `voc2012`.

    Raises:
        DataError: the layout is not VOC's, an XML file is damaged, or an object has an unknown class.
    """
    devkit = _devkit(folder, name.upper())
    lists, missing = _split_lists(devkit)
    description = Description(
        name=name,
        root=folder.resolve(),
        classes=tuple(CLASSES),
        superclasses=tuple(CLASSES.values()),
        source=describe_source("voc", [*lists.values(), devkit / "Annotations"]),
        notes=tuple(missing),
    )
    prefix = (devkit / "JPEGImages").relative_to(folder).as_posix()
    return Manifest.from_records(description, _records(devkit, lists, prefix))


def _devkit(folder: Path, year: str) -> Path:
    for candidate in (folder / "VOCdevkit" / year, folder / year, folder):
        if (candidate / "ImageSets" / "Main").is_dir():
            for needed in ("Annotations", "JPEGImages"):
                if not (candidate / needed).is_dir():
                    raise DataError(f"{candidate} has no {needed}/. Unpack all of {year} there.")
            return candidate
    raise DataError(f"{folder} is not in VOC's layout: no VOCdevkit/{year}/ImageSets/Main. Unpack {year} there.")


def _split_lists(devkit: Path) -> tuple[dict[str, Path], list[str]]:
    sets = devkit / "ImageSets" / "Main"
    test = sets / "test.txt"
    if test.is_file():
        names = test.read_text(encoding="utf-8", errors="replace").split()
        if names and (devkit / "Annotations" / f"{names[0]}.xml").is_file() and (sets / "trainval.txt").is_file():
            return {"train": sets / "trainval.txt", "test": test}, []
    lists = {split: sets / f"{split}.txt" for split in ("train", "val")}
    for path in lists.values():
        if not path.is_file():
            raise DataError(f"{path} is missing. Unpack the whole of {devkit.name}.")
    return lists, ["the test part has no annotations: trained on train, tested on val"]


def _records(devkit: Path, lists: dict[str, Path], prefix: str) -> Iterator[Record]:
    for split, path in lists.items():
        for row, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            fields = line.split()
            if not fields:
                continue
            if Path(fields[0]).name != fields[0]:
                raise DataError(f"{path}, row {row}: {fields[0]!r} is not an image name.")
            boxes, unknown = _objects(devkit / "Annotations" / f"{fields[0]}.xml")
            yield Record(
                image=f"{prefix}/{fields[0]}.jpg",
                split=split,
                active=tuple(box.label for box in boxes),
                unknown=unknown,
                boxes=boxes,
            )


def _objects(path: Path) -> tuple[tuple[Box, ...], tuple[int, ...]]:
    """Boxes of the objects that are not difficult, and the classes of those that are."""
    boxes: list[Box] = []
    unknown: list[int] = []
    try:
        text = path.read_bytes()
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise DataError(f"{path} declares XML entities, which VOC files never do. Fetch it again.")
        for item in ET.fromstring(text).iter("object"):
            name = (item.findtext("name") or "").strip()
            if name not in INDEX:
                raise DataError(f"{path}: unknown class {name!r}. VOC has: {', '.join(CLASSES)}.")
            if (item.findtext("difficult") or "0").strip() == "1":
                unknown.append(INDEX[name])
                continue
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append(Box(INDEX[name], x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1))  # VOC counts pixels from 1
    except FileNotFoundError:
        raise DataError(f"{path} is missing: an image set lists it. Unpack all annotations.") from None
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} cannot be read as a VOC annotation ({error}). Fetch it again.") from None
    return tuple(boxes), tuple(unknown)
