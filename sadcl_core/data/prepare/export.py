"""Write a manifest as label files that other programs read, and this one reads back without loss."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sadcl_core.data.formats.labels import CLASS_LIST
from sadcl_core.data.formats.source import SPLIT_NAMES
from sadcl_core.data.images import image_size
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError, UsageError
from sadcl_core.registry import suggest
from sadcl_core.runtime.files import replacing, to_cell, write_text

DELIMITERS = ("|", ";", ",", " ", "[", "\t")  # a class name with one of them is written in a list
Row = dict[str, Any]


def check_exports(names: Sequence[str]) -> None:
    """Raise if a format cannot be written.

    Raises:
        UsageError: a name is not in EXPORTS.
    """
    for name in names:
        if name not in EXPORTS:
            raise UsageError(f"Labels cannot be written as {name!r}. {suggest(name, EXPORTS)}")


def write_labels(manifest: Manifest, form: str, folder: Path) -> list[Path]:
    """Write label files of a format in EXPORTS into a folder; image paths in them start from the manifest's root.

    Returns:
        The files.

    Raises:
        DataError: for COCO, an image cannot be opened to see its size; for the others, a class name has a line break.
        UsageError: the folder cannot be written to.
    """
    return EXPORTS[form](manifest, folder)


def rows_of(manifest: Manifest, chunk: int = 4096) -> Iterator[Row]:
    """Yield the rows as plain dicts: image, split, active, unknown, boxes."""
    for batch in manifest.rows.to_batches(max_chunksize=chunk):
        yield from batch.to_pylist()


def label_cell(classes: Sequence[str]) -> Callable[[Sequence[str]], str]:
    """Return the function that writes labels into one cell, so that they are read as they were.

    Example:
        >>> label_cell(["cat", "dog"])(["dog", "cat"]), label_cell(["salt, pepper"])(["salt, pepper"])
        ('dog|cat', '["salt, pepper"]')
    """
    if all(name.strip() == name and not any(mark in name for mark in DELIMITERS) for name in classes):
        return "|".join
    return lambda names: json.dumps(list(names), ensure_ascii=False)


def write_csv(manifest: Manifest, folder: Path) -> list[Path]:
    """Write one `labels.csv` with image, split, labels and unknown, and the list of classes beside it."""
    names, join = manifest.classes, label_cell(manifest.classes)
    path, beside = folder / "labels.csv", _class_list(manifest, folder)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "split", "labels", "unknown"])
        for row in rows_of(manifest):
            cells = ([names[k] for k in row[kind]] for kind in ("active", "unknown"))
            writer.writerow([to_cell(text) for text in (row["image"], row["split"], *map(join, cells))])
    return [path, beside]


def write_jsonl(manifest: Manifest, folder: Path) -> list[Path]:
    """Write one `labels.jsonl` with image, split, labels and unknown, and the list of classes beside it."""
    names = manifest.classes
    path, beside = folder / "labels.jsonl", _class_list(manifest, folder)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows_of(manifest):
            line: Row = {"image": row["image"], "split": row["split"], "labels": [names[k] for k in row["active"]]}
            if row["unknown"]:
                line["unknown"] = [names[k] for k in row["unknown"]]
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return [path, beside]


def write_coco(manifest: Manifest, folder: Path) -> list[Path]:
    """Write one `annotations/instances_SPLIT.json` per split; a label without a box is an annotation without one.

    Splits of unusual names go into one file, in which each image names its split, since readers look for usual names only.
    """
    names = manifest.splits
    if not set(names) <= set(SPLIT_NAMES.values()):
        return [_write_coco_file(manifest, names, folder / "annotations" / "instances.json")]
    return [_write_coco_file(manifest, [name], folder / "annotations" / f"instances_{name}.json") for name in names]


def _write_coco_file(manifest: Manifest, splits: list[str], path: Path) -> Path:
    supers = manifest.description.superclasses or ("",) * len(manifest.classes)
    categories = [
        {"id": k + 1, "name": label, "supercategory": above}
        for k, (label, above) in enumerate(zip(manifest.classes, supers, strict=True))
    ]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{{"categories": {json.dumps(categories, ensure_ascii=False)},\n"images": [')
        rows = [row for row in rows_of(manifest) if row["split"] in splits]
        for number, row in enumerate(rows, start=1):
            file.write(f"{',' if number > 1 else ''}\n{json.dumps(_coco_image(manifest, number, row), ensure_ascii=False)}")
        file.write('],\n"annotations": [')
        annotations = (a for number, row in enumerate(rows, start=1) for a in _coco_annotations(number, row))
        for number, annotation in enumerate(annotations, start=1):
            file.write(f"{',' if number > 1 else ''}\n{json.dumps({'id': number, **annotation})}")
        file.write("]}\n")
    return path


def _coco_image(manifest: Manifest, number: int, row: Row) -> Row:
    width, height = image_size(manifest.description.root / row["image"])
    image: Row = {"id": number, "file_name": row["image"], "width": width, "height": height, "split": row["split"]}
    if row["unknown"]:
        image["unknown_category_ids"] = [k + 1 for k in row["unknown"]]
    return image


def _coco_annotations(number: int, row: Row) -> Iterator[Row]:
    """Yield an annotation per box, and one for each label without a box."""
    boxes = row["boxes"] or []
    for box in boxes:
        sides = [round(box[side], 3) for side in ("x", "y", "width", "height")]
        area = round(box["width"] * box["height"], 3)
        yield {"image_id": number, "category_id": box["label"] + 1, "bbox": sides, "area": area, "iscrowd": 0}
    for label in sorted(set(row["active"]) - {box["label"] for box in boxes}):
        yield {"image_id": number, "category_id": label + 1, "iscrowd": 0}


def _class_list(manifest: Manifest, folder: Path) -> Path:
    broken = next((name for name in manifest.classes if "\n" in name or "\r" in name), None)
    if broken is not None:
        raise DataError(
            f"{manifest.description.name}: the class name {broken[:60]!r} has a line break, so {CLASS_LIST} cannot hold it. "
            "Rename the class, or export as coco."
        )
    write_text(folder / CLASS_LIST, "".join(f"{name}\n" for name in manifest.classes))
    return folder / CLASS_LIST


EXPORTS: dict[str, Callable[[Manifest, Path], list[Path]]] = {"coco": write_coco, "csv": write_csv, "jsonl": write_jsonl}
