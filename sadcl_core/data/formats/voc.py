"""PASCAL VOC 2007 and 2012 (Everingham et al., IJCV 2010), and own classes in the same layout.

    DIR[/VOCdevkit]/VOC2007/{Annotations/*.xml, ImageSets/Main/*.txt, JPEGImages/*.jpg}

A class that is only there as `difficult` is unknown, as in the devkit, unless a person says otherwise. Training uses trainval
and is tested on test where test is annotated (2007), else train and val (2012). Without ImageSets every XML file is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from sadcl_core.data.formats.labels import LabelRows
from sadcl_core.data.formats.listing import Entry, add_entry
from sadcl_core.data.formats.source import SPLIT_NAMES, UNASSIGNED, Difficult, Source
from sadcl_core.data.images import EXTENSIONS
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import filled_lines
from sadcl_core.errors import DataError

SUFFIXES = ()
OPTIONS = ("difficult",)

# class: superclass, as in the devkit's taxonomy
SUPERCLASSES = {
    **dict.fromkeys(("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"), "vehicle"),
    **dict.fromkeys(("bird", "cat", "cow", "dog", "horse", "sheep"), "animal"),
    **dict.fromkeys(("bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor"), "indoor"),
    "person": "person",
}
CLASSES = {name: SUPERCLASSES[name] for name in sorted(SUPERCLASSES)}  # by name, as in the devkit
MAX_NAME = 200  # characters; file systems end at 255 bytes
NAMES = ("voc2007", "voc2012")  # data sets whose classes are those above


def recognises(folder: Path) -> bool:
    """Return True if a folder, or the devkit in it, has annotations as XML files, and VOC's folders beside them."""
    devkit = _find_devkit(folder, "")
    if devkit is None or not any((devkit / name).is_dir() for name in ("JPEGImages", "ImageSets")):
        return False
    return any((devkit / "Annotations").glob("*.xml"))


def read(source: Source) -> Manifest:
    """Read `voc2007` or `voc2012` by name, or a folder of the same layout with classes of its own.

    Raises:
        DataError: the layout is not VOC's, an XML file is damaged, or an object has an unknown class.
    """
    official = source.name in NAMES
    devkit = _devkit(source.root, source.name.upper() if official else "")
    lists, note = _split_lists(devkit)
    rows = LabelRows(source, "voc", classes=tuple(CLASSES) if official or _is_official(devkit) else ())
    if note:
        rows.note(note)
    rows.watch(devkit / "Annotations")
    prefix = (devkit / "JPEGImages").relative_to(source.root).as_posix()
    listed = lists or {UNASSIGNED: devkit / "Annotations"}
    for split, path in listed.items():
        rows.start(path, paths="exact")
        for number, name in _names(path):
            file = devkit / "Annotations" / f"{name}.xml"
            entry = read_objects(file, rows, source.reading.difficult)
            image = f"{prefix}/{name}{image_suffix(devkit, name)}"
            add_entry(entry._replace(image=image), rows, row=number, split=split, where=str(file))
    superclasses = tuple(CLASSES.values()) if rows.listed == tuple(CLASSES) else ()
    return rows.manifest(superclasses=superclasses)


def _find_devkit(folder: Path, year: str) -> Path | None:
    """Return the folder that holds Annotations and images; of several years the requested one."""
    bases = (folder / "VOCdevkit", folder)
    years = [year] if year else ["", *(path.name for base in bases for path in sorted(base.glob("VOC2*")))]
    places = [base / name for name in years for base in bases]
    return next((place for place in (*places, folder) if (place / "Annotations").is_dir()), None)


def _devkit(folder: Path, year: str) -> Path:
    devkit = _find_devkit(folder, year)
    if devkit is None:
        lacking = "it has no folder Annotations with XML files. Name the folder above it."
        if year:
            lacking = f"no VOCdevkit/{year}/Annotations. Unpack {year} there."
        raise DataError(f"{folder} is not in VOC's layout: {lacking}")
    needed = ["JPEGImages", *(["ImageSets/Main"] if year else [])]
    missing = next((name for name in needed if not (devkit / name).is_dir()), None)
    if missing:
        raise DataError(f"{devkit} has no {missing}/. Unpack all of {year or 'the data set'} there.")
    return devkit


def _split_lists(devkit: Path) -> tuple[dict[str, Path], str]:
    """Return the image sets by split, and a note; without ImageSets neither."""
    sets = devkit / "ImageSets" / "Main"
    there = {path.stem.lower(): path for path in sorted(sets.glob("*.txt"))}
    named = {"trainval" if word == "trainval" else SPLIT_NAMES[word]: path for word, path in there.items() if word in SPLIT_NAMES}
    lists: dict[str, Path] = {name: named[name] for name in ("trainval", "train", "val", "test") if name in named}
    if not lists:
        if there and "default" not in there:  # as CVAT calls the list of all
            raise DataError(f"{sets}/train.txt is missing. Unpack the whole of {devkit.name}.")
        return {}, ""
    first = [devkit / "Annotations" / f"{name}.xml" for _, name in islice(_names(lists["test"]), 1)] if "test" in lists else []
    if "test" in lists and not any(map(Path.is_file, first)):
        del lists["test"]
        if "train" in lists and "val" in lists:
            note = "the test part has no annotations: trained on train, tested on val"
            return {"train": lists["train"], "val": lists["val"]}, note
    if "trainval" in lists and "test" in lists:
        return {"train": lists["trainval"], "test": lists["test"]}, ""
    if "val" in lists and "train" not in lists:
        raise DataError(f"{sets / 'train.txt'} is missing. Unpack the whole of {devkit.name}.")
    if "train" in lists:
        lists.pop("trainval", None)
        evaluated = "test" in lists or "val" not in lists
        return lists, "" if evaluated else "no annotated test part: trained on train, tested on val"
    return {"train": lists["trainval"]} if "trainval" in lists else lists, ""


def _names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield row and image name of an image set, or of a folder of annotations."""
    if path.is_dir():
        yield from enumerate(sorted(file.stem for file in path.glob("*.xml")), start=1)
        return
    for row, line in filled_lines(path):
        name = line.split()[0]
        if Path(name).name != name or len(name) > MAX_NAME:
            raise DataError(f"{path}, row {row}: {name[:100]!r} is not an image name. Mend the row.")
        yield row, name


def image_suffix(devkit: Path, name: str) -> str:
    """Return the extension of an image: VOC has JPEG files; others put what they have into the same layout."""
    if (devkit / "JPEGImages" / f"{name}.jpg").is_file():
        return ".jpg"
    return next((suffix for suffix in EXTENSIONS if (devkit / "JPEGImages" / f"{name}{suffix}").is_file()), ".jpg")


def _is_official(devkit: Path) -> bool:
    """Return True if a folder is one of VOC's own years, which have VOC's classes even where not all of them occur."""
    sets = devkit / "ImageSets" / "Main"
    return devkit.name.lower() in NAMES and any(sets.glob("aeroplane_*.txt"))


def read_objects(path: Path, rows: LabelRows, difficult: Difficult) -> Entry:
    """Return the image that an XML file names, with the classes and boxes of its objects; difficult ones may be unknown.

    Raises:
        DataError: the file is missing or damaged, or an object has an unknown class.
    """
    active: list[str] = []
    unknown: list[str] = []
    boxes: list[tuple[str, tuple[float, ...]]] = []
    try:
        document = fromstring(path.read_bytes(), forbid_dtd=True)
        for item in document.iter("object"):
            name = (item.findtext("name") or "").strip()
            rows.label(name, str(path))  # a class whose objects are all difficult is a class
            if (item.findtext("difficult") or "0").strip() == "1" and difficult != "positive":
                if difficult == "ignore":
                    unknown.append(name)
                continue
            active.append(name)
            if item.find("bndbox") is None:  # a polygon, or a label of the image
                continue
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax"))
            # pixels are counted from 1, both corners included
            boxes.append((name, (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1)))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: an image set lists it. Unpack all annotations.") from None
    except DefusedXmlException:
        raise DataError(f"{path} declares XML entities or a document type, which VOC files never do. Fetch it again.") from None
    except (OSError, ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} cannot be read as a VOC annotation ({error}). Fetch it again.") from None
    return Entry((document.findtext("filename") or "").strip(), active, unknown, boxes=boxes)
