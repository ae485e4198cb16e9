"""Files that are damaged, meant for something else, or made to do harm: one clear sentence each, at once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sadcl_core.data.formats.source import Reading
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError, SadclError
from tests.core.data.formats.samples import (
    FORMAT,
    SAMPLES,
    all_images_are_there,
    coco_document,
    draw,
    draw_all,
    load,
    put,
    put_lines,
    rows,
    voc_xml,
    write_captions,
    write_csv,
    write_voc_own,
    write_yolo,
    write_yolo_flat,
)

TABLE = "image,labels\na.jpg,Bär;Hund\nb.jpg,Hund\n"
JSONS = ("coco-single", "openmmlab", "labelstudio", "labelstudio-minimal", "vg500")


@contextmanager
def refused(match: str, *, within: float = 5.0) -> Iterator[None]:
    """A DataError of two sentences that matches, after little work."""
    started = time.process_time()
    with pytest.raises(DataError, match=match) as caught:
        yield
    message = str(caught.value)
    assert time.process_time() - started < within
    assert message.endswith((".", "?"))
    assert "\n" not in message
    assert len(message) < 1000


def label_file(name: str, folder: Path) -> Path:
    """The file of a sample that holds its labels."""
    path = SAMPLES[name](folder)
    return folder / "vg_category_500_labels_index.json" if name == "vg500" else path


def named(name: str, folder: Path, path: Path) -> Path:
    return folder if name == "vg500" else path


# ---- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_with_the_mark_of_its_encoding(tmp_path: Path, encoding: str) -> None:
    table = put(tmp_path / "mine.csv", TABLE.encode(encoding))
    lines = put(tmp_path / "mine.jsonl", '{"image": "a.jpg", "labels": ["Bär", "Hund"]}\n'.encode(encoding))
    assert load(table).classes == load(lines).classes == ("Bär", "Hund")


@pytest.mark.parametrize("name", ["mine.csv", "mine.jsonl", "mine.json", "mine.txt"])
@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16-le", "(NUL bytes, so it is UTF-16 or not text|is not UTF-8 text).* Save it as UTF-8"),
        ("utf-16-be", "(NUL bytes, so it is UTF-16 or not text|is not UTF-8 text).* Save it as UTF-8"),
        ("latin-1", r"is not UTF-8 text \(byte 0xe4\). Save it as UTF-8"),
    ],
)
def test_text_in_another_encoding_without_a_mark(tmp_path: Path, name: str, encoding: str, message: str) -> None:
    text = '{"image": "a.jpg", "labels": ["Bär"]}\n' if "json" in name else TABLE
    with refused(message):
        load(put(tmp_path / name, text.encode(encoding)))


@pytest.mark.parametrize("name", ["coco-single", "openmmlab", "labelstudio"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_with_the_mark_of_its_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    path = SAMPLES[name](tmp_path)
    expected = rows(load(path))
    path.write_text(path.read_text(), encoding=encoding)
    assert rows(load(path)) == expected


def test_an_odd_number_of_bytes_of_utf_16(tmp_path: Path) -> None:
    with refused(r"is not UTF-16 text"):
        load(put(tmp_path / "mine.csv", TABLE.encode("utf-16")[:-1]))


@pytest.mark.parametrize("content", [b"image,labels\na.jpg,c\0at\n", b"\0" * 100, b"a.jpg,cat\n\0"])
def test_nul_bytes(tmp_path: Path, content: bytes) -> None:
    with refused("row .* holds NUL bytes"):
        load(put(tmp_path / "mine.csv", content))


# ---- too little


@pytest.mark.parametrize("name", ["mine.csv", "mine.tsv", "mine.txt", "mine.json", "mine.jsonl"])
@pytest.mark.parametrize("expected", [False, True])
def test_an_empty_file(tmp_path: Path, name: str, expected: bool) -> None:
    wanted = {"json": "coco", "jsonl": "jsonl"}.get(name.split(".")[1], "csv")
    with refused(r"mine\.\w+ (is empty|has no row)"):
        load(put(tmp_path / name, ""), expected=wanted if expected else "")


def test_a_file_of_only_a_header(tmp_path: Path) -> None:
    with refused("has a header and no row. Give a table"):
        load(put(tmp_path / "mine.csv", "image,labels\n"))


@pytest.mark.parametrize("name", JSONS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_json(tmp_path: Path, name: str, share: float) -> None:
    path = label_file(name, tmp_path)
    text = path.read_text()
    path.write_text(text[: int(len(text) * share)])
    with refused(r"\.json cannot be read as JSON \(JSONDecodeError: .*\). Mend or replace it"):
        load(named(name, tmp_path, path))


def test_a_truncated_line(tmp_path: Path) -> None:
    with refused(r"mine.jsonl, row 2 is not JSON \(.*\). Mend the line"):
        load(put(tmp_path / "mine.jsonl", '{"image": "a.jpg", "labels": ["cat"]}\n{"image": "b.jp'))
    with refused(r"mine.jsonl cannot be read as JSON lines: row 1 \("):
        load(put(tmp_path / "mine.jsonl", '{"image": "b.jp'))


@pytest.mark.parametrize("name", ["coco-roboflow", "roboflow-csv", "imagefolder-jsonl"])
def test_a_damaged_file_of_one_split_is_not_passed_over(tmp_path: Path, name: str) -> None:
    SAMPLES[name](tmp_path)
    path = next((tmp_path / "test").glob("*[vnl]"))
    for content in (b"", path.read_bytes()[:40] + b"\xff"):
        path.write_bytes(content)
        with refused(f"test/{path.name} (is empty|is not UTF-8 text)"):
            load(tmp_path)


def test_damage_is_told_of_the_folder_as_well(tmp_path: Path) -> None:
    put(tmp_path / "mine.json", '{"images": [{"id": 1')
    with refused(r"mine.json cannot be read as JSON"):
        load(tmp_path)


# ---- places


@pytest.mark.parametrize("reference", ["../../etc/passwd", "a/../../b.jpg", "..", "/etc/passwd", "C:\\photos\\a.jpg"])
def test_paths_that_lead_out_of_the_folder(tmp_path: Path, reference: str) -> None:
    entry = {"image": reference, "labels": ["cat"]}
    with refused(r"mine.jsonl, row 1: .*--data DIR"):
        load(put_lines(tmp_path / "mine.jsonl", [entry]))
    with refused(r"mine.csv, row 2: .*--data DIR"):
        load(put(tmp_path / "mine.csv", f"image,labels\n{reference},cat\n"))
    document = coco_document(["a.jpg", reference])
    with refused(r"--data DIR"):
        load(put(tmp_path / "coco" / "mine.json", document))


def test_paths_that_lead_out_of_nuswide_and_voc(tmp_path: Path) -> None:
    nuswide = SAMPLES["nuswide"](tmp_path / "nuswide")
    put(tmp_path / "secret.jpg", "")
    put(nuswide / "ImageList" / "TrainImagelist.txt", "..\\..\\secret.jpg\nzoo\\0002_1.jpg\nx\n")
    with refused("lies outside"):
        load(nuswide)
    voc = SAMPLES["voc-own-splits"](tmp_path / "voc")
    put(voc / "ImageSets" / "Main" / "train.txt", "../../secret\n")
    with refused(r"train.txt, row 1: '../../secret' is not an image name. Mend the row"):
        load(voc)


def test_absolute_paths_inside_the_folder(tmp_path: Path) -> None:
    image = draw(tmp_path / "photos" / "a.jpg")
    assert rows(load(put(tmp_path / "mine.csv", f"image,labels\n{image},cat\n"))) == [("photos/a.jpg", "", ["cat"], [])]


def test_a_linked_folder_of_images_and_a_loop_of_links(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_captions(tmp_path / "elsewhere")
    folder.mkdir()
    (folder / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    assert [row[0] for row in rows(load(folder)) if row[2]] == ["train/a.jpg", "train/b.jpg"]


def test_a_linked_folder_beside_a_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "mine")
    (tmp_path / "mine" / "photos").rename(tmp_path / "elsewhere")
    (tmp_path / "mine" / "photos").symlink_to(tmp_path / "elsewhere")
    assert all_images_are_there(load(tmp_path / "mine"))


def test_a_folder_where_a_file_is_expected(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").mkdir()
    with refused(r"mine.csv holds no labels in a known format"):
        load(tmp_path / "mine.csv")
    write_yolo(tmp_path / "yolo")
    (tmp_path / "yolo" / "labels" / "train" / "a.txt").unlink()
    (tmp_path / "yolo" / "labels" / "train" / "a.txt").mkdir()
    assert rows(load(tmp_path / "yolo"))[0][2] == []
    write_voc_own(tmp_path / "voc")
    (tmp_path / "voc" / "Annotations" / "000001.xml").mkdir()
    with refused(r"000001.xml cannot be read"):
        load(tmp_path / "voc")


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["csv", "jsonl", "coco-single", "labelstudio"])
def test_a_file_that_may_not_be_read(tmp_path: Path, name: str) -> None:
    path = SAMPLES[name](tmp_path)
    path.chmod(0)
    with refused("cannot be read .*Permission denied.* Check the path and its permissions"):
        load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SadclError, match=r"nowhere\.csv does not exist"):
        load(tmp_path / "nowhere.csv")


# ---- rows that are there twice


@pytest.mark.parametrize("second", ["a.jpg,dog;cat", "./a.jpg,cat;dog"])
def test_rows_that_agree_count_once(tmp_path: Path, second: str) -> None:
    manifest = load(put(tmp_path / "mine.csv", f"image,labels\na.jpg,cat;dog\nb.jpg,cat\n{second}\n"))
    assert [row[0] for row in rows(manifest)] == ["a.jpg", "b.jpg"]
    assert manifest.description.notes[-1] == "1 row listed twice with the same labels, counted once"


def test_rows_that_disagree_are_both_named(tmp_path: Path) -> None:
    with refused(r"mine.csv, row 4: a.jpg was listed in row 2 with other labels. Remove one of the rows, or"):
        load(put(tmp_path / "mine.csv", "image,labels\na.jpg,cat;dog\nb.jpg,cat\na.jpg,cat\n"))
    with refused(r"mine.jsonl, row 2: a.jpg was listed in row 1 with other labels"):
        load(put_lines(tmp_path / "mine.jsonl", [{"image": "a.jpg", "labels": {"cat": flag}} for flag in (0, None)]))


# ---- numbers


@pytest.mark.parametrize("number", ["2", "-1", "99999999999999999999", "1.5"])
def test_numbers_of_classes_that_are_out_of_range(tmp_path: Path, number: str) -> None:
    reading = Reading(classes=("cat", "dog"))
    with refused(r"mine.csv, row 2: .*(2 classes|-1 is not a label)"):
        load(put(tmp_path / "mine.csv", f"image,labels\na.jpg,{number}\n"), reading=reading)
    with refused(r"mine.jsonl, row 1: .*(2 classes|not a list of names)"):
        load(put(tmp_path / "mine.jsonl", f'{{"image": "a.jpg", "labels": [{number}]}}\n'), reading=reading)


@pytest.mark.parametrize("value", ["9" * 5000, "NaN", "Infinity", "1e999", "-" + "9" * 400])
def test_numbers_in_json_that_are_too_large_or_none(tmp_path: Path, value: str) -> None:
    for name in ("coco-single", "openmmlab", "vg500"):
        path = label_file(name, tmp_path / name)
        text = path.read_text().replace('"bbox": [1.0', f'"bbox": [{value}').replace('"gt_label": [0', f'"gt_label": [{value}')
        path.write_text(text.replace("[12", f"[{value}"))
        with refused("json|txt"):
            load(named(name, tmp_path / name, path))
    line = put(
        tmp_path / "mine.jsonl", f'{{"image": "a.jpg", "labels": ["cat"]}}\n{{"image": {value}, "labels": [{value}, "cat"]}}\n'
    )
    if value != "-" + "9" * 400:
        with refused("mine.jsonl, row 2"):
            load(line)


# ---- far too much


def test_free_text_taken_for_labels(tmp_path: Path) -> None:
    lines = "".join(f"{k}.jpg,something said about image {k}\n" for k in range(100_000))
    with refused(r"row 2\d,?\d{3}.* more than 25,000 different labels, such as .*--delimiter"):
        load(put(tmp_path / "mine.csv", f"image,labels\n{lines}"), reading=Reading(delimiter="none"))
    with refused(r"mine.jsonl, row .*more than 25,000 different labels"):
        load(put_lines(tmp_path / "mine.jsonl", ({"image": f"{k}.jpg", "labels": [f"c{k}"]} for k in range(30_000))))


def test_far_too_many_listed_classes(tmp_path: Path) -> None:
    names = [str(k) for k in range(100_000)]
    with refused("100,000 classes are listed, more than 25,000"):
        load(put(tmp_path / "mine.json", {"metainfo": {"classes": names}, "data_list": [{"img_path": "a.jpg"}]}))
    write_yolo_flat(tmp_path / "yolo")
    put(tmp_path / "yolo" / "classes.txt", "\n".join(names))
    with refused("100,000 classes are listed, more than 25,000"):
        load(tmp_path / "yolo")


def test_another_column_taken_for_the_split(tmp_path: Path) -> None:
    lines = "".join(f"{k}.jpg,cat,part {k}\n" for k in range(1000))
    with refused("row 102: 'part 100' would be split 101 of the data. Another column was probably taken for the split"):
        load(put(tmp_path / "mine.csv", f"image,labels,set\n{lines}"), reading=Reading(split_column="set"))


@pytest.mark.parametrize("name", ["mine.csv", "mine.jsonl", "mine.txt"])
def test_a_huge_line(tmp_path: Path, name: str) -> None:
    with refused("row 1 has more than 1,048,576 characters. Is this a file of labels"):
        load(put(tmp_path / name, b"x" * 30_000_000))
    start = '{"image": "a.jpg", "labels": ["' if name == "mine.jsonl" else "a.jpg,"
    good = '{"image": "b.jpg", "labels": ["cat"]}\n' if name == "mine.jsonl" else "b.jpg,cat\n"
    with refused("row 2 has more than 1,048,576 characters"):
        load(put(tmp_path / name, (good + start).encode() + b"x" * 30_000_000), expected="jsonl" if "json" in name else "csv")


def test_a_huge_file_that_is_no_json(tmp_path: Path) -> None:
    with refused("cannot be read as JSON"):
        load(put(tmp_path / "mine.json", b"x" * 30_000_000))


def test_a_very_long_cell_and_a_very_long_list(tmp_path: Path) -> None:
    with refused("row 2 .*cannot be read as a table"):
        load(put(tmp_path / "mine.csv", f"image,labels\na.jpg,{'x' * 200_000}\n"), expected="csv")
    with refused("row 2: .* is not a list of labels"):
        load(put(tmp_path / "mine.csv", f'image,labels\na.jpg,"{"[" * 50_000}{"]" * 50_000}"\n'))


def test_a_very_deep_path(tmp_path: Path) -> None:
    entry = {"image_url": "gs://bucket/" + "a/" * 2000 + "b.jpg", "label": ["cat"]}
    assert len(load(put_lines(tmp_path / "mine.jsonl", [entry] * 20))) == 1
    with refused("is not a path"):
        load(put_lines(tmp_path / "mine.jsonl", [{**entry, "image_url": "a" * 5000}]))


@pytest.mark.parametrize("name", ["nuswide", "voc-own-splits", "vg500", "labelstudio", "yolo"])
def test_a_name_longer_than_a_disk_allows(tmp_path: Path, name: str) -> None:
    SAMPLES[name](tmp_path)
    long = "x" * 2000
    put(tmp_path / "ImageList" / "TrainImagelist.txt", f"{long}.jpg\nzoo\\0002_1.jpg\nx\n") if name == "nuswide" else None
    put(tmp_path / "ImageSets" / "Main" / "train.txt", f"{long}\n") if name.startswith("voc") else None
    put(tmp_path / "train_list_500.txt", f"{long}\n") if name == "vg500" else None
    put(tmp_path / "vg_category_500_labels_index.json", {long: [1], "3.jpg": [1]}) if name == "vg500" else None
    put(tmp_path / "data.yaml", f"train: {long}\nnames: [cat, dog]\n") if name == "yolo" else None
    if name == "labelstudio":
        path = next(tmp_path.glob("*.json"))
        path.write_text(path.read_text().replace("0a1b2c3d-a", f"0a1b2c3d-{long}"))
    if name in ("nuswide", "vg500", "labelstudio"):
        assert isinstance(load(tmp_path), Manifest)  # its image is then not there
    else:
        with refused(long[:60]):
            load(tmp_path)


# ---- bombs


BILLION_LAUGHS = (
    '<!DOCTYPE a [<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{k} "{f"&a{k - 1};" * 10}">' for k in range(1, 12)) + "]>"
    "<annotation><object><name>&a11;</name></object></annotation>"
)
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation><object><name>&b;</name></object></annotation>'


@pytest.mark.parametrize("xml", [BILLION_LAUGHS, OUTSIDE], ids=["entities", "outside"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_xml_that_declares_entities(tmp_path: Path, xml: str, encoding: str) -> None:
    write_voc_own(tmp_path)
    put(tmp_path / "Annotations" / "000005.xml", xml.encode(encoding))
    with refused(r"000005.xml (declares XML entities or a document type|cannot be read)"):
        load(tmp_path)


def test_deeply_nested_xml(tmp_path: Path) -> None:
    write_voc_own(tmp_path)
    inner = voc_xml("000009", ("dog", 0))
    put(tmp_path / "Annotations" / "000009.xml", "<a>" * 100_000 + inner + "</a>" * 100_000)
    try:
        assert isinstance(load(tmp_path), Manifest)
    except DataError as error:
        assert "000009.xml cannot be read" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "content",
    [
        "a0: &a0 [x, x]\n"
        + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))
        + "names: *a11\ntrain: *a11\n",
        "a0: &a0 {x: y}\n"
        + "".join(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 12))
        + "names: *a11\n",
        "names: &a [*a]\n",
        "names: " + "[" * 20_000,
        "names: " + "{a: " * 20_000,
        "- " * 20_000,
        "names: [cat" + ", cat" * 400_000 + "]\n",
        "!!python/object/apply:os.system [ls]\n",
        "names: [a\x00b]\n",
        "\ttrain: x\n",
    ],
    ids=["aliases", "merges", "itself", "lists", "objects", "dashes", "large", "python", "nul", "tab"],
)
def test_yaml_that_is_made_to_do_harm(tmp_path: Path, content: str) -> None:
    write_yolo(tmp_path)
    put(tmp_path / "data.yaml", content)
    for path in (tmp_path, tmp_path / "data.yaml"):
        with refused(r"data.yaml|names no classes"):
            load(path)


@pytest.mark.parametrize("name", JSONS)
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deeply_nested_json(tmp_path: Path, name: str, opening: str) -> None:
    path = put(label_file(name, tmp_path), opening * 200_000)
    with refused(r"\.json cannot be read as JSON \(RecursionError"):
        load(named(name, tmp_path, path), expected=FORMAT[name])
    with refused(r"\.json cannot be read as JSON \(RecursionError"):
        load(named(name, tmp_path, path))


def test_a_deeply_nested_line(tmp_path: Path) -> None:
    with refused("row 2 is not JSON"):
        load(put(tmp_path / "mine.jsonl", '{"image": "a.jpg", "labels": []}\n' + "[" * 200_000))


def test_a_number_of_more_digits_than_are_read(tmp_path: Path) -> None:
    with refused("row 2 is not JSON"):
        load(put(tmp_path / "mine.jsonl", '{"image": "a.jpg", "labels": []}\n{"image": "a.jpg", "labels": ' + "1" * 5000 + "}\n"))


@pytest.mark.parametrize("row", [2, 32])
def test_a_cell_that_is_too_long_for_a_table(tmp_path: Path, row: int) -> None:
    rows = [f"{k}.jpg,cat\n" for k in range(row - 2)]
    with refused(f"mine.csv, row {row} cannot be read as a table"):
        load(put(tmp_path / "mine.csv", "".join(["image,labels\n", *rows, f"a.jpg,{'x' * 140_000}\n"])))


def test_a_header_that_is_too_long_for_a_table(tmp_path: Path) -> None:
    with refused("mine.csv has no column of images"):
        load(put(tmp_path / "mine.csv", f"{'x' * 140_000},labels\n"), reading=Reading(image_column="photo"))


def test_a_damaged_parquet_file_beside_a_table(tmp_path: Path) -> None:
    put(tmp_path / "mine.csv", "image,labels\na.jpg,cat\nb.jpg,dog\n")
    put(tmp_path / "other.parquet", b"PAR1" * 20)
    draw_all(tmp_path, ["a.jpg", "b.jpg"])
    assert load(tmp_path).classes == ("cat", "dog")


# ---- wrong types

WRONG: list[Any] = [None, [], {}, 5, -1.5, True, "text", [[]], [None], {"a": None}, [5], ["text"]]
PLACES: dict[str, list[Callable[[Any, Any], Any]]] = {
    "coco-single": [
        lambda d, v: d.update(images=v),
        lambda d, v: d.update(annotations=v),
        lambda d, v: d.update(categories=v),
        lambda d, v: d["images"][0].update(id=v),
        lambda d, v: d["images"][0].update(file_name=v),
        lambda d, v: d["images"][0].update(unknown_category_ids=v),
        lambda d, v: d["annotations"][0].update(image_id=v),
        lambda d, v: d["annotations"][0].update(category_id=v),
        lambda d, v: d["annotations"][0].update(bbox=v),
        lambda d, v: d["categories"][0].update(id=v),
        lambda d, v: d["categories"][0].update(name=v),
        lambda d, v: d["images"].insert(0, v),
    ],
    "openmmlab": [
        lambda d, v: d.update(metainfo=v),
        lambda d, v: d.update(data_list=v),
        lambda d, v: d["metainfo"].update(classes=v),
        lambda d, v: d["data_list"].insert(0, v),
        lambda d, v: d["data_list"][0].update(img_path=v),
        lambda d, v: d["data_list"][0].update(gt_label=v),
    ],
    "labelstudio": [
        lambda d, v: d.insert(0, v),
        lambda d, v: d[0].update(data=v),
        lambda d, v: d[0].update(annotations=v),
        lambda d, v: d[0]["annotations"].insert(0, v),
        lambda d, v: d[0]["annotations"][0].update(result=v),
        lambda d, v: d[0]["annotations"][0]["result"][0].update(value=v),
        lambda d, v: d[0]["annotations"][0]["result"][0].update(type=v),
        lambda d, v: d[0]["annotations"][0]["result"][0]["value"].update(choices=v),
    ],
    "labelstudio-minimal": [lambda d, v: d[0].update(image=v), lambda d, v: d[0].update(choice=v)],
    "vg500": [lambda d, v: d.clear() or d.update(v), lambda d, v: d.update({"1.jpg": v})],
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("expected", [False, True])
def test_wrong_types_everywhere(tmp_path: Path, name: str, expected: bool) -> None:
    path = label_file(name, tmp_path)
    text = path.read_text()
    for change in PLACES[name]:
        for value in WRONG:
            document = json.loads(text)
            try:
                change(document, value)
            except (TypeError, ValueError):
                document = value
            put(path, json.dumps(document))
            try:
                manifest = load(named(name, tmp_path, path), expected=FORMAT[name] if expected else "")
                assert "None" not in manifest.classes
                assert not any("None" in row[0] for row in rows(manifest))
            except DataError as error:
                assert str(tmp_path) in str(error) or tmp_path.name in str(error)  # noqa: PT017
                assert str(error)[-1] in ".?"  # noqa: PT017


@pytest.mark.parametrize("columns", ["image labels", "patch_id labels split", "bytes labels"])
def test_parquet_texts_that_are_no_utf8(tmp_path: Path, columns: str) -> None:
    image = draw(tmp_path / "a.jpg")
    names = columns.split()
    offsets, characters = (pa.py_buffer(content) for content in (b"\0\0\0\0\2\0\0\0\5\0\0\0", b"\xff\xfecat"))
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, characters])
    table = {**dict.fromkeys(names, text), **({"bytes": [image.read_bytes()] * 2} if "bytes" in names else {})}
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with refused("cannot be read as Parquet .*UTF8"):
        load(tmp_path / "x.parquet")
