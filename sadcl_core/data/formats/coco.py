"""COCO instances JSON (Lin et al., ECCV 2014): the data set of 2014 and 2017, and the files of everyone who writes such JSON.

    DIR/annotations/instances_{train,val}{2014,2017}.json
    DIR/{train,val}{2014,2017}/*.jpg          or DIR/images/{train,val}...
    DIR/train/_annotations.coco.json          with its images beside it

A label is active when the image has an annotation of its category, or a segment in a panoptic file. Classes are the categories
in order of their id. An image may carry `unknown_category_ids`, which nothing but this program writes: COCO itself has no unknown
labels. In LVIS, whose images say which categories were verified absent (`neg_category_ids`), all others are unknown.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from sadcl_core.data.formats.labels import MAX_CLASSES, LabelRows, make_box
from sadcl_core.data.formats.source import Source, split_name
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.tables import mentions, read_json, readable
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted

SUFFIXES = (".json",)
PREFERRED = "instances"  # captions and key points lie beside them
SPLITS = ("train", "val")
YEARS = ("2014", "2017")
CLASSES = tuple(  # in order of their ids
    """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,bird,
cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,
kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,
sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,
keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,
toothbrush""".replace("\n", "").split(",")
)


def recognises(path: Path) -> bool:
    """Return True if a file has the keys of the format."""
    return mentions(path, "images", "annotations", "categories")


def read(source: Source) -> Manifest:
    """Read `coco`, `coco2014` or `coco2017` by name, or any files; plain `coco` takes 2014 when both are there, as the papers do.

    Raises:
        DataError: a file is missing or is not COCO's, splits disagree, an annotation names an unknown image or category.
    """
    files, notes = dict(source.files), []
    if not files:
        year = _year(source.root, source.name)
        files = {split: _official(source.root, split, year) for split in SPLITS}
        files = {split: path for split, path in files.items() if path.is_file()}
        notes = [f"COCO {year}"]
    rows: LabelRows | None = None
    first: list[dict[str, Any]] = []
    dummy = None
    for split, path in files.items():
        with readable(path, "COCO JSON"):
            coco = _load(path)
            categories = _categories(coco, path)
            dummy = _dummy(categories, coco)
            if dummy is not None:
                categories.remove(dummy)
                notes = [f"{dummy['name']} is no class but stands above all of them, as Roboflow writes it; it was left out"]
            if rows is None:
                first = categories
                rows = LabelRows(source, "coco", classes=[str(category["name"]) for category in categories])
                if rows.listed != tuple(str(category["name"]) for category in categories):
                    raise DataError(
                        f"{path} lists its own categories, which are others than the list of classes. Leave --classes out."
                    )
            if [(c["id"], c["name"]) for c in categories] != [(c["id"], c["name"]) for c in first]:
                raise DataError(f"{path} and {rows.first_file} list different categories. Use files of one data set.")
            rows.start(path)
            _add_images(rows, coco, path, split, {c["id"]: number for number, c in enumerate(categories)})
    assert rows is not None, "a year was found, so there is a file"
    for note in notes:
        rows.note(note)
    superclasses = [] if dummy else [str(category.get("supercategory", "")) for category in first]
    return rows.manifest(superclasses=superclasses if any(superclasses) else ())


def _official(root: Path, split: str, year: str) -> Path:
    return root / "annotations" / f"instances_{split}{year}.json"


def _year(root: Path, name: str) -> str:
    years = [name.removeprefix("coco")] if name in ("coco2014", "coco2017") else list(YEARS)
    for year in years:
        if any(_official(root, split, year).is_file() for split in SPLITS):
            return year
    shown = ", ".join(f"annotations/instances_train{year}.json" for year in years)
    raise DataError(f"{root} is not in COCO's layout: no {shown} or the val file. Unpack COCO's annotations there.")


def _load(path: Path) -> COCO:
    document = read_json(path)
    if not isinstance(document, dict):
        raise DataError(f"{path} cannot be read as COCO JSON: it is no object. Give COCO's instances JSON.")
    if not isinstance(document.get("images"), list) or not document.get("categories"):
        raise DataError(f"{path} has no images or no categories. Give COCO's instances JSON.")
    coco = COCO()
    coco.dataset = {**document, "annotations": [*_objects(document.get("annotations", []))]}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress to stdout
        coco.createIndex()
    for what, index in (("images", coco.imgs), ("categories", coco.cats)):
        if len(document[what]) != len(index):
            twice = Counter(entry["id"] for entry in document[what]).most_common(1)[0][0]
            raise DataError(f"{path}: several {what} have the id {twice}. Give each its own.")
    return coco


def _objects(annotations: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield an annotation for each object; those of a panoptic file are the segments of an image."""
    for number, entry in enumerate(annotations):
        if isinstance(entry.get("segments_info"), list):
            for place, segment in enumerate(entry["segments_info"]):
                yield {**segment, "image_id": entry["image_id"], "id": f"{number}-{place}"}
        else:
            yield entry if "id" in entry else {**entry, "id": f"{number}-"}


def _categories(coco: COCO, path: Path) -> list[dict[str, Any]]:
    categories = sorted(coco.dataset["categories"], key=lambda category: int(category["id"]))
    count = len(categories)
    if count > MAX_CLASSES:
        raise DataError(
            f"{path} has {count:,} categories, more than {MAX_CLASSES:,}. Were images or objects listed as categories?"
        )
    bad = next((entry for entry in categories if not isinstance(entry["name"], (str, int))), None)
    if bad is not None:
        raise DataError(f"{path}: the name of category {bad['id']} is no text. Name it.")
    return categories


def _dummy(categories: list[dict[str, Any]], coco: COCO) -> dict[str, Any] | None:
    """Return the category without annotations that Roboflow puts above all others; None without one.

    A class may have the same name.
    """
    top = [category for category in categories if category.get("supercategory") == "none"]
    if len(top) != 1 or len(categories) < 2 or coco.catToImgs.get(top[0]["id"]):
        return None
    below = (category.get("supercategory") == top[0]["name"] for category in categories if category is not top[0])
    return top[0] if all(below) else None


def _add_images(rows: LabelRows, coco: COCO, path: Path, split: str, index: Mapping[Any, int]) -> None:
    for annotation in coco.dataset.get("annotations", []):
        category, owner = annotation.get("category_id"), annotation.get("image_id")
        if category not in index or owner not in coco.imgs:
            wrong = f"belongs to the unknown image {owner!r}" if category in index else f"has the unknown category {category!r}"
            raise DataError(f"{path}: annotation {annotation.get('id')} {wrong}. Mend the file.")
    if scores := [o["score"] for o in coco.anns.values() if isinstance(o.get("score"), (int, float))]:
        rows.note(f"{path.name}: annotations have scores, the lowest {min(scores):g}, and all of them count as labels")
    if ignored := sum(bool(o.get("ignore")) for o in coco.anns.values()):
        rows.note(f"{path.name}: {counted(ignored, 'annotation')} to be ignored in detection, which count as labels")
    for number, (image_id, image) in enumerate(coco.imgs.items(), start=1):
        where = f"{path}: image {image_id}"
        unknown, verified = image.get("unknown_category_ids", ()), image.get("neg_category_ids")
        for category in (*unknown, *(verified or ())):
            if category not in index:
                raise DataError(f"{where} has the unknown category {category}. Mend the file.")
        objects = coco.imgToAnns.get(image_id, [])
        rows.add(
            image.get("file_name") or image.get("coco_url"),
            [index[o["category_id"]] for o in objects],
            row=number,
            split=split_name(str(image.get("split", ""))) or split,
            unknown=[index[category] for category in unknown],
            absent=None if verified is None else [index[category] for category in verified],
            boxes=tuple(
                make_box(index[o["category_id"]], map(float, o["bbox"]), where) for o in objects if len(o.get("bbox") or ()) == 4
            ),
            where=where,
        )
