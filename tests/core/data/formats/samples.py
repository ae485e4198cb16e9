"""One small data set in every layout that is read, written as the programs that people label with write it.

Every writer fills a folder and returns the path that a person would name; SAMPLES has them all by name. The images are
8 x 8 pixels and all different. `load` reads a path as `prepare-data` does, without looking at the images' pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sadcl_core.data.formats.detect import reader
from sadcl_core.data.formats.nuswide import CLASSES as NUSWIDE_CLASSES
from sadcl_core.data.formats.source import Reading
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.dataset_spec import AS_DETECTED, find_labels, identify

Writer = Callable[[Path], Path]
Row = tuple[str, str, list[str], list[str]]  # image, split, active, unknown
SIZE = 8


def load(*dataset: Path | str, data: Path | None = None, expected: str = "", reading: Reading = AS_DETECTED) -> Manifest:
    """Detect the format and read, as `prepare-data` does; images in the label files are unpacked to a hidden folder."""
    spec = identify([str(entry) for entry in dataset], data=data)
    unpacked = spec.root.parent / ".unpacked" / spec.name
    labels, source = find_labels(spec, expected=expected, reading=reading, unpacked=unpacked)
    manifest: Manifest = reader(labels.format).read(source)
    manifest.description = replace(manifest.description, notes=(*labels.notes, *manifest.description.notes))
    return manifest


def rows(manifest: Manifest) -> list[Row]:
    """What a manifest holds, by name, in the order of the images."""
    names = manifest.classes
    return sorted(
        (row["image"], row["split"], [names[k] for k in row["active"]], [names[k] for k in row["unknown"]])
        for row in manifest.rows.to_pylist()
    )


def all_images_are_there(manifest: Manifest) -> bool:
    """Return True if all images exist, and the account of the reading says of each where it was found."""
    account = manifest.description.interpretation
    assert account is not None
    assert sum(place.images for place in account.places) == len(manifest)
    return all((manifest.description.root / image).is_file() for image in manifest.rows["image"].to_pylist())


def draw(path: Path) -> Path:
    """An image of noise that only its name decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(crc32(path.as_posix().encode())).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def draw_all(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        draw(folder / name)


def put(path: Path, content: str | bytes | list[Any] | dict[str, Any]) -> Path:
    """A file of text, of bytes, or of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def put_lines(path: Path, objects: Iterable[Any]) -> Path:
    return put(path, "".join(json.dumps(entry) + "\n" for entry in objects))


# ---- COCO


def coco_document(names: Iterable[str]) -> dict[str, Any]:
    """Two categories whose ids have a gap; the first image has both, the second one twice, the others none."""
    images = [{"id": 100 + k, "file_name": name, "width": SIZE, "height": SIZE} for k, name in enumerate(names)]
    objects: list[tuple[int, int, list[float]]] = [
        (100, 7, [1.0, 2.0, 3.0, 4.0]),
        (100, 3, [0.0, 0.0, 8.0, 8.0]),
        (101, 7, [2.5, 2.5, 2.0, 2.0]),
        (101, 7, [0, 0, 1, 1]),
    ]
    annotations = [
        {"id": k, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for k, (image, category, box) in enumerate(objects)
    ]
    categories = [{"id": 7, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "car", "supercategory": "vehicle"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco_official(folder: Path) -> Path:
    for split in ("train", "val"):
        names = [f"{split}_{k}.jpg" for k in range(3)]
        draw_all(folder / f"{split}2017", names)
        put(folder / "annotations" / f"instances_{split}2017.json", coco_document(names))
        put(folder / "annotations" / f"captions_{split}2017.json", {"images": [], "annotations": [{"caption": "a dog"}]})
    return folder


def write_coco_single(folder: Path) -> Path:
    names = ["a.jpg", "b.jpg", "c.jpg"]
    draw_all(folder / "images", names)
    return put(folder / "result.json", coco_document(names))


def write_coco_roboflow(folder: Path) -> Path:
    for split in ("train", "valid", "test"):
        names = [f"{split}-{k}_jpg.rf.0a1b.jpg" for k in range(2)]
        draw_all(folder / split, names)
        put(folder / split / "_annotations.coco.json", coco_document(names))
    put(folder / "README.dataset.txt", "# image tags > raw\nProvided by a person, image by image.\nLicense: CC BY 4.0\n")
    return folder


# ---- VOC

VOC_OBJECT = """  <object>
    <name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>{difficult}</difficult>
    <bndbox><xmin>2</xmin><ymin>3</ymin><xmax>5</xmax><ymax>8</ymax></bndbox>
  </object>
"""


def voc_xml(name: str, *objects: tuple[str, int]) -> str:
    inner = "".join(VOC_OBJECT.format(name=label, difficult=difficult) for label, difficult in objects)
    return f"<annotation>\n  <folder>own</folder>\n  <filename>{name}.jpg</filename>\n{inner}</annotation>\n"


VOC_IMAGES: dict[str, list[tuple[str, int]]] = {
    "000005": [("dog", 0), ("dog", 1), ("cat", 1)],
    "000007": [("cat", 0)],
    "000009": [],
}


def write_voc_official(folder: Path) -> Path:
    devkit = folder / "VOCdevkit" / "VOC2007"
    for name, objects in VOC_IMAGES.items():
        draw(devkit / "JPEGImages" / f"{name}.jpg")
        put(devkit / "Annotations" / f"{name}.xml", voc_xml(name, *objects))
    put(devkit / "ImageSets" / "Main" / "trainval.txt", "000005\n000009\n")
    put(devkit / "ImageSets" / "Main" / "test.txt", "000007\n")
    put(devkit / "ImageSets" / "Main" / "aeroplane_trainval.txt", "000005 -1\n000009 -1\n")
    return folder


def write_voc_own(folder: Path) -> Path:
    """No ImageSets, own classes, PNG files."""
    for name, objects in VOC_IMAGES.items():
        draw(folder / "JPEGImages" / f"{name}.png")
        put(folder / "Annotations" / f"{name}.xml", voc_xml(name, *((f"my {label}", hard) for label, hard in objects)))
    return folder


def write_voc_own_splits(folder: Path) -> Path:
    write_voc_own(folder)
    for split, names in {"train": "000005\n", "val": "000007\n", "test": "000009\n"}.items():
        put(folder / "ImageSets" / "Main" / f"{split}.txt", names)
    return folder


# ---- NUS-WIDE and VG500

NUSWIDE_IMAGES = {"Train": ["actor\\0001_2124494179.jpg", "zoo\\0002_1.jpg", "zoo\\gone.jpg"], "Test": ["zoo\\0003_5.jpg"]}
NUSWIDE_LABELS = {"Train": [["dog", "sky"], [], ["cat"]], "Test": [["zebra"]]}


def _nuswide_images(folder: Path) -> None:
    for word, names in NUSWIDE_IMAGES.items():
        put(folder / "ImageList" / f"{word}Imagelist.txt", "".join(f"{name}\r\n" for name in names))
        draw_all(folder / "Flickr", (name.replace("\\", "/") for name in names if "gone" not in name))


def write_nuswide(folder: Path) -> Path:
    _nuswide_images(folder)
    for word, labels in NUSWIDE_LABELS.items():
        lines = (" ".join("1" if name in active else "0" for name in NUSWIDE_CLASSES) + " \r\n" for active in labels)
        put(folder / "Groundtruth" / f"Labels_{word}.txt", "".join(lines))
    return folder


def write_nuswide_per_class(folder: Path) -> Path:
    _nuswide_images(folder)
    for word, labels in NUSWIDE_LABELS.items():
        for name in NUSWIDE_CLASSES:
            lines = ("1\n" if name in active else "0\n" for active in labels)
            put(folder / "TrainTestLabels" / f"Labels_{name}_{word}.txt", "".join(lines))
    return folder


def write_vg500(folder: Path) -> Path:
    draw_all(folder, ["VG_100K/1.jpg", "VG_100K_2/2.jpg", "VG_100K/3.jpg"])
    put(folder / "train_list_500.txt", "1.jpg\n2.jpg\n")
    put(folder / "test_list_500.txt", "3.jpg\n")
    put(folder / "vg_category_500_labels_index.json", {"1.jpg": [12, 44, 260], "2.jpg": [], "3.jpg": [499]})
    return folder


# ---- tables

PHOTOS = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def _photos(folder: Path) -> None:
    draw_all(folder / "photos", PHOTOS)


def write_csv(folder: Path) -> Path:
    _photos(folder)
    text = "image,labels,split\nphotos/a.jpg,cat;dog,train\nphotos/b.jpg,dog,train\nphotos/c.jpg,,val\nphotos/d.jpg,cat,test\n"
    return put(folder / "labels.csv", text)


def write_csv_bare(folder: Path) -> Path:
    """No header, no quotes, as many cells as labels."""
    _photos(folder)
    return put(folder / "labels.csv", "a.jpg,cat,dog\nb.jpg,dog\nc.jpg\nd.jpg,cat\n")


def write_csv_lists(folder: Path) -> Path:
    """As the CSV of NUS-WIDE that goes around with ASL: lists as Python writes them, and an index in front."""
    _photos(folder)
    text = (
        ",filepath,label,split_name\n"
        "0,photos/a.jpg,\"['cat', 'dog']\",train\n"
        "1,photos/b.jpg,\"['dog']\",train\n"
        "2,photos/c.jpg,[],val\n"
        "3,photos/d.jpg,\"['cat']\",test\n"
    )
    return put(folder / "nus_wid_data.csv", text)


def write_tsv(folder: Path) -> Path:
    _photos(folder)
    return put(folder / "labels.tsv", "file_name\ttags\na.jpg\tcat|traffic light\nb.jpg\ttraffic light\nc.jpg\t\nd.jpg\tcat\n")


def write_txt(folder: Path) -> Path:
    _photos(folder)
    return put(folder / "labels.txt", "photos/a.jpg cat dog\nphotos/b.jpg dog\nphotos/c.jpg\nphotos/d.jpg cat\n")


def write_csv_columns(folder: Path) -> Path:
    _photos(folder)
    return put(folder / "labels.csv", "filename,cat,dog,car\na.jpg,1,1,?\nb.jpg,0,1,0\nc.jpg,0,,-1\nd.jpg,1,0,0\n")


def write_chexpert(folder: Path) -> Path:
    """Ages and views that are no labels; paths that start with the name of the folder."""
    base = folder / "CheXpert-v1.0-small"
    draw_all(base, [f"train/patient0000{k}/study1/view1_frontal.jpg" for k in (1, 2)])
    draw(base / "valid/patient64541/study1/view1_frontal.jpg")
    header = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Edema\n"
    train = (
        "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,\n"
        "CheXpert-v1.0-small/train/patient00002/study1/view1_frontal.jpg,Male,87,Frontal,AP,,-1.0,0.0\n"
    )
    put(base / "train.csv", header + train)
    valid = "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,1.0\n"
    put(base / "valid.csv", header + valid)
    return base


def write_roboflow_csv(folder: Path) -> Path:
    """Roboflow's multi-label export: a space after each comma, a file per split beside its images."""
    for split, text in {"train": "a.jpg, 1, 0\nb.jpg, 1, 1\n", "valid": "c.jpg, 0, 0\n", "test": "d.jpg, 0, 1\n"}.items():
        draw_all(folder / split, [line.split(",")[0] for line in text.splitlines()])
        put(folder / split / "_classes.csv", f"filename, cat, traffic light\n{text}")
    put(folder / "README.roboflow.txt", "\nimage tags - v1\n==============\n\nThis dataset was exported, image by image.\n")
    return folder


# ---- JSON lines and Hugging Face's imagefolder


def write_jsonl(folder: Path) -> Path:
    _photos(folder)
    objects = [
        {"image": "photos/a.jpg", "labels": ["cat", "dog"], "split": "train", "unknown": ["car"]},
        {"image": "photos/b.jpg", "labels": "dog", "split": "train"},
        {"image": "photos/c.jpg", "labels": [], "split": "val"},
        {"image": "photos/d.jpg", "labels": {"cat": 1, "dog": 0, "car": None}, "split": "test"},
    ]
    return put_lines(folder / "labels.jsonl", objects)


def write_azure(folder: Path) -> Path:
    _photos(folder)
    start = "azureml://subscriptions/1/resourcegroups/g/workspaces/w/datastores/workspaceblobstore/paths/mine/photos"
    objects = [
        {"image_url": f"{start}/a.jpg", "label": ["cat", "dog"], "label_confidence": [1.0, 1.0]},
        {"image_url": f"{start}/b.jpg", "label": ["dog"]},
        {"image_url": f"{start}/c.jpg", "label": []},
        {"image_url": f"{start}/d.jpg", "label": "cat"},
    ]
    return put_lines(folder / "export.jsonl", objects)


def write_vertex(folder: Path) -> Path:
    _photos(folder)

    def entry(name: str, labels: list[str], split: str) -> dict[str, Any]:
        return {
            "imageGcsUri": f"gs://bucket/mine/photos/{name}",
            "classificationAnnotations": [{"displayName": label, "annotationResourceLabels": {"set": "1"}} for label in labels],
            "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": split},
        }

    objects = [
        entry("a.jpg", ["cat", "dog"], "training"),
        entry("b.jpg", ["dog"], "training"),
        entry("c.jpg", [], "validation"),
        entry("d.jpg", ["cat"], "test"),
    ]
    return put_lines(folder / "data-00001.jsonl", objects)


def write_imagefolder_jsonl(folder: Path) -> Path:
    splits: dict[str, dict[str, list[str]]] = {"train": {"a.jpg": ["cat", "dog"], "b.jpg": ["dog"]}, "test": {"c.jpg": []}}
    for split, entries in splits.items():
        draw_all(folder / split, entries)
        put_lines(folder / split / "metadata.jsonl", ({"file_name": name, "labels": labels} for name, labels in entries.items()))
    return folder


def write_imagefolder_csv(folder: Path) -> Path:
    _photos(folder)
    put(
        folder / "metadata.csv",
        'file_name,labels\nphotos/a.jpg,"[""cat"", ""dog""]"\nphotos/b.jpg,"[""dog""]"\nphotos/c.jpg,[]\n',
    )
    return folder


def write_parquet(folder: Path) -> Path:
    """The names of the classes are in the metadata of the schema, the labels are numbers."""
    _photos(folder)
    labels = {"feature": {"names": ["dog", "cat", "never seen"], "_type": "ClassLabel"}, "_type": "List"}
    features = {"info": {"features": {"file_name": {"dtype": "string", "_type": "Value"}, "labels": labels}}}
    table = pa.table(
        {"file_name": [f"photos/{name}" for name in PHOTOS], "labels": pa.array([[1, 0], [0], [], [1]], pa.list_(pa.int64()))}
    ).replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, folder / "metadata.parquet")
    return folder


# ---- OpenMMLab and Label Studio


def write_openmmlab(folder: Path) -> Path:
    _photos(folder)
    entries = [("a.jpg", [0, 1]), ("b.jpg", [1]), ("c.jpg", []), ("d.jpg", [0])]
    document = {
        "metainfo": {"classes": ["cat", "dog", "never seen"]},
        "data_list": [{"img_path": name, "gt_label": labels} for name, labels in entries],
    }
    return put(folder / "photos.json", document)


def studio_task(image: str, *opinions: list[str] | None) -> dict[str, Any]:
    """A task as the full export has it; None is an annotator who skipped it."""

    def annotation(number: int, choices: list[str] | None) -> dict[str, Any]:
        result = {"value": {"choices": choices or []}, "from_name": "choice", "to_name": "image", "type": "choices"}
        return {"id": number, "completed_by": number, "was_cancelled": choices is None, "result": [result] if choices else []}

    return {
        "id": 1,
        "annotations": [annotation(number, choices) for number, choices in enumerate(opinions)],
        "predictions": [{"result": [{"type": "choices", "value": {"choices": ["predicted"]}}]}],
        "data": {"image": image},
        "project": 1,
    }


def write_labelstudio(folder: Path) -> Path:
    _photos(folder)
    tasks = [
        studio_task("/data/upload/1/0a1b2c3d-a.jpg", ["cat", "dog"], ["cat"]),
        studio_task("/data/upload/1/1a1b2c3d-b.jpg", ["dog"]),
        studio_task("/data/upload/1/2a1b2c3d-c.jpg", []),
        studio_task("/data/upload/1/3a1b2c3d-d.jpg", None),
        studio_task("/data/upload/1/4a1b2c3d-e.jpg"),
    ]
    for name in PHOTOS:
        (folder / "photos" / name).rename(draw(folder / "images" / name))
    return put(folder / "project-1-at-2024-01-01-00-00-0a1b2c3d.json", tasks)


def write_labelstudio_minimal(folder: Path) -> Path:
    _photos(folder)
    tasks = [
        {"image": "/data/local-files/?d=mine/photos/a.jpg", "id": 1, "choice": {"choices": ["cat", "dog"]}, "annotator": 1},
        {"image": "/data/local-files/?d=mine/photos/b.jpg", "id": 2, "choice": "dog", "annotator": 1},
        {"image": "/data/local-files/?d=mine/photos/c.jpg", "id": 3, "choice": {"choices": []}, "annotator": 1},
        {"image": "/data/local-files/?d=mine/photos/d.jpg", "id": 4, "choice": "cat", "annotator": 1},
    ]
    return put(folder / "project-1.json", tasks)


# ---- YOLO and captions

YOLO_TEXTS = {"a": "1 0.5 0.5 0.25 0.5\n0 0.125 0.25 0.25 0.5\n", "b": "1 0.25 0.25 0.75 0.25 0.75 1.0 0.25 1.0\n", "c": ""}


def _yolo(folder: Path, names: str, images: str, labels: str) -> None:
    for name in names:
        draw(folder / images / f"{name}.jpg")
        if name in YOLO_TEXTS:
            put(folder / labels / f"{name}.txt", YOLO_TEXTS[name])


def write_yolo(folder: Path) -> Path:
    """`images/train` beside `labels/train`."""
    _yolo(folder, "ab", "images/train", "labels/train")
    _yolo(folder, "cd", "images/val", "labels/val")
    put(folder / "data.yaml", "path: ../datasets/mine\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: cat\n  1: dog\n")
    return folder


def write_yolo_roboflow(folder: Path) -> Path:
    """`train/images` beside `train/labels`, and a description that says they were one folder up."""
    _yolo(folder, "ab", "train/images", "train/labels")
    _yolo(folder, "cd", "valid/images", "valid/labels")
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n"
    put(folder / "data.yaml", text)
    put(folder / "README.roboflow.txt", "\nimage tags - v1\n==============\n\nThis dataset was exported, image by image.\n")
    return folder


def write_yolo_flat(folder: Path) -> Path:
    """Texts beside the images, the names of the classes in a list."""
    _yolo(folder, "abcd", ".", ".")
    put(folder / "classes.txt", "cat\ndog\n")
    return folder


def write_captions(folder: Path) -> Path:
    texts = {"a": "photo, cat, sitting on a sofa\n", "b": "photo, dog", "c": ""}
    for name, text in texts.items():
        draw(folder / f"{name}.jpg")
        put(folder / f"{name}.txt", text)
    draw(folder / "d.jpg")
    return folder


SAMPLES: dict[str, Writer] = {
    "coco-official": write_coco_official,
    "coco-single": write_coco_single,
    "coco-roboflow": write_coco_roboflow,
    "voc-official": write_voc_official,
    "voc-own": write_voc_own,
    "voc-own-splits": write_voc_own_splits,
    "nuswide": write_nuswide,
    "nuswide-per-class": write_nuswide_per_class,
    "vg500": write_vg500,
    "csv": write_csv,
    "csv-bare": write_csv_bare,
    "csv-lists": write_csv_lists,
    "tsv": write_tsv,
    "txt": write_txt,
    "csv-columns": write_csv_columns,
    "chexpert": write_chexpert,
    "roboflow-csv": write_roboflow_csv,
    "jsonl": write_jsonl,
    "azure": write_azure,
    "vertex": write_vertex,
    "imagefolder-jsonl": write_imagefolder_jsonl,
    "imagefolder-csv": write_imagefolder_csv,
    "imagefolder-parquet": write_parquet,
    "openmmlab": write_openmmlab,
    "labelstudio": write_labelstudio,
    "labelstudio-minimal": write_labelstudio_minimal,
    "yolo": write_yolo,
    "yolo-roboflow": write_yolo_roboflow,
    "yolo-flat": write_yolo_flat,
    "captions": write_captions,
}
FORMAT = {  # of each sample
    **{name: name.split("-")[0] for name in SAMPLES},
    **dict.fromkeys(("tsv", "txt", "chexpert", "roboflow-csv", "imagefolder-csv", "imagefolder-parquet"), "csv"),
    **dict.fromkeys(("azure", "vertex", "imagefolder-jsonl"), "jsonl"),
}
