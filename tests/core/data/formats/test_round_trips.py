"""Random data sets in the layout of every program come back as they were written, or are refused."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from sadcl_core.errors import DataError
from tests.core.data.formats.samples import load, put, put_lines, rows, voc_xml
from tests.core.data.formats.samples_listing import cells, write_tar

FEW = settings(max_examples=4, deadline=None)
NAMES = [
    "cat",
    "dog",
    "traffic light",
    "a, b",
    "1girl",
    "Tür",
    "x",
    "No Finding",
    "is_dog",
    "a-b",
    "42",
    "7",
    "0",
    "true",
    "&c",
    '"q"',
]
PLAIN = ["cat", "dog", "traffic light", "hot dog", "1girl", "Tür", "x", "No Finding", "a-b", "42", "7", "true"]
WORDS = ["cat", "dog", "5_o_clock", "Bags", "Male", "x"]
UNASSIGNED = ("",)


@dataclass(frozen=True)
class Drawn:
    """A data set: for each image, its labels, those that are unknown, and its split."""

    classes: tuple[str, ...]
    active: dict[str, set[str]]
    unknown: dict[str, set[str]]
    splits: dict[str, str]

    def of(self, split: str) -> list[str]:
        return [image for image, own in self.splits.items() if own == split]

    def state(self, image: str, name: str) -> int | None:
        return None if name in self.unknown[image] else int(name in self.active[image])

    def numbers(self, image: str) -> list[int]:
        return [k for k, name in enumerate(self.classes) if name in self.active[image]]

    def named(self, image: str) -> list[str]:
        return [name for name in self.classes if name in self.active[image]]


@dataclass(frozen=True)
class Layout:
    """A way to write a data set.

    Attributes:
        write: into a folder; returns what a person names.
        names: that classes may have.
        splits: that it can hold.
        unknown: it can hold unknown labels.
        empty: it can hold an image without any label.
        question: that may be asked in place of reading it.
    """

    write: Callable[[Path, Drawn], Path]
    names: list[str]
    splits: tuple[str, ...] = UNASSIGNED
    unknown: bool = False
    empty: bool = True
    question: str = ""


ALL = ("train", "val", "test")


def coco(folder: Path, drawn: Drawn) -> Path:
    categories = [{"id": 3 + 2 * k, "name": name, "supercategory": "thing"} for k, name in enumerate(drawn.classes)]
    ids = {category["name"]: category["id"] for category in categories}
    for split in ALL:
        images = [
            {"id": k, "file_name": f"{image}.jpg", "unknown_category_ids": [ids[name] for name in sorted(drawn.unknown[image])]}
            for k, image in enumerate(drawn.of(split))
        ]
        pairs = [(k, ids[name]) for k, image in enumerate(drawn.of(split)) for name in drawn.named(image)]
        annotations = [{"id": n, "image_id": k, "category_id": c, "bbox": [0, 0, 2, 2]} for n, (k, c) in enumerate(pairs)]
        document = {"images": images, "annotations": annotations, "categories": categories[::-1]}
        if images:
            put(folder / split / "_annotations.coco.json", document)
    return folder


def voc(folder: Path, drawn: Drawn) -> Path:
    (folder / "JPEGImages").mkdir()
    for image in drawn.active:
        objects = [(name, 0) for name in drawn.named(image)] + [(name, 1) for name in sorted(drawn.unknown[image])]
        objects = [(name.replace("&", "&amp;"), difficult) for name, difficult in objects]
        put(folder / "Annotations" / f"{image}.xml", voc_xml(image, *objects))
    for split in ALL:
        put(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{image}\n" for image in drawn.of(split)))
    put(folder / "classes.txt", "\n".join(drawn.classes))
    return folder


def voc_lists(folder: Path, drawn: Drawn) -> Path:
    """Of VOC's own lists: 1, -1, and 0 for difficult."""
    (folder / "JPEGImages").mkdir()
    for name in drawn.classes:
        for split in ALL:
            lines = [f"{image} { ({1: ' 1', 0: '-1', None: ' 0'}[drawn.state(image, name)]) }\n" for image in drawn.of(split)]
            put(folder / "ImageSets" / "Main" / f"{name}_{split}.txt", "".join(lines))
    return folder


def yolo(folder: Path, drawn: Drawn) -> Path:
    for image, split in drawn.splits.items():
        path = folder / "images" / split / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)
        if drawn.active[image] or len(image) % 2:
            put(folder / "labels" / split / f"{image}.txt", "".join(f"{k} .5 .5 .25 .5\n" for k in drawn.numbers(image)))
    lines = [f"{split}: images/{split}" for split in ALL if drawn.of(split)]
    put(folder / "data.yaml", "\n".join([*lines, "names:", *(f"  {k}: {json.dumps(n)}" for k, n in enumerate(drawn.classes))]))
    return folder


def jsonl(folder: Path, drawn: Drawn) -> Path:
    lines = [
        {"image": f"{image}.jpg", "labels": drawn.named(image), "split": split, "unknown": sorted(drawn.unknown[image])}
        for image, split in drawn.splits.items()
    ]
    return put_lines(folder / "mine.jsonl", lines)


def jsonl_objects(folder: Path, drawn: Drawn) -> Path:
    lines = [
        {"file_name": f"{image}.jpg", "labels": {name: drawn.state(image, name) for name in drawn.classes}, "split": split}
        for image, split in drawn.splits.items()
    ]
    return put_lines(folder / "mine.jsonl", lines)


def jsonl_keys(folder: Path, drawn: Drawn) -> Path:
    """A key per class."""
    flags = {1: True, 0: False, None: None}
    lines = [{"image": f"{i}.jpg", **{n: flags[drawn.state(i, n)] for n in drawn.classes}} for i in drawn.active]
    return put_lines(folder / "mine.jsonl", lines)


def parquet_names(folder: Path, drawn: Drawn) -> Path:
    columns = {"image": [f"{image}.jpg" for image in drawn.active], "labels": [drawn.named(image) for image in drawn.active]}
    pq.write_table(pa.table({**columns, "split": list(drawn.splits.values())}), folder / "mine.parquet")
    return folder / "mine.parquet"


def features(drawn: Drawn) -> dict[str, str]:
    kind = {"feature": {"names": list(drawn.classes), "_type": "ClassLabel"}, "_type": "Sequence"}
    return {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, "labels": kind}}})}


def parquet_numbers(folder: Path, drawn: Drawn) -> Path:
    numbers = pa.array([drawn.numbers(image) for image in drawn.active], pa.list_(pa.int64()))
    table = pa.table({"file_name": [f"{image}.jpg" for image in drawn.active], "labels": numbers})
    pq.write_table(table.replace_schema_metadata(features(drawn)), folder / "metadata.parquet")
    return folder


def parquet_columns(folder: Path, drawn: Drawn) -> Path:
    columns: dict[str, Any] = {"image": [f"{image}.jpg" for image in drawn.active]}
    columns |= {name: [drawn.state(image, name) for image in drawn.active] for name in drawn.classes}
    pq.write_table(pa.table(columns), folder / "mine.parquet")
    return folder / "mine.parquet"


def huggingface(folder: Path, drawn: Drawn) -> Path:
    for split in ALL:
        own = drawn.of(split)
        images = [{"bytes": PICTURE, "path": f"{image}.png"} for image in own]
        numbers = pa.array([drawn.numbers(image) for image in own], pa.list_(pa.int64()))
        if own:
            table = pa.table({"image": images, "labels": numbers}).replace_schema_metadata(features(drawn))
            pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


def webdataset(kind: str) -> Callable[[Path, Drawn], Path]:
    def write(folder: Path, drawn: Drawn) -> Path:
        for split in ALL:
            files: dict[str, bytes] = {}
            for image in drawn.of(split):
                text = {
                    "json": json.dumps({"labels": drawn.named(image)}),
                    "cls": ",".join(map(str, drawn.numbers(image))),
                    "txt": ", ".join(drawn.named(image)),
                }[kind]
                files |= {f"{image}.png": PICTURE, f"{image}.{kind}": text.encode()}
            if files:
                write_tar(folder / f"{split}-000000.tar", files)
        if kind == "cls":
            put(folder / "classes.txt", "\n".join(drawn.classes))
        return folder

    return write


def pa100k(folder: Path, drawn: Drawn) -> Path:
    variables: dict[str, Any] = {"attributes": cells(drawn.classes)}
    for split in ALL:
        own = drawn.of(split)
        flags = [[drawn.state(image, name) for name in drawn.classes] for image in own]
        variables[f"{split}_images_name"] = cells(f"{image}.jpg" for image in own)
        variables[f"{split}_label"] = np.array(flags, np.uint8).reshape(len(own), len(drawn.classes))
    savemat(folder / "annotation.mat", variables)
    return folder


def celeba(folder: Path, drawn: Drawn) -> Path:
    lines = [
        f"{image}.jpg {' '.join(' 1' if name in drawn.active[image] else '-1' for name in drawn.classes)}"
        for image in drawn.active
    ]
    put(folder / "list_attr_celeba.txt", "\n".join([str(len(lines)), " ".join(drawn.classes), *lines]) + "\n")
    splits = (f"{image}.jpg {ALL.index(split)}\n" for image, split in drawn.splits.items())
    put(folder / "list_eval_partition.txt", "".join(splits))
    (folder / "img_align_celeba").mkdir()
    return folder


def cvat(folder: Path, drawn: Drawn) -> Path:
    images = "".join(
        f'<image id="{k}" name="{image}.jpg" subset="{drawn.splits[image]}">'
        + "".join(f"<tag label={quoteattr(name)} source='manual'/>" for name in drawn.named(image))
        + "</image>"
        for k, image in enumerate(drawn.active)
    )
    labels = "".join(f"<label><name>{name.replace('&', '&amp;')}</name></label>" for name in drawn.classes)
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    put(folder / "annotations.xml", f"<annotations><version>1.1</version>{meta}{images}</annotations>")
    return folder


def datumaro(folder: Path, drawn: Drawn) -> Path:
    categories = {"label": {"labels": [{"name": name, "parent": ""} for name in drawn.classes]}}
    for split in ALL:
        items = [
            {"id": i, "annotations": [{"type": "label", "label_id": k} for k in drawn.numbers(i)], "image": {"path": f"{i}.jpg"}}
            for i in drawn.of(split)
        ]
        if items:
            put(folder / "annotations" / f"{split}.json", {"info": {}, "categories": categories, "items": items})
    return folder


def fiftyone(folder: Path, drawn: Drawn) -> Path:
    put(folder / "labels.json", {"classes": list(drawn.classes), "labels": {i: drawn.numbers(i) for i in drawn.active}})
    (folder / "data").mkdir()
    return folder


def via(folder: Path, drawn: Drawn) -> Path:
    images = {
        f"{image}.jpg-1": {
            "filename": f"{image}.jpg",
            "size": -1,
            "regions": [],
            "file_attributes": {"content": dict.fromkeys(drawn.named(image), True)},
        }
        for image in drawn.active
    }
    return put(folder / "via_project.json", {"_via_settings": {}, "_via_img_metadata": images, "_via_attributes": {}})


def sagemaker(folder: Path, drawn: Drawn) -> Path:
    lines = [
        {
            "source-ref": f"s3://bucket/{image}.jpg",
            "job": drawn.numbers(image),
            "job-metadata": {"class-map": {str(k): drawn.classes[k] for k in drawn.numbers(image)}, "type": "groundtruth/x"},
        }
        for image in drawn.active
    ]
    return put_lines(folder / "output.manifest", lines)


def openmmlab(folder: Path, drawn: Drawn) -> Path:
    for split in ALL:
        data = [{"img_path": f"{image}.jpg", "gt_label": drawn.numbers(image)} for image in drawn.of(split)]
        if data:
            put(folder / f"{split}.json", {"metainfo": {"classes": list(drawn.classes)}, "data_list": data})
    return folder


def labelstudio(folder: Path, drawn: Drawn) -> Path:
    tasks = []
    for image in drawn.active:
        result = (
            [{"type": "choices", "from_name": "choice", "value": {"choices": drawn.named(image)}}] if drawn.named(image) else []
        )
        tasks.append(
            {"id": 1, "annotations": [{"id": 1, "result": result}], "data": {"image": f"/data/upload/1/0a1b2c3d-{image}.jpg"}}
        )
    return put(folder / "project.json", tasks)


def labelstudio_csv(folder: Path, drawn: Drawn) -> Path:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "id", "choice", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"])
    for k, image in enumerate(drawn.active):
        names = drawn.named(image)
        choice = json.dumps({"choices": names}) if len(names) > 1 else "".join(names)
        writer.writerow(
            [f"/data/upload/1/0a1b2c3d-{image}.jpg", k, choice, 1, k, "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z", 1.5]
        )
    return put(folder / "project.csv", out.getvalue())


def captions(folder: Path, drawn: Drawn) -> Path:
    for image, split in drawn.splits.items():
        (folder / split).mkdir(exist_ok=True)
        (folder / split / f"{image}.png").write_bytes(PICTURE)
        put(folder / split / f"{image}.txt", ", ".join(drawn.named(image)))
    return folder


def scenes(folder: Path, drawn: Drawn) -> Path:
    for number, scene in enumerate(("airport", "beach")):
        own = list(drawn.active)[number::2]
        order = drawn.classes if number else drawn.classes[::-1]
        lines = [",".join([f"{image}.jpg", *(str(int(name in drawn.active[image])) for name in order)]) for image in own]
        put(folder / "Labels" / f"{scene}.csv", "\n".join([",".join(["image", *order]), *lines]) + "\n")
        (folder / "Images" / scene).mkdir(parents=True)
        for image in own:
            (folder / "Images" / scene / f"{image}.jpg").write_bytes(b"")
    return folder


def ucmerced(folder: Path, drawn: Drawn) -> Path:
    lines = ["\t".join([i, *(str(int(name in drawn.active[i])) for name in drawn.classes)]) for i in drawn.active]
    put(folder / "multilabels.txt", "\n".join(["\t".join(["IMAGE\\LABEL", *drawn.classes]), *lines]) + "\n")
    (folder / "Images" / "farm").mkdir(parents=True)
    for image in drawn.active:
        (folder / "Images" / "farm" / f"{image}.tif").write_bytes(b"")
    return folder


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return out.getvalue()


PICTURE = picture()
LAYOUTS = {
    "coco": Layout(coco, NAMES, ALL, unknown=True),
    "voc": Layout(voc, PLAIN, ALL, unknown=True),
    "voc_lists": Layout(voc_lists, WORDS, ALL, unknown=True),
    "yolo": Layout(yolo, NAMES, ALL),
    "jsonl": Layout(jsonl, NAMES, ALL, unknown=True),
    "jsonl objects": Layout(jsonl_objects, NAMES, ALL, unknown=True),
    "jsonl keys": Layout(jsonl_keys, WORDS, unknown=True),
    "parquet names": Layout(parquet_names, NAMES, ALL),
    "parquet numbers": Layout(parquet_numbers, NAMES),
    "parquet columns": Layout(parquet_columns, NAMES, unknown=True),
    "huggingface": Layout(huggingface, NAMES, ALL),
    "webdataset json": Layout(webdataset("json"), NAMES, ALL),
    "webdataset cls": Layout(webdataset("cls"), PLAIN, ALL, question="or the numbers of two classes"),
    "webdataset txt": Layout(webdataset("txt"), WORDS, ALL),
    "pa100k": Layout(pa100k, NAMES, ALL),
    "celeba": Layout(celeba, WORDS, ALL),
    "cvat": Layout(cvat, NAMES, ALL),
    "datumaro": Layout(datumaro, NAMES, ALL),
    "fiftyone": Layout(fiftyone, NAMES),
    "via": Layout(via, NAMES),
    "sagemaker": Layout(sagemaker, NAMES),
    "openmmlab": Layout(openmmlab, NAMES, ALL),
    "labelstudio": Layout(labelstudio, NAMES),
    "labelstudio csv": Layout(labelstudio_csv, PLAIN, empty=False),
    "captions": Layout(captions, WORDS, ALL),
    "scenes": Layout(scenes, WORDS),
    "ucmerced": Layout(ucmerced, PLAIN),
}


@st.composite
def drawn_sets(draw: st.DrawFn, layout: Layout) -> Drawn:
    """Labels of some images; every class has an image of its own, and there is one without any label."""
    classes = tuple(sorted(draw(st.lists(st.sampled_from(layout.names), min_size=2, max_size=5, unique=True))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share, count = draw(st.sampled_from([0.1, 0.4, 0.8])), draw(st.integers(1, 12))
    sets = [{name for name in classes if rng.random() < share} for _ in range(count)] + [{name} for name in classes] + [set()]
    sets = sets if layout.empty else [labels or {classes[0]} for labels in sets]
    active = {f"p{k:03d}{'' if k % 2 else 'x'}": labels for k, labels in enumerate(sets)}
    hidden = draw(st.booleans()) and layout.unknown
    unknown = {
        image: {name for name in classes if hidden and name not in labels and rng.random() < 0.2}
        for image, labels in active.items()
    }
    splits = {image: layout.splits[k % len(layout.splits)] for k, image in enumerate(active)}
    return Drawn(classes, active, unknown, splits)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "pa100k"])
@FEW
@given(data=st.data())
def test_what_was_written_is_read(name: str, data: st.DataObject) -> None:
    check(LAYOUTS[name], data.draw(drawn_sets(LAYOUTS[name])))


@settings(max_examples=1, deadline=None)  # each is parsed in a process of its own
@given(drawn_sets(LAYOUTS["pa100k"]))
def test_what_was_written_is_read_from_matlab(drawn: Drawn) -> None:
    check(LAYOUTS["pa100k"], drawn)


def check(layout: Layout, drawn: Drawn) -> None:
    """Write and read a data set; all is as it was drawn."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "mine")
        folder.mkdir()
        try:
            manifest = load(layout.write(folder, drawn))
        except DataError as error:
            assert layout.question, error  # noqa: PT017 - either is right
            assert layout.question in str(error)  # noqa: PT017
            return
    key = {image: next(own for own in drawn.active if own in image) for image in manifest.rows["image"].to_pylist()}
    read = {key[image]: (split, set(labels), set(unknown)) for image, split, labels, unknown in rows(manifest)}
    assert read == {i: (drawn.splits[i], drawn.active[i], drawn.unknown[i]) for i in drawn.active}
    assert set(manifest.classes) == set(drawn.classes)
