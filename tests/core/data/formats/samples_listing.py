"""The small data set of `samples`, as other programs and the authors of public data sets write it.

LISTINGS has, by the name of the sample, its writer, its label file, its format and what has to be read.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

from tests.core.data.formats.samples import SIZE, Row, draw, draw_all, put, put_lines

LABELS: dict[str, list[str]] = {"a": ["cat", "dog"], "b": ["dog"], "c": [], "d": ["cat"]}
NAMES = ["cat", "dog"]


@dataclass(frozen=True)
class Sample:
    """A way to write the data set.

    Attributes:
        write: into a folder; returns the path that a person would name.
        file: that holds the labels, below the folder.
        format: a row of FORMATS.
        rows: image, split, active and unknown labels.
        classes: in their order.
    """

    write: Callable[[Path], Path]
    file: str
    format: str
    rows: list[Row]
    classes: tuple[str, ...] = ("cat", "dog")


def expected(place: str = "", splits: Mapping[str, str] | None = None) -> list[Row]:
    return sorted((f"{place}{name}.jpg", (splits or {}).get(name, ""), labels, []) for name, labels in LABELS.items())


def draw_photos(folder: Path, suffix: str = ".jpg") -> None:
    draw_all(folder, [f"{name}{suffix}" for name in LABELS])


def content(folder: Path, name: str, suffix: str = ".jpg") -> bytes:
    """Bytes of an image, which is then nowhere on the disk."""
    path = draw(folder / f"{name}{suffix}")
    data = path.read_bytes()
    path.unlink()
    return data


# ---- programs that people label with


def write_fiftyone(folder: Path) -> Path:
    draw_photos(folder / "data")
    labels = {"a": [0, 1], "b": [1], "c": [], "d": [0], "e": None}
    put(folder / "labels.json", {"classes": NAMES, "labels": labels})
    return folder


def write_fiftyone_dataset(folder: Path) -> Path:
    draw_photos(folder / "data")

    def sample(name: str, labels: list[str]) -> dict[str, Any]:
        entries = [{"_id": {"$oid": "0"}, "_cls": "Classification", "tags": [], "label": label} for label in labels]
        return {
            "filepath": f"data/{name}.jpg",
            "tags": ["train" if name in "ab" else "test", "good"],
            "metadata": {"_cls": "ImageMetadata", "size_bytes": 10, "mime_type": "image/jpeg"},
            "ground_truth": {"_cls": "Classifications", "classifications": entries},
            "predictions": {"_cls": "Classification", "label": "cat"},
        }

    put(folder / "metadata.json", {"name": "mine", "media_type": "image", "sample_fields": [], "info": {}})
    put(folder / "samples.json", {"samples": [sample(name, labels) for name, labels in LABELS.items()]})
    return folder


def write_datumaro(folder: Path) -> Path:
    for split, names in {"train": "ab", "val": "cd"}.items():
        draw_all(folder / "images" / split, [f"{name}.jpg" for name in names])
        items = [
            {
                "id": name,
                "annotations": [
                    *({"id": 0, "type": "label", "attributes": {}, "group": 0, "label_id": NAMES.index(x)} for x in LABELS[name]),
                    {"id": 1, "type": "caption", "caption": "a photo"},
                ],
                "attr": {"frame": 0},
                "image": {"path": f"{name}.jpg", "size": [SIZE, SIZE]},
            }
            for name in names
        ]
        categories = {"label": {"labels": [{"name": name, "parent": "", "attributes": []} for name in NAMES], "attributes": []}}
        put(folder / "annotations" / f"{split}.json", {"info": {}, "categories": categories, "items": items})
    return folder


def cvat_document(names: Iterable[str] = LABELS, inner: str = "") -> str:
    labels = "".join(f"<label><name>{name}</name><attributes></attributes></label>" for name in NAMES)
    images = "".join(
        f'<image id="{k}" name="{name}.jpg" width="8" height="8">'
        + "".join(f'<tag label="{label}" source="manual"></tag>' for label in LABELS[name])
        + "</image>"
        for k, name in enumerate(names)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f"<meta><task><id>1</id><labels>{labels}</labels></task></meta>{images}{inner}</annotations>\n"
    )


def write_cvat(folder: Path) -> Path:
    draw_photos(folder / "images")
    put(folder / "annotations.xml", cvat_document())
    return folder


def via_images(names: Iterable[str] = LABELS) -> dict[str, Any]:
    return {
        f"{name}.jpg1000": {
            "filename": f"{name}.jpg",
            "size": 1000,
            "regions": [],
            "file_attributes": {"caption": "", "content": dict.fromkeys(LABELS[name], True)},
        }
        for name in names
    }


def write_via(folder: Path) -> Path:
    draw_photos(folder)
    document = {"_via_settings": {}, "_via_img_metadata": via_images(), "_via_attributes": {"file": {}, "region": {}}}
    return put(folder / "via_project.json", document)


def write_via_csv(folder: Path) -> Path:
    """A row per region; the label is one text."""
    draw_photos(folder)
    lines = ["filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"]
    for name, labels in LABELS.items():
        for k, label in enumerate(labels or [""]):
            attributes = json.dumps({"type": label} if label else {}).replace('"', '""')
            lines.append(f'{name}.jpg,1000,{{}},{len(labels)},{k},"{{}}","{attributes}"')
    return put(folder / "via_project_csv.csv", "\n".join(lines) + "\n")


def write_sagemaker(folder: Path) -> Path:
    draw_photos(folder)
    names = {"0": "cat", "1": "dog"}
    rows = [
        {
            "source-ref": f"s3://bucket/mine/{name}.jpg",
            "job": [NAMES.index(label) for label in labels],
            "job-metadata": {
                "class-map": {key: names[key] for key in names if names[key] in labels},
                "type": "groundtruth/image-classification-multilabel",
                "human-annotated": "yes",
            },
        }
        for name, labels in LABELS.items()
    ]
    return put_lines(folder / "output.manifest", [*rows, {"source-ref": "s3://bucket/mine/e.jpg"}])


def xml(name: str, labels: Iterable[str]) -> str:
    objects = "".join(f"<object><name>{label}</name><polygon><x1>1</x1><y1>2</y1></polygon></object>" for label in labels)
    return f'<annotation verified="yes"><filename>{name}.jpg</filename>{objects}</annotation>'


def write_xml(folder: Path) -> Path:
    """Images and annotations in two folders, with masks of the same name in a third."""
    draw_photos(folder / "images")
    draw_photos(folder / "annotations" / "trimaps", ".png")
    for name, labels in LABELS.items():
        put(folder / "annotations" / "xmls" / f"{name}.xml", xml(name, labels))
    return folder


def write_labelme(folder: Path) -> Path:
    draw_photos(folder)
    for name, labels in LABELS.items():
        flags, shapes = {"cat": "cat" in labels}, [{"label": label, "points": [[1, 2]]} for label in labels if label != "cat"]
        put(folder / f"{name}.json", {"version": "5.2.1", "flags": flags, "shapes": shapes, "imagePath": f"..\\x\\{name}.jpg"})
    return folder


def write_supervisely(folder: Path) -> Path:
    for split, names in {"train": "ab", "test": "cd"}.items():
        for name in names:
            draw(folder / split / "img" / f"{name}.jpg")
            tags = [{"name": label, "value": None} for label in LABELS[name] if label == "cat"]
            objects = [{"classTitle": label, "tags": []} for label in LABELS[name] if label != "cat"]
            document = {"description": "", "tags": tags, "size": {"height": SIZE, "width": SIZE}, "objects": objects}
            put(folder / split / "ann" / f"{name}.jpg.json", document)
    put(folder / "meta.json", {"classes": [{"title": "dog"}], "tags": [{"name": "cat", "value_type": "none"}]})
    return folder


def write_createml(folder: Path) -> Path:
    draw_photos(folder)
    images = [{"image": f"{name}.jpg", "annotations": [{"label": x, "coordinates": {}} for x in LABELS[name]]} for name in LABELS]
    return put(folder / "_annotations.createml.json", images)


# ---- images inside the label files


def write_huggingface(folder: Path) -> Path:
    """Numbers of classes in a list, names in the schema, several files of a split."""
    info = {
        "features": {
            "image": {"_type": "Image"},
            "labels": {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "Sequence"},
        }
    }
    parts = {"train-00000-of-00002": "a", "train-00001-of-00002": "b", "test-00000-of-00001": "cd"}
    for part, names in parts.items():
        images = [{"bytes": content(folder, name), "path": f"{name}.jpg"} for name in names]
        labels = [[NAMES.index(label) for label in LABELS[name]] for name in names]
        table = pa.table({"image": images, "labels": pa.array(labels, pa.list_(pa.int64()))})
        (folder / "data").mkdir(exist_ok=True)
        pq.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps({"info": info})}), folder / "data" / f"{part}.parquet"
        )
    return folder


def write_huggingface_columns(folder: Path) -> Path:
    """A column of 1 and 0 per class, images as plain bytes."""
    columns: dict[str, Any] = {"image": [content(folder, name) for name in LABELS]}
    columns |= {label: [int(label in labels) for labels in LABELS.values()] for label in NAMES}
    pq.write_table(pa.table(columns), folder / "mine.parquet")
    return folder / "mine.parquet"


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    return path


def write_webdataset(folder: Path) -> Path:
    """JSON in the shards of one split, tags in the other."""
    for part, names in {"train-000000": "a", "train-000001": "b", "test-000000": "cd"}.items():
        files: dict[str, bytes] = {}
        for name in names:
            files[f"{name}.jpg"] = content(folder, name)
            if part.startswith("train"):
                files[f"{name}.json"] = json.dumps({"labels": LABELS[name], "key": name, "url": f"http://host/{name}"}).encode()
            else:
                files[f"{name}.txt"] = ", ".join(LABELS[name]).encode()
        write_tar(folder / f"{part}.tar", files)
    return folder


# ---- public data sets


def write_celeba(folder: Path) -> Path:
    draw_photos(folder / "img_align_celeba")
    rows = [f"{name}.jpg " + " ".join(" 1" if label in labels else "-1" for label in NAMES) for name, labels in LABELS.items()]
    put(folder / "list_attr_celeba.txt", "\n".join(["4", "cat dog ", *rows]) + "\n")
    put(folder / "list_eval_partition.txt", "a.jpg 0\nb.jpg 0\nc.jpg 1\nd.jpg 2\n")
    put(folder / "list_bbox_celeba.txt", "4\nimage_id x_1 y_1 width height\na.jpg 95 71 226 313\n")
    return folder


def write_deepfashion(folder: Path) -> Path:
    draw_photos(folder / "img")
    rows = [f"img/{name}.jpg  " + " ".join("1" if x in labels else "-1" for x in NAMES) for name, labels in LABELS.items()]
    rows[2] = "img/c.jpg  -1 0"
    put(folder / "Anno" / "list_attr_cloth.txt", "2\nattribute_name attribute_type\ncat 3\nred dog 1\n")
    put(folder / "Anno" / "list_attr_img.txt", "\n".join(["4", "image_name  attribute_labels", *rows]) + "\n")
    put(
        folder / "Eval" / "list_eval_partition.txt",
        "4\nimage_name evaluation_status\nimg/a.jpg train\nimg/b.jpg train\nimg/c.jpg val\nimg/d.jpg test\n",
    )
    return folder


def write_deepfashion_fine(folder: Path) -> Path:
    draw_photos(folder / "img")
    put(folder / "Anno_fine" / "list_attr_cloth.txt", "2\nattribute_name attribute_type\ncat 3\ndog 1\n")
    for split, names in {"train": "ab", "test": "cd"}.items():
        put(folder / "Anno_fine" / f"{split}.txt", "".join(f"img/{name}.jpg\n" for name in names))
        flags = (" ".join(str(int(label in LABELS[name])) for label in NAMES) for name in names)
        put(folder / "Anno_fine" / f"{split}_attr.txt", "\n".join(flags) + "\n")
    return folder


def cells(texts: Iterable[str]) -> Any:
    texts = list(texts)
    array = np.empty((len(texts), 1), dtype=object)
    for k, text in enumerate(texts):
        array[k, 0] = text
    return array


def write_pa100k(folder: Path) -> Path:
    draw_photos(folder / "data")
    variables: dict[str, Any] = {"attributes": cells(NAMES)}
    for split, names in {"train": "ab", "val": "c", "test": "d"}.items():
        variables[f"{split}_images_name"] = cells(f"{name}.jpg" for name in names)
        flags = [[int(label in LABELS[name]) for label in NAMES] for name in names]
        variables[f"{split}_label"] = np.array(flags, np.uint8)
    savemat(folder / "annotation.mat", variables)
    return folder


def write_peta(folder: Path) -> Path:
    """The texts of one of its sources: several images of a person."""
    draw_all(folder, ["1_a.jpg", "1_b.jpg", "2_a.jpg"])
    return put(folder / "Label.txt", "1 cat dog\n2 dog\n")


def write_ucmerced(folder: Path) -> Path:
    draw_all(folder / "Images" / "farm", ["a.tif", "b.tif"])
    draw_all(folder / "Images" / "beach", ["c.tif", "d.tif"])
    rows = ["\t".join([name, *(str(int(label in labels)) for label in NAMES)]) for name, labels in LABELS.items()]
    put(folder / "multilabels.txt", "\n".join(["IMAGE\\LABEL\tcat\tdog", *rows]) + "\n")
    return folder


def write_voc_lists(folder: Path) -> Path:
    """Lists of three classes, and a mask of the name of each image."""
    draw_all(folder / "VOC2007/JPEGImages", [f"{name}.jpg" for name in LABELS])
    draw_all(folder / "VOC2007/SegmentationClass", [f"{name}.png" for name in LABELS])
    for split, names in (("trainval", "ab"), ("test", "cd")):
        put(folder / f"VOC2007/ImageSets/Main/{split}.txt", "".join(f"{name}\n" for name in names))
        for label in ("cat", "cow", "dog"):
            flags = {name: " 1" if label in LABELS[name] else " 0" if (name, label) == ("a", "cow") else "-1" for name in names}
            text = "".join(f"{name} {flag}\n" for name, flag in flags.items())
            put(folder / f"VOC2007/ImageSets/Main/{label}_{split}.txt", text)
    return folder


def write_scenes(folder: Path) -> Path:
    draw_all(folder / "Images" / "farm", ["a.jpg", "b.jpg"])
    draw_all(folder / "Images" / "beach", ["c.jpg", "d.jpg"])
    put(folder / "Labels" / "farm.csv", "image,cat,dog\na.jpg,1,1\nb.jpg,0,1\n")
    put(folder / "Labels" / "beach.csv", "image,dog,cat\nc.jpg,0,0\nd.jpg,0,1\n")
    return folder


def write_bigearthnet(folder: Path) -> Path:
    """Patches of three bands; one patch of the table is not on the disk."""
    for name in LABELS:
        for band in ("B02", "B03", "B04", "B08"):
            path = folder / "BigEarthNet-S2" / "tile" / name / f"{name}_{band}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((SIZE, SIZE), 300 * ord(name[0]) % 3000, np.uint16)).save(path)
    splits = ["train", "train", "validation", "test", "test"]
    names = [*LABELS, "elsewhere"]
    columns = {"patch_id": names, "labels": [*LABELS.values(), ["cat"]], "split": splits, "country": ["Austria"] * 5}
    pq.write_table(pa.table(columns), folder / "metadata.parquet")
    return folder


def write_bigearthnet_v1(folder: Path) -> Path:
    """A JSON file per patch, and official splits."""
    write_bigearthnet(folder)
    (folder / "metadata.parquet").unlink()
    (folder / "BigEarthNet-S2" / "tile").rename(folder / "BigEarthNet-v1.0")
    for name, labels in LABELS.items():
        put(folder / "BigEarthNet-v1.0" / name / f"{name}_labels_metadata.json", {"labels": labels, "projection": "none"})
    for split, names in {"train": "ab", "val": "c", "test": "d"}.items():
        put(folder / "splits" / f"{split}.csv", "".join(f"{name}\n" for name in names))
    return folder


def write_imaterialist(folder: Path) -> Path:
    numbers = {name: str(k) for k, name in enumerate(LABELS, start=1)}
    draw_all(folder / "train", [f"{number}.jpg" for number in numbers.values()])
    entries = [
        {"imageId": numbers[name], "labelId": [str(7 + NAMES.index(x)) for x in labels]} for name, labels in LABELS.items()
    ]
    put(folder / "labels.csv", "labelId,taskId,labelName,taskName\n7,1,cat,category\n8,1,dog,category\n9,2,red,colour\n")
    images = [{"url": "https://host/a", "imageId": number} for number in numbers.values()]
    return put(folder / "train.json", {"images": images, "annotations": entries})


def write_class_lists(folder: Path) -> Path:
    """Numbers of images, as in MIRFlickr."""
    numbers = {name: k for k, name in enumerate(LABELS, start=9)}
    draw_all(folder / "mirflickr", [f"im{number}.jpg" for number in numbers.values()])
    for label in NAMES:
        listed = "".join(f"{numbers[name]}\r\n" for name, labels in LABELS.items() if label in labels)
        put(folder / "mirflickr25k_annotations_v080" / f"{label}.txt", listed)
    put(folder / "mirflickr25k_annotations_v080" / "README.txt", "The annotations of the images.\n")
    return folder


def write_rsna(folder: Path) -> Path:
    names = {name: f"ID_0000000{name}" for name in LABELS}
    draw_all(folder / "stage_2_train", [f"{image}.png" for image in names.values()])
    rows = [f"{names[name]}_{label},{int(label in labels)}" for name, labels in LABELS.items() for label in NAMES]
    return put(folder / "stage_2_train.csv", "\n".join(["ID,Label", *rows]) + "\n")


ATLAS = {name: f"0007{name}df0-bbc3-11e8-b2bc-ac1f6b6435d0" for name in LABELS}


def write_hpa(folder: Path) -> Path:
    """An image of grey values per colour."""
    (folder / "train").mkdir(parents=True)
    for name, identifier in ATLAS.items():
        for k, colour in enumerate(("red", "green", "blue", "yellow")):
            pixels = np.full((SIZE, SIZE), 10 * k + ord(name), np.uint8)
            Image.fromarray(pixels).save(folder / "train" / f"{identifier}_{colour}.png")
    rows = [f"{identifier},{'16 0' if name == 'a' else 7}" for name, identifier in ATLAS.items()]
    put(folder / "train.csv", "\n".join(["Id,Target", *rows]) + "\n")
    put(folder / "sample_submission.csv", f"Id,Predicted\n{ATLAS['a'][::-1]},0\n")
    return folder


def write_yaml(folder: Path) -> Path:
    draw_photos(folder / "images")
    put(folder / "metadata.yaml", "task: multilabel classification\nannotations: annotations.yaml\nlabels: [cat, dog]\n")
    lines = (f"{name}.jpg: [{', '.join(labels)}]\n" for name, labels in LABELS.items())
    return put(folder / "annotations.yaml", "".join(lines))


PARTS = {"a": "train", "b": "train", "c": "test", "d": "test"}
USUAL = {"a": "train", "b": "train", "c": "val", "d": "test"}
LISTINGS: dict[str, Sample] = {
    "fiftyone": Sample(write_fiftyone, "labels.json", "fiftyone", expected("data/")),
    "fiftyone-dataset": Sample(write_fiftyone_dataset, "samples.json", "fiftyone", expected("data/", PARTS)),
    "datumaro": Sample(
        write_datumaro,
        "annotations/train.json",
        "datumaro",
        [(f"images/{s}/{n}.jpg", s, LABELS[n], []) for n, s in (("a", "train"), ("b", "train"), ("c", "val"), ("d", "val"))],
    ),
    "cvat": Sample(write_cvat, "annotations.xml", "cvat", expected("images/")),
    "via": Sample(write_via, "via_project.json", "via", expected()),
    "via-csv": Sample(write_via_csv, "via_project_csv.csv", "via", expected()),
    "xml": Sample(write_xml, "annotations/xmls/a.xml", "labelimg", expected("images/")),
    "labelme": Sample(write_labelme, "a.json", "labelme", expected()),
    "supervisely": Sample(
        write_supervisely,
        "train/ann/a.jpg.json",
        "supervisely",
        sorted((f"{split}/img/{name}.jpg", split, LABELS[name], []) for name, split in PARTS.items()),
    ),
    "createml": Sample(write_createml, "_annotations.createml.json", "jsonl", expected()),
    "sagemaker": Sample(write_sagemaker, "output.manifest", "sagemaker", expected()),
    "huggingface": Sample(
        write_huggingface,
        "data/test-00000-of-00001.parquet",
        "huggingface",
        [
            ("test/002-000001-c.jpg", "test", [], []),
            ("test/002-000002-d.jpg", "test", ["cat"], []),
            ("train/000-000001-a.jpg", "train", ["cat", "dog"], []),
            ("train/001-000001-b.jpg", "train", ["dog"], []),
        ],
    ),
    "huggingface-columns": Sample(
        write_huggingface_columns,
        "mine.parquet",
        "huggingface",
        [(f"images/000-{k:06d}.jpg", "", labels, []) for k, labels in enumerate(LABELS.values(), start=1)],
    ),
    "webdataset": Sample(
        write_webdataset,
        "test-000000.tar",
        "webdataset",
        [
            ("test-000000/c.jpg", "test", [], []),
            ("test-000000/d.jpg", "test", ["cat"], []),
            ("train-000000/a.jpg", "train", ["cat", "dog"], []),
            ("train-000001/b.jpg", "train", ["dog"], []),
        ],
    ),
    "celeba": Sample(write_celeba, "list_attr_celeba.txt", "celeba", expected("img_align_celeba/", USUAL)),
    "deepfashion": Sample(
        write_deepfashion,
        "Anno/list_attr_img.txt",
        "deepfashion",
        [
            ("img/a.jpg", "train", ["cat", "red dog"], []),
            ("img/b.jpg", "train", ["red dog"], []),
            ("img/c.jpg", "val", [], ["red dog"]),
            ("img/d.jpg", "test", ["cat"], []),
        ],
        ("cat", "red dog"),
    ),
    "deepfashion-fine": Sample(write_deepfashion_fine, "Anno_fine/train_attr.txt", "deepfashion", expected("img/", PARTS)),
    "pa100k": Sample(write_pa100k, "annotation.mat", "pedestrians", expected("data/", USUAL)),
    "peta": Sample(
        write_peta,
        "Label.txt",
        "pedestrians",
        [("1_a.jpg", "", ["cat", "dog"], []), ("1_b.jpg", "", ["cat", "dog"], []), ("2_a.jpg", "", ["dog"], [])],
    ),
    "ucmerced": Sample(
        write_ucmerced,
        "multilabels.txt",
        "ucmerced",
        sorted((f"Images/{'farm' if n in 'ab' else 'beach'}/{n}.tif", "", labels, []) for n, labels in LABELS.items()),
    ),
    "voc_lists": Sample(
        write_voc_lists,
        "VOC2007/ImageSets/Main/cat_trainval.txt",
        "voc_lists",
        [
            (f"VOC2007/JPEGImages/{name}.jpg", "train" if name in "ab" else "test", labels, ["cow"] if name == "a" else [])
            for name, labels in LABELS.items()
        ],
        ("cat", "cow", "dog"),
    ),
    "scenes": Sample(
        write_scenes,
        "Labels/farm.csv",
        "scenes",
        sorted((f"Images/{'farm' if n in 'ab' else 'beach'}/{n}.jpg", "", labels, []) for n, labels in LABELS.items()),
    ),
    "bigearthnet": Sample(
        write_bigearthnet,
        "metadata.parquet",
        "bigearthnet",
        [(f"{name}.png", USUAL[name], labels, []) for name, labels in LABELS.items()],
    ),
    "bigearthnet_v1": Sample(
        write_bigearthnet_v1,
        "BigEarthNet-v1.0/a/a_labels_metadata.json",
        "bigearthnet_v1",
        [(f"{name}.png", "", labels, []) for name, labels in LABELS.items()],
    ),
    "imaterialist": Sample(
        write_imaterialist,
        "train.json",
        "imaterialist",
        [(f"train/{k}.jpg", "", labels, []) for k, labels in enumerate(LABELS.values(), start=1)],
    ),
    "class_lists": Sample(
        write_class_lists,
        "mirflickr25k_annotations_v080/dog.txt",
        "class_lists",
        sorted((f"mirflickr/im{k}.jpg", "", labels, []) for k, labels in enumerate(LABELS.values(), start=9)),
    ),
    "image and class in one cell": Sample(
        write_rsna,
        "stage_2_train.csv",
        "csv",
        [(f"stage_2_train/ID_0000000{name}.png", "", labels, []) for name, labels in LABELS.items()],
    ),
    "hpa": Sample(
        write_hpa,
        "train.csv",
        "hpa",
        sorted(
            (f"{ATLAS[name]}.png", "", ["Nucleoplasm", "Cytokinetic bridge"] if name == "a" else ["Golgi apparatus"], [])
            for name in LABELS
        ),
        (),
    ),
    "yaml": Sample(write_yaml, "annotations.yaml", "yaml", expected("images/")),
}
