"""DeepFashion, category and attribute prediction (Liu et al., CVPR 2016): 1 present, -1 absent, 0 unknown.

Anno[_fine]/list_attr_cloth.txt    1000 / attribute_name  attribute_type / a-line   3
Anno[_fine]/list_attr_img.txt      289222 / image_name  attribute_labels / img/a/img_00000001.jpg  -1 1 0 ...
Eval/list_eval_partition.txt       289222 / image_name  evaluation_status / img/a/img_00000001.jpg  train
Anno_fine/train.txt, train_attr.txt    of the finer labels: an image a line, and its row of 1 and 0
img/a/img_00000001.jpg
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.formats.source import SPLIT_NAMES, Source, split_name
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import filled_lines
from sadcl_core.errors import DataError

SUFFIXES = ()
NAMES = "list_attr_cloth.txt"
IMAGES = "list_attr_img.txt"
PARTITION = "list_eval_partition.txt"
FOLDERS = ("Anno_fine", "Anno_coarse", "Anno", "")
SPLITS = ("train", "val", "test")
FLAGS = {"1": "present", "0": "absent"}
SIGNED = {"1": "present", "-1": "absent", "0": "unknown"}


def recognises(folder: Path) -> bool:
    """Return True if the names of the attributes are there, and rows of flags."""
    return _folder(folder) is not None


def read(source: Source) -> Manifest:
    """Read the finer labels if they are on the disk, else the 1,000 attributes, in which 0 is absent unless -1 occurs.

    Raises:
        DataError: a list is missing, or a row has another number of flags.
    """
    folder = _folder(source.root)
    if folder is None:
        raise DataError(
            f"{source.root} lacks Anno/{NAMES} and Anno/{IMAGES} of DeepFashion. Unpack both, and the images to img/."
        )
    source = replace(source, files={"": folder / NAMES})
    return read_listing(source, "deepfashion", _listing, content="DeepFashion's attributes", paths="exact")


def _folder(root: Path) -> Path | None:
    places = [root / name for name in FOLDERS if (root / name / NAMES).is_file()]
    return next((place for place in places if (place / IMAGES).is_file() or (place / "train_attr.txt").is_file()), None)


def _listing(path: Path) -> Listing:
    names = [" ".join(row[:-1]) for row in _rows(path, header=2)]
    folder = path.parent
    fine = (folder / "train_attr.txt").is_file()
    if fine:
        return Listing(names, _fine(folder, len(names)), values=FLAGS)
    signed = any("-1" in row for row in _rows(folder / IMAGES, header=2))
    places = (folder.parent / "Eval", folder / "Eval", folder, folder.parent)
    beside = [place / PARTITION for place in places if (place / PARTITION).is_file()][:1]
    splits = {row[0]: split_name(row[1]) for file in beside for row in _rows(file, header=2)}
    unknown = "0" if signed else ""
    rows = (
        _entry(image, flags, splits.get(image, ""), len(names), folder / IMAGES, unknown)
        for image, *flags in _rows(folder / IMAGES, header=2)
    )
    return Listing(names, rows, values=SIGNED if signed else FLAGS, beside=beside)


def _rows(path: Path, *, header: int) -> Iterator[list[str]]:
    return (line.split() for _, line in islice(filled_lines(path), header, None))


def _fine(folder: Path, count: int) -> Iterator[Entry]:
    for split in SPLITS:
        images, flags = folder / f"{split}.txt", folder / f"{split}_attr.txt"
        if images.is_file():
            rows = zip(_rows(images, header=0), _rows(flags, header=0), strict=True)
            yield from (_entry(image[0], row, split, count, flags) for image, row in rows)


def _entry(image: str, flags: list[str], split: str, count: int, path: Path, unknown: str = "") -> Entry:
    if len(flags) != count or not set(flags) <= {"1", "-1", "0"}:
        raise DataError(f"{path}: {image[:60]} has not {count} flags of 1, -1 and 0. Fetch it again.")
    if split and split not in SPLIT_NAMES.values():
        raise DataError(f"{path}: {image[:60]} is in the part {split[:60]!r}, not train, val or test. Fetch it again.")
    active = [k for k, flag in enumerate(flags) if flag == "1"]
    return Entry(image, active, [k for k, flag in enumerate(flags) if flag == unknown], split)
