"""COCO instances JSON (Lin et al., ECCV 2014), 2014 and 2017.

    DIR/annotations/instances_{train,val}{2014,2017}.json
    DIR/{train,val}{2014,2017}/*.jpg          or DIR/images/{train,val}...

A label is active when the image has an annotation of its category. Classes are the categories in order of their id.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from sadcl_core.data.formats.source import describe_source
from sadcl_core.data.manifest import Box, Description, Manifest, Record
from sadcl_core.errors import DataError

SPLITS = ("train", "val")


def read(folder: Path, name: str) -> Manifest:
    """Read `coco`, `coco2014` or `coco2017` from a folder; plain `coco` takes 2014 when both are there, as the papers do.

    Raises:
        DataError: a file is missing or is not COCO's, splits disagree, an annotation names an unknown image or category.
    """
    year = _year(folder, name)
    files = {split: folder / "annotations" / f"instances_{split}{year}.json" for split in SPLITS}
    files = {split: path for split, path in files.items() if path.is_file()}
    if "train" not in files and "val" not in files:
        raise DataError(f"{folder}/annotations has no instances_train{year}.json or instances_val{year}.json.")
    annotations = {split: _load(path) for split, path in files.items()}
    try:
        return _manifest(folder, name, year, files, annotations)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"The annotations in {folder} cannot be read as COCO's ({type(error).__name__}: {error}).") from None


def _manifest(folder: Path, name: str, year: str, files: dict[str, Path], annotations: dict[str, COCO]) -> Manifest:
    categories = _categories(annotations, files)
    description = Description(
        name=name,
        root=folder.resolve(),
        classes=tuple(str(category["name"]) for category in categories),
        superclasses=tuple(str(category.get("supercategory", "")) for category in categories),
        source=describe_source("coco", list(files.values())),
        notes=(f"COCO {year}",),
    )
    index = {category["id"]: position for position, category in enumerate(categories)}
    records = (
        record
        for split, coco in annotations.items()
        for record in _records(coco, files[split], split, _image_folder(folder, f"{split}{year}"), index)
    )
    return Manifest.from_records(description, records)


def _year(folder: Path, name: str) -> str:
    if name in ("coco2014", "coco2017"):
        return name.removeprefix("coco")
    for year in ("2014", "2017"):
        if any((folder / "annotations" / f"instances_{split}{year}.json").is_file() for split in SPLITS):
            return year
    raise DataError(
        f"{folder} is not in COCO's layout: no annotations/instances_train2014.json, instances_train2017.json "
        "or the val file of either. Unpack COCO's annotations there."
    )


def _load(path: Path) -> COCO:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress to stdout
            coco = COCO(str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as COCO JSON ({type(error).__name__}: {error}). Fetch it again.") from None
    if not isinstance(coco.dataset.get("images"), list) or not coco.dataset.get("categories"):
        raise DataError(f"{path} has no images or no categories. Give COCO's instances JSON.")
    return coco


def _categories(annotations: dict[str, COCO], files: dict[str, Path]) -> list[dict[str, Any]]:
    lists = {split: sorted(coco.dataset["categories"], key=lambda c: int(c["id"])) for split, coco in annotations.items()}
    first = next(iter(lists))
    for split, categories in lists.items():
        if [(c["id"], c["name"]) for c in categories] != [(c["id"], c["name"]) for c in lists[first]]:
            raise DataError(f"{files[split]} and {files[first]} list different categories. Use files of one data set.")
    return lists[first]


def _image_folder(folder: Path, name: str) -> str:
    for candidate in (name, f"images/{name}"):
        if (folder / candidate).is_dir():
            return candidate
    raise DataError(f"{folder} has annotations but no image folder {name}/ or images/{name}/. Unpack the images there.")


def _records(coco: COCO, path: Path, split: str, images: str, index: dict[int, int]) -> Iterator[Record]:
    for annotation in coco.anns.values():
        if annotation.get("category_id") not in index:
            raise DataError(
                f"{path}: annotation {annotation.get('id')} has the unknown category {annotation.get('category_id')}."
            )
        if annotation.get("image_id") not in coco.imgs:
            raise DataError(
                f"{path}: annotation {annotation.get('id')} belongs to the unknown image {annotation.get('image_id')}."
            )
    for image_id, image in coco.imgs.items():
        name = str(image.get("file_name", ""))
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{path}: image {image_id} has the file name {name!r}, which is not inside {images}/.")
        objects = coco.imgToAnns.get(image_id, [])
        yield Record(
            image=f"{images}/{name}",
            split=split,
            active=tuple(index[o["category_id"]] for o in objects),
            boxes=tuple(Box(index[o["category_id"]], *map(float, o["bbox"])) for o in objects if len(o.get("bbox", ())) == 4),
        )
