"""Exports of labelling tools, as their users have them: several jobs, tags that are not meant, other folders than the usual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sadcl_core.data.formats.detect import detect
from sadcl_core.data.formats.source import Reading
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import draw_all, load, put, put_lines, rows, studio_task
from tests.core.data.formats.samples_listing import cvat_document, xml


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    draw_all(folder, [f"{name}.jpg" for name in "abcd"])
    return folder


def active(path: Path, **options: Any) -> list[list[str]]:
    return [row[2] for row in rows(load(path, reading=Reading(**options)))]


# ---- CVAT, Datumaro


@pytest.mark.parametrize("names", [("job_1/annotations.xml", "job_2/annotations.xml"), ("job_1.xml", "job_2.xml")])
def test_jobs_of_a_task_are_read_together(folder: Path, names: tuple[str, str]) -> None:
    for name, images in zip(names, ("ab", "cd"), strict=True):
        put(folder / name, cvat_document(images))
    assert active(folder) == [["cat", "dog"], ["dog"], [], ["cat"]]


def test_two_exports_of_the_same_images_are_refused(folder: Path) -> None:
    put(folder / "old.xml", cvat_document("ab"))
    put(folder / "new.xml", cvat_document("bc"))
    with pytest.raises(DataError, match=r"b.jpg is listed twice, in two files or spellings"):
        load(folder)


def test_parts_of_a_skeleton_are_no_classes_and_the_subset_of_all_is_no_split(folder: Path) -> None:
    document = cvat_document("abcd").replace("<image ", '<image subset="default" ')
    nose = "<label><name>nose</name><parent>person</parent></label></labels>"
    manifest = load(put(folder / "annotations.xml", document.replace("</labels>", nose)))
    assert (manifest.classes, manifest.split_sizes) == (("cat", "dog"), {"": 4})


def test_attributes_that_are_not_read_are_named(folder: Path) -> None:
    tag = '<image name="e.jpg"><tag label="cat"><attribute name="rain">true</attribute></tag></image>'
    notes = load(put(folder / "annotations.xml", cvat_document("ab", tag))).description.notes
    assert "annotations.xml: attributes that were not read: rain" in notes


# ---- Label Studio


def choices(image: str, **tags: list[str]) -> dict[str, Any]:
    """A task in which each tag has some choices, with no tag named in `studio_task`'s way."""
    task = studio_task(image, [])
    task["annotations"][0]["result"] = [
        {"type": "choices", "from_name": name, "value": {"choices": labels}} for name, labels in tags.items()
    ]
    return task


def test_tags_of_which_each_may_hold_the_labels_are_a_question(folder: Path) -> None:
    tasks = [choices("a.jpg", animals=["cat", "dog"], quality=["sharp"]), choices("b.jpg", animals=["dog"], quality=["blurry"])]
    path = put(folder / "mine.json", tasks)
    with pytest.raises(DataError, match=r"the tags animals, quality may each hold the labels. Say which: --label-column NAME"):
        load(path)
    assert active(path, label_column="animals") == [["cat", "dog"], ["dog"]]
    assert active(path, label_column="quality") == [["sharp"], ["blurry"]]


def test_a_minimal_export_of_single_choices(folder: Path) -> None:
    tasks = [
        {
            "image": f"{name}.jpg",
            "id": k,
            "animal": "cat" if name in "ab" else "dog",
            "annotator": 1,
            "annotation_id": k,
            "lead_time": 1,
        }
        for k, name in enumerate("abcd", start=1)
    ]
    assert active(put(folder / "mine.json", tasks)) == [["cat"], ["cat"], ["dog"], ["dog"]]
    with pytest.raises(DataError, match=r"the tags animal, quality may each hold the labels"):
        load(put(folder / "mine.json", [{**task, "quality": "sharp"} for task in tasks]))


def test_steps_of_a_taxonomy_are_labels_under_their_paths(folder: Path) -> None:
    paths = [["Animal", "Cat"], ["Fruit", "Orange"]]
    full = studio_task("a.jpg", [])
    full["annotations"][0]["result"] = [{"type": "taxonomy", "from_name": "kind", "value": {"taxonomy": paths}}]
    expected = [["Animal", "Animal/Cat", "Fruit", "Fruit/Orange"]]
    assert active(put(folder / "full.json", [full])) == expected
    assert active(put(folder / "small.json", [{"image": "a.jpg", "annotator": 1, "annotation_id": 1, "kind": paths}])) == expected


@pytest.mark.parametrize(("suffix", "between"), [("tsv", "\t"), ("csv", ";")])
def test_other_tables_of_label_studio_in_which_a_blank_is_no_label(folder: Path, suffix: str, between: str) -> None:
    cells = [
        ["annotation_id", "annotator", "choice", "image"],
        ["1", "1", '"{""choices"": [""cat"", ""dog""]}"', "/data/upload/1/0a1b2c3d-a.jpg"],
        ["2", "1", "dog", "/data/upload/1/0a1b2c3d-b.jpg"],
        ["3", "1", "", "/data/upload/1/0a1b2c3d-c.jpg"],
    ]
    path = put(folder / f"mine.{suffix}", "\ufeff" + "".join(f"{between.join(row)}\r\n" for row in cells))
    assert active(path) == [["cat", "dog"], ["dog"], []]


# ---- FiftyOne


def samples(folder: Path, *fields: dict[str, Any], tags: tuple[str, ...] = ()) -> Path:
    images = [{"filepath": f"{name}.jpg", "tags": [*tags], **own} for name, own in zip("abcd", fields, strict=False)]
    return put(folder / "samples.json", {"samples": images})


def classifications(*labels: str, confidence: float | None = None) -> dict[str, Any]:
    more = {} if confidence is None else {"confidence": confidence}
    return {"_cls": "Classifications", "classifications": [{"label": label, **more} for label in labels]}


def test_labels_verified_absent_beside_those_that_are_there(folder: Path) -> None:
    first = {"positive_labels": classifications("cat", confidence=1), "negative_labels": classifications("dog", confidence=0)}
    second = {"positive_labels": classifications("car", "dog", confidence=1), "negative_labels": classifications()}
    manifest = load(samples(folder, first, second))
    assert [row[2:] for row in rows(manifest)] == [(["cat"], ["car"]), (["car", "dog"], ["cat"])]
    assert "samples.json: labels from positive_labels, and negative_labels are absent" in manifest.description.notes


def test_lists_of_texts_and_tags_of_samples(folder: Path) -> None:
    assert active(samples(folder, {"kinds": ["cat"]}, {"kinds": ["cat", "dog"]})) == [["cat"], ["cat", "dog"]]
    path = samples(folder, {}, {}, tags=("cat",))
    with pytest.raises(DataError, match=r"no field with labels of people, only tags: .* Say --label-column tags if that holds"):
        load(path)
    assert active(path, label_column="tags") == [["cat"], ["cat"]]


# ---- VIA


def via(folder: Path, *attributes: dict[str, Any]) -> Path:
    images = {
        name: {"filename": f"{name}.jpg", "regions": [], "file_attributes": own}
        for name, own in zip("abcd", attributes, strict=False)
    }
    return put(folder / "via.json", {"_via_img_metadata": images})


def test_an_attribute_per_class(folder: Path) -> None:
    path = via(folder, {"cat": "yes", "dog": "no"}, {"cat": "no", "dog": "no"}, {"cat": "yes", "dog": "yes"})
    assert active(path) == [["cat"], [], ["cat", "dog"]]


def test_several_labels_in_a_text(folder: Path) -> None:
    path = via(folder, {"tags": "cat, dog"}, {"tags": "dog"}, {"tags": "cat"})
    assert active(path) == [["cat", "dog"], ["dog"], ["cat"]]
    assert active(path, delimiter="none") == [["cat, dog"], ["dog"], ["cat"]]


def test_a_project_of_version_3(folder: Path) -> None:
    document = {
        "attribute": {"1": {"aname": "content", "options": {"0": "cat", "1": "dog"}}},
        "file": {str(k): {"fid": str(k), "fname": f"{name}.jpg"} for k, name in enumerate("abc")},
        "view": {str(k): {"fid_list": [str(k)]} for k in range(3)},
        "metadata": {"0_x": {"vid": "0", "av": {"1": "0,1"}}, "1_y": {"vid": "1", "av": {"1": "1"}}},
    }
    assert active(put(folder / "via3.json", document)) == [["cat", "dog"], ["dog"], []]
    with pytest.raises(DataError, match=r"is the CSV of VIA 3, .* Save the project as JSON"):
        load(
            put(folder / "via3.csv", "# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)\n1,2\n")
        )


# ---- SageMaker


def job(kind: str, value: Any, **about: Any) -> dict[str, Any]:
    return {"job": value, "job-metadata": {"type": f"groundtruth/{kind}", **about}}


def test_jobs_that_say_nothing_of_an_image_are_named(folder: Path) -> None:
    labels = job("image-classification-multilabel", [0], **{"class-map": {"0": "cat"}})
    audit = {"audit": "1", "audit-metadata": {"type": "groundtruth/label-verification", "class-name": "good"}}
    manifest = load(
        put_lines(folder / "job" / "output" / "output.manifest", [{"source-ref": "s3://b/a.jpg", **labels, **audit}]).parents[2]
    )
    assert [row[2] for row in rows(manifest)] == [["cat"]]
    assert "output.manifest: jobs that were not read: audit (label-verification)" in manifest.description.notes
    masks = put_lines(folder / "masks.manifest", [{"source-ref": "s3://b/a.jpg", **job("semantic-segmentation", "s3://b/m.png")}])
    with pytest.raises(DataError, match=r"has no labels of images or boxes, only job \(semantic-segmentation\)"):
        load(masks)


# ---- a file for each image


def test_an_annotation_belongs_to_the_nearest_image_of_its_name(tmp_path: Path) -> None:
    for part in ("x", "y"):
        draw_all(tmp_path / "images" / part, ["a.jpg"])
        put(tmp_path / "Annotations" / part / "a.xml", xml("of another time", [f"cat of {part}"]))
    put(tmp_path / "Annotations" / "y" / "z.xml", xml("z", ["dog"]))
    manifest = load(tmp_path)
    assert [row[:3] for row in rows(manifest)] == [
        ("images/x/a.jpg", "", ["cat of x"]),
        ("images/y/a.jpg", "", ["cat of y"]),
    ]
    assert any(
        "1 .xml file without an image of the same name, such as Annotations/y/z.xml" in n for n in manifest.description.notes
    )


def test_an_annotation_of_two_images_and_an_image_of_two_annotations_are_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, ["x/a.jpg", "y/a.jpg"])
    put(tmp_path / "z" / "a.xml", xml("a", ["cat"]))
    with pytest.raises(DataError, match=r"z/a.xml may be about x/a.jpg or y/a.jpg"):
        load(tmp_path)
    (tmp_path / "y" / "a.jpg").unlink()
    put(tmp_path / "w" / "a.xml", xml("a", ["cat"]))
    with pytest.raises(DataError, match=r"w/a.xml and z/a.xml are both about x/a.jpg. Remove one of them"):
        load(tmp_path)


@pytest.mark.parametrize("lists", [{"default": "abcd"}, {"Train": "ab", "Validation": "cd"}])
def test_image_sets_as_cvat_calls_them(tmp_path: Path, lists: dict[str, str]) -> None:
    draw_all(tmp_path / "JPEGImages", [f"{name}.jpg" for name in "abcd"])
    for name in "abcd":
        put(tmp_path / "Annotations" / f"{name}.xml", xml(name, ["cat"]))
    for split, names in lists.items():
        put(tmp_path / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))
    assert load(tmp_path).split_sizes == ({"": 4} if "default" in lists else {"train": 2, "val": 2})


def test_annotations_in_one_place_and_images_in_another(tmp_path: Path) -> None:
    draw_all(tmp_path / "photos", ["train/a.jpg"])
    put(tmp_path / "xml" / "train" / "a.xml", xml("a", ["cat"]))
    assert rows(load(tmp_path / "xml", data=tmp_path / "photos")) == [("train/a.jpg", "train", ["cat"], [])]
    with pytest.raises(DataError, match=r"Name the folder of both, or the images with --data"):
        load(tmp_path / "xml")


def test_a_damaged_annotation_is_no_image_without_labels(tmp_path: Path) -> None:
    draw_all(tmp_path, ["a.jpg", "b.jpg"])
    put(tmp_path / "b.json", {"shapes": [{"label": "cat"}], "imagePath": "b.jpg"})
    put(tmp_path / "a.json", '{"shapes": [{"label"')
    with pytest.raises(DataError, match=r"a.json cannot be read as JSON"):
        load(tmp_path)
    put(tmp_path / "a.json", {"width": 8})
    assert any("1 image without a .json file" in note for note in load(tmp_path).description.notes)


# ---- tables of Google's AutoML


def test_the_sides_of_boxes_are_no_labels(folder: Path) -> None:
    rows_of_boxes = [
        "TRAIN,gs://b/a.jpg,cat,0.1,0.2,,,0.5,0.6,,",
        "TRAIN,gs://b/a.jpg,dog,0.1,0.2,,,0.5,0.6,,",
        "TEST,gs://b/b.jpg,dog,0,0,,,1,1,,",
    ]
    path = put(folder / "boxes.csv", "\n".join(rows_of_boxes) + "\n")
    assert active(path, long=True) == [["cat", "dog"], ["dog"]]
    path = put(folder / "retinanet.csv", "a.jpg,837,346,981,456,cow\nb.jpg,10,20,30,40,bird\n")
    assert active(path) == [["cow"], ["bird"]]


def test_images_without_a_split(folder: Path) -> None:
    assert load(put(folder / "all.csv", "UNASSIGNED,gs://b/a.jpg,cat\nUNASSIGNED,gs://b/b.jpg,dog\n")).split_sizes == {"": 2}


# ---- what is not read, by name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions_train2017.json", {"images": [], "annotations": [{"caption": "a cat"}]}, r"holds captions and no categories"),
        ("export.ndjson", '{"data_row": {}, "projects": {}}', r"is Labelbox's export, which is not read"),
        ("a.xml", "<annotation><object/></annotation>", r"is the annotation of one image. Name the folder of all"),
        ("data.zip", "PK", r"is an archive. Unpack it, and name the folder"),
        ("data-00000-of-00001.arrow", "x", r"Write it as Parquet"),
        ("train.tfrecord", "x", r"is TensorFlow's, which is not read"),
        (
            "train.parquet",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            r"is a pointer of Git LFS. Fetch the file",
        ),
    ],
)
def test_what_is_not_read_is_called_what_it_is(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = put(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        detect(path)
    if path.suffix != ".xml":
        with pytest.raises(DataError, match=message):
            detect(tmp_path)


def test_a_folder_per_class_is_called_what_it_is(tmp_path: Path) -> None:
    draw_all(tmp_path, ["cat/a.jpg", "dog/b.jpg"])
    with pytest.raises(
        DataError, match=r"holds images in cat/, dog/, and no labels .* A folder per class would give every image one"
    ):
        detect(tmp_path)
