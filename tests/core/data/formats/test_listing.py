"""Formats that come down to a list of images with names: each sample is detected, and read as it was written."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from scipy.io import savemat

from sadcl_core.data.formats.detect import detect
from sadcl_core.data.formats.source import Reading
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import all_images_are_there, draw_all, load, put, put_lines, rows
from tests.core.data.formats.samples_listing import ATLAS, LISTINGS, content, cvat_document, write_tar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", LISTINGS)
def test_it_is_read_as_it_was_written(folder: Path, name: str) -> None:
    sample = LISTINGS[name]
    path = sample.write(folder)
    assert detect(path).format == sample.format
    manifest = load(path)
    assert rows(manifest) == sample.rows
    assert all_images_are_there(manifest)
    if sample.classes:
        assert manifest.classes == sample.classes


@pytest.mark.parametrize("name", LISTINGS)
def test_nothing_else_in_the_folder_is_taken_for_labels(folder: Path, name: str) -> None:
    LISTINGS[name].write(folder)
    labels = detect(folder)
    assert labels.format == LISTINGS[name].format
    assert not [note for note in labels.notes if "also there" in note]


def replaced(folder: Path, name: str, old: str, new: str) -> Path:
    """Write a sample in whose label file one text stands instead of another; return the path to read."""
    sample = LISTINGS[name]
    path = sample.write(folder)
    file = folder / sample.file
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("fiftyone", '"b": [1]', '"b": [2]', r"labels.json .*label 2, but there are 2 classes, counted from 0"),
        ("fiftyone", '"b": [1]', '"b": [1.5]', r"labels.json .*1.5 is not a label"),
        ("datumaro", '"label_id": 1', '"label_id": 7', r"train.json .*item 'a' has label 7, but there are 2 classes"),
        ("cvat", "</annotations>", "<track/></annotations>", r"annotations.xml is CVAT's export of a video. Export the task as"),
        ("cvat", "</annotations>", "", r"annotations.xml cannot be read as XML"),
        ("cvat", "?>", '?><!DOCTYPE a [<!ENTITY b "c">]>', r"annotations.xml declares XML entities or a document type"),
        (
            "via",
            '"regions": []',
            '"regions": [{"region_attributes": {"kind": "cow"}}]',
            r"attributes content, kind, and each may",
        ),
        ("via", '"content"', '"caption"', r"has no attribute with labels"),
        ("via-csv", '{""type"": ""dog""}', "{type", r"row \d: region_attributes is not JSON. Export it again"),
        ("sagemaker", '"0": "cat"', '"5": "cat"', r"output.manifest cannot be read as a manifest of Ground Truth"),
        ("celeba", "-1 -1", "-1", r"image 3: c.jpg has not 2 attributes of 1 and -1. Fetch it again"),
        ("celeba", "-1 -1", "-1  0", r"image 3: c.jpg has not 2 attributes of 1 and -1. Fetch it again"),
        ("deepfashion", "-1 0", "-1 2", r"list_attr_img.txt: img/c.jpg has not 2 flags of 1, -1 and 0"),
        ("deepfashion-fine", "1 1\n", "", r"cannot be read as DeepFashion's attributes"),
        ("peta", "2 dog", "3 dog", r"Label.txt, row 2: no image of '3' lies beside it. Unpack all images"),
        ("ucmerced", "a\t1\t1", "a\t1", r"image 1: a has not 2 flags of 1 and 0. Mend the row"),
        ("ucmerced", "a\t1\t1", "a\t1\t2", r"image 1: a has not 2 flags of 1 and 0. Mend the row"),
        ("voc_lists", "a  1", "a  2", r"cat_trainval.txt, row 1: 'a  2' is not an image and 1, -1 or 0. Mend the row"),
        ("voc_lists", "b -1", "z -1", r"cow_trainval.txt and .*cat_trainval.txt name different images. Unpack all lists"),
        ("scenes", "b.jpg,0,1", "b.jpg,0,?", r"image 2: b.jpg has not 2 flags of 1 and 0. Mend the row"),
        ("hpa", "16 0", "16 28", r"train.csv, row 2: .* is not an image and numbers under 28. Mend the row"),
        ("yaml", "[cat, dog]", "[[cat]]", r"row 1: the labels are not a list of names"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, name: str, old: str, new: str, message: str) -> None:
    path = replaced(folder, name, old, new)
    with pytest.raises(DataError, match=message):
        load(path)


def test_one_of_several_fields_is_chosen(folder: Path) -> None:
    path = replaced(folder, "via", '"regions": []', '"regions": [{"region_attributes": {"kind": "cow"}}]')
    manifest = load(path, reading=Reading(label_column="kind"))
    assert manifest.classes == ("cow",)
    assert "via_project.json: attributes that were not read: content" in manifest.description.notes
    with pytest.raises(DataError, match=r"has no attribute 'colour', only content, kind. Check --label-column"):
        load(path, reading=Reading(label_column="colour"))


def test_predictions_of_fiftyone_are_not_labels(folder: Path) -> None:
    path = LISTINGS["fiftyone-dataset"].write(folder)
    assert "samples.json: other fields that were not read: predictions" in load(path).description.notes
    assert load(path, reading=Reading(label_column="predictions")).classes == ("cat",)


def test_boxes_of_the_tools_that_have_them(folder: Path) -> None:
    document = cvat_document(inner='<image id="9" name="e.jpg"><box label="dog" xtl="1" ytl="2" xbr="4" ybr="6"/></image>')
    cvat = load(put(folder / "annotations.xml", document))
    assert cvat.rows.to_pylist()[-1]["boxes"] == [{"label": 1, "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}]


def test_automatic_tags_of_a_task_without_a_list_of_labels_say_nothing_of_an_image(tmp_path: Path) -> None:
    draw_all(tmp_path, ["a.jpg", "b.jpg"])
    images = '<image name="a.jpg"><tag label="cat" source="auto"/></image><image name="b.jpg"><tag label="dog"/></image>'
    manifest = load(put(tmp_path / "annotations.xml", f"<annotations>{images}</annotations>"))
    assert [row[0] for row in rows(manifest)] == ["b.jpg"]


def test_jobs_of_one_class_and_of_boxes(folder: Path) -> None:
    rows_of_jobs = [
        {"source-ref": "s3://b/a.jpg", "job": 0, "job-metadata": {"class-name": "cat"}},
        {
            "source-ref": "s3://b/b.jpg",
            "cat": 0,
            "cat-metadata": {"class-name": "cat"},
            "dog": 1,
            "dog-metadata": {"class-name": "dog"},
        },
        {
            "source-ref": "s3://b/c.jpg",
            "job": {"annotations": [{"class_id": 1, "top": 1, "left": 1, "width": 2, "height": 2}]},
            "job-metadata": {"class-map": {"1": "dog"}},
        },
    ]
    manifest = load(put_lines(folder / "output.manifest", rows_of_jobs))
    assert [row[2] for row in rows(manifest)] == [["cat"], ["dog"], ["dog"]]


def test_parts_of_one_split_that_is_called_train_are_all_there_is(folder: Path) -> None:
    LISTINGS["webdataset"].write(folder)
    (folder / "test-000000.tar").unlink()
    assert load(folder).split_sizes == {"": 2}


@pytest.mark.parametrize(
    ("more", "message"), [(600, "cannot be read as a tar file .unexpected end of data"), (100, "after 'c.txt' is cut short")]
)
def test_a_damaged_shard_is_named(folder: Path, more: int, message: str) -> None:
    path = LISTINGS["webdataset"].write(folder) / "test-000000.tar"
    with tarfile.open(path) as shard:
        end = shard.getmember("d.jpg").offset + more
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DataError, match=rf"test-000000.tar, .*{message}.* Fetch it again"):
        load(folder)


def test_a_shard_cannot_write_outside_its_folder(folder: Path) -> None:
    write_tar(folder / "mine.tar", {"../../../a.jpg": content(folder, "a"), "../../../a.cls": b"3"})
    manifest = load(folder)
    assert rows(manifest) == [("mine/a.jpg", "", ["3"], [])]
    assert all_images_are_there(manifest)


def test_the_colours_of_an_image_are_put_together(folder: Path) -> None:
    manifest = load(LISTINGS["hpa"].write(folder))
    with Image.open(manifest.description.root / f"{ATLAS['a']}.png") as image:
        assert image.getpixel((0, 0)) == (ord("a"), 10 + ord("a"), 20 + ord("a"))
    (folder / "train" / f"{ATLAS['b']}_green.png").unlink()
    (manifest.description.root / f"{ATLAS['b']}.png").unlink()
    with pytest.raises(DataError, match=r"has no .*_green. Unpack the files of all colours or bands there"):
        load(folder)


def test_a_colour_in_more_scans_than_a_photograph_has_is_refused(folder: Path) -> None:
    LISTINGS["hpa"].write(folder)
    path = folder / "train" / f"{ATLAS['a']}_green.png"
    Image.new("L", (16, 16)).save(path, "JPEG", progressive=True)
    stored = path.read_bytes()
    path.write_bytes(stored[:-2] + 200 * stored[stored.rindex(b"\xff\xda") : -2] + stored[-2:])
    with pytest.raises(DataError, match=r"_green.png: broken image \(more scans than a photograph has\)"):
        load(folder)


def test_patches_that_are_not_on_the_disk_are_counted(folder: Path) -> None:
    notes = load(LISTINGS["bigearthnet"].write(folder)).description.notes
    assert "metadata.parquet: left out 1 listed patch, not on the disk" in notes


def test_images_of_the_atlas_that_are_not_on_the_disk_are_counted(folder: Path) -> None:
    LISTINGS["hpa"].write(folder)
    for path in (folder / "train").glob(f"{ATLAS['b']}_*"):
        path.unlink()
    manifest = load(folder)
    assert "train.csv: left out 1 listed image, not on the disk" in manifest.description.notes
    assert len(manifest) == 3


def test_0_is_unknown_in_deepfashion_wherever_the_file_has_a_minus_1(folder: Path) -> None:
    path = LISTINGS["deepfashion"].write(folder)
    labels = path / "Anno" / "list_attr_img.txt"
    labels.write_text(labels.read_text().replace("img/a.jpg  1 1", "img/a.jpg  1 0"))  # a row without any -1
    manifest = load(path)
    assert rows(manifest)[0][2:] == (["cat"], ["red dog"])
    assert manifest.description.interpretation is not None
    assert manifest.description.interpretation.files[0].values == {"1": "present", "-1": "absent", "0": "unknown"}
    assert str(path / "Eval" / "list_eval_partition.txt") in manifest.description.source["files"]


def test_celeba_in_the_folders_of_its_authors(folder: Path) -> None:
    draw_all(folder / "Img" / "img_align_celeba", ["000001.jpg", "000002.jpg"])
    put(folder / "Anno" / "list_attr_celeba.txt", "2\nBald Young\n000001.jpg  1 -1\n000002.jpg -1 -1\n")
    put(folder / "Eval" / "list_eval_partition.txt", "000001.jpg 0\n000002.jpg 2\n")
    place = "Img/img_align_celeba/"
    assert [row[:3] for row in rows(load(folder))] == [
        (f"{place}000001.jpg", "train", ["Bald"]),
        (f"{place}000002.jpg", "test", []),
    ]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
def test_compressed_shards(folder: Path, suffix: str) -> None:
    plain = write_tar(folder / "plain.tar", {"1.jpg": content(folder, "1"), "1.json": b'{"labels": ["cat"]}'})
    path = folder / f"labels{suffix}"
    packed = gzip.compress(plain.read_bytes())
    path.write_bytes(packed)
    plain.unlink()
    assert [row[2] for row in rows(load(folder))] == [["cat"]]
    path.write_bytes(packed[:-200])
    with pytest.raises(DataError, match="cannot be read as a tar file"):
        load(path)
    path.write_bytes(packed + gzip.compress(bytes(2**21)))
    with pytest.raises(DataError, match="it goes on after its end"):
        load(path)


def test_numbers_are_those_of_the_file_where_a_person_lists_the_classes_in_another_order(tmp_path: Path) -> None:
    draw_all(tmp_path, ["a.jpg"])
    path = put(tmp_path / "list_attr_celeba.txt", "1\nSmiling Hat\na.jpg -1 1\n")
    for names, active in ((("Hat", "Smiling"), "Hat"), (("Smile", "With a hat"), "With a hat")):
        manifest = load(path, reading=Reading(classes=names))
        assert (manifest.classes, rows(manifest)[0][2]) == (names, [active])
    with pytest.raises(DataError, match=r"'Hat' is not one of the 2 classes"):
        load(path, reading=Reading(classes=("Smiling", "Cap")))


def test_all_sources_of_peta_together(folder: Path) -> None:
    for name in ("3DPeS", "CUHK"):
        draw_all(folder / name / "archive", ["1.jpg", "2.jpg"])
        put(folder / name / "archive" / "Label.txt", "1.jpg hat\n2.jpg hat skirt\n")
    found = rows(load(folder))
    assert [row[0] for row in found] == [f"{name}/archive/{k}.jpg" for name in ("3DPeS", "CUHK") for k in (1, 2)]
    assert [row[2] for row in found] == [["hat"], ["hat", "skirt"]] * 2


def test_attributes_in_the_form_of_celeba_under_another_name(folder: Path) -> None:
    draw_all(folder / "CelebA-HQ-img", ["0.jpg", "1.jpg"])
    put(folder / "CelebAMask-HQ-attribute-anno.txt", "2\nBald Young\n0.jpg  1 -1\n1.jpg  -1 1\n")
    put(folder / "CelebAMask-HQ-pose-anno.txt", "2\nYaw Pitch Raw\n0.jpg 0.9 -1.0 2.1\n1.jpg 0.9 -1.0 2.1\n")
    assert [row[2:] for row in rows(load(folder))] == [(["Bald"], []), (["Young"], [])]


@pytest.mark.parametrize("name", ["annotation/annotation.mat", "annotation.mat"])
def test_matlab_files_of_others_are_passed_over(folder: Path, name: str) -> None:
    LISTINGS["pa100k"].write(folder)
    savemat(folder / "LandUse_Multilabeled.mat", {"labels": [[0, 1]]})
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    (folder / "annotation.mat").rename(path)
    assert rows(load(folder)) == LISTINGS["pa100k"].rows
    with pytest.raises(DataError, match=r"holds no labels in a known format \(MATLAB's variables labels\)"):
        load(folder / "LandUse_Multilabeled.mat")


def test_lists_of_classes_that_name_what_is_not_on_the_disk(folder: Path) -> None:
    LISTINGS["class_lists"].write(folder)
    labels = folder / "mirflickr25k_annotations_v080"
    put(labels / "sky.txt", "9\n10\n777\n")
    manifest = load(labels, data=folder / "mirflickr")
    assert rows(manifest)[0][2] == ["dog", "sky"]
    assert any("left out 1 listed image, not on the disk" in note for note in manifest.description.notes)
    for path in labels.glob("*.txt"):
        put(path, "777\n")
    with pytest.raises(DataError, match=r"None of the 1 images of .* lies below"):
        load(folder, expected="class_lists")


def test_tables_of_scenes_whose_images_lie_elsewhere(folder: Path) -> None:
    LISTINGS["scenes"].write(folder)
    (folder / "Images").rename(folder.parent / "elsewhere")
    assert [row[2] for row in rows(load(folder, data=folder.parent / "elsewhere"))] == [[], ["cat"], ["cat", "dog"], ["dog"]]


def test_labels_in_objects_of_lists(folder: Path) -> None:
    draw_all(folder, ["a.jpg"])
    path = put_lines(folder / "l.jsonl", [{"image": "a.jpg", "objects": {"category": ["cat"], "bbox": [[1, 2, 3, 4]]}}])
    assert [row[2] for row in rows(load(path))] == [["cat"]]


def test_difficult_images_of_voc_lists(folder: Path) -> None:
    path = LISTINGS["voc_lists"].write(folder)
    first = rows(load(path, reading=Reading(difficult="positive")))[0]
    assert first == ("VOC2007/JPEGImages/a.jpg", "train", ["cat", "cow", "dog"], [])
    assert rows(load(path, reading=Reading(difficult="negative")))[0] == (*first[:2], ["cat", "dog"], [])
