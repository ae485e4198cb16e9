from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sadcl_core.data.formats.detect import detect
from sadcl_core.data.formats.source import Reading
from sadcl_core.data.interpretation import FileReading
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DataError, UsageError
from tests.core.data.formats.samples import (
    Writer,
    draw,
    draw_all,
    load,
    put,
    put_lines,
    rows,
    write_chexpert,
    write_csv,
    write_csv_bare,
    write_csv_columns,
    write_csv_lists,
    write_imagefolder_csv,
    write_parquet,
    write_roboflow_csv,
    write_tsv,
    write_txt,
)

LABELS = [["cat", "dog"], ["dog"], [], ["cat"]]


def table(tmp_path: Path, text: str, name: str = "mine.csv") -> Path:
    return put(tmp_path / name, text)


def account(manifest: Manifest) -> FileReading:
    """How the first label file was read."""
    interpretation = manifest.description.interpretation
    assert interpretation is not None
    return interpretation.files[0]


def left_out(manifest: Manifest) -> list[str]:
    return [column.name for column in account(manifest).columns if column.role == "metadata"]


def labels(path: Path, reading: Reading = Reading()) -> list[list[str]]:  # noqa: B008
    return [row[2] for row in rows(load(path, reading=reading))]


@pytest.mark.parametrize("write", [write_csv, write_csv_lists])
def test_labels_in_a_cell_and_a_column_of_splits(tmp_path: Path, write: Writer) -> None:
    manifest = load(write(tmp_path))
    assert manifest.classes == ("cat", "dog")
    assert rows(manifest) == [
        ("photos/a.jpg", "train", ["cat", "dog"], []),
        ("photos/b.jpg", "train", ["dog"], []),
        ("photos/c.jpg", "val", [], []),
        ("photos/d.jpg", "test", ["cat"], []),
    ]


def test_a_column_of_images_is_no_unknown_labels_whatever_it_is_called(tmp_path: Path) -> None:
    draw_all(tmp_path, ["a.jpg", "b.jpg"])
    manifest = load(table(tmp_path, "unknown,labels\na.jpg,cat\nb.jpg,dog\n"))
    assert manifest.classes == ("cat", "dog")
    assert rows(manifest) == [("a.jpg", "", ["cat"], []), ("b.jpg", "", ["dog"], [])]


@pytest.mark.parametrize("write", [write_csv_bare, write_txt])
def test_without_header_and_quotes(tmp_path: Path, write: Writer) -> None:
    assert rows(load(write(tmp_path))) == [
        (f"photos/{name}.jpg", "", found, []) for name, found in zip("abcd", LABELS, strict=True)
    ]


def test_labels_of_two_words_between_bars(tmp_path: Path) -> None:
    assert labels(write_tsv(tmp_path)) == [["cat", "traffic light"], ["traffic light"], [], ["cat"]]


def test_an_imagefolder_with_lists_as_json_writes_them(tmp_path: Path) -> None:
    assert labels(write_imagefolder_csv(tmp_path)) == LABELS[:3]


@pytest.mark.parametrize("between", [",", ";", "|", " "])
@pytest.mark.parametrize("cells", ["\t", ",", ";", "|"])
def test_any_delimiters(tmp_path: Path, cells: str, between: str) -> None:
    quote = '"' if between == cells else ""
    lines = (f"{name}.jpg{cells}{quote}{between.join(found)}{quote}\n" for name, found in zip("abcd", LABELS, strict=True))
    assert labels(table(tmp_path, f"image{cells}labels\n{''.join(lines)}")) == LABELS


def test_columns_of_classes_with_unknown_cells(tmp_path: Path) -> None:
    manifest = load(write_csv_columns(tmp_path))
    assert manifest.classes == ("cat", "dog", "car")  # as in the header
    assert rows(manifest) == [
        ("photos/a.jpg", "", ["cat", "dog"], ["car"]),
        ("photos/b.jpg", "", ["dog"], []),
        ("photos/c.jpg", "", [], ["dog", "car"]),
        ("photos/d.jpg", "", ["cat"], []),
    ]


def test_chexperts_columns_that_are_no_labels(tmp_path: Path) -> None:
    manifest = load(write_chexpert(tmp_path))
    assert manifest.classes == ("No Finding", "Cardiomegaly", "Edema")
    assert rows(manifest) == [
        ("train/patient00001/study1/view1_frontal.jpg", "train", ["No Finding"], ["Cardiomegaly", "Edema"]),
        ("train/patient00002/study1/view1_frontal.jpg", "train", [], ["No Finding", "Cardiomegaly"]),
        ("valid/patient64541/study1/view1_frontal.jpg", "val", ["Cardiomegaly", "Edema"], []),
    ]
    assert left_out(manifest) == ["Sex", "Age", "Frontal/Lateral", "AP/PA"]


def test_chexpert_from_the_folder_above_and_by_its_files(tmp_path: Path) -> None:
    base = write_chexpert(tmp_path)
    expected = [f"{base.name}/{row[0]}" for row in rows(load(base))]
    assert [row[0] for row in rows(load(f"train={base}/train.csv", f"val={base}/valid.csv", data=tmp_path))] == expected


def test_roboflows_columns_after_spaces_in_a_file_per_split(tmp_path: Path) -> None:
    manifest = load(write_roboflow_csv(tmp_path))
    assert manifest.classes == ("cat", "traffic light")
    assert rows(manifest) == [
        ("test/d.jpg", "test", ["traffic light"], []),
        ("train/a.jpg", "train", ["cat"], []),
        ("train/b.jpg", "train", ["cat", "traffic light"], []),
        ("valid/c.jpg", "val", [], []),
    ]


def test_parquet_with_names_in_its_metadata(tmp_path: Path) -> None:
    manifest = load(write_parquet(tmp_path))
    assert manifest.classes == ("dog", "cat", "never seen")
    assert [row[2] for row in rows(manifest)] == [["dog", "cat"], ["dog"], [], ["cat"]]


def test_parquet_columns_of_flags_and_missing_values(tmp_path: Path) -> None:
    content = {"image": ["a.jpg", "b.jpg"], "cat": [True, None], "dog": [0.0, float("nan")]}
    pq.write_table(pa.table(content), tmp_path / "mine.PARQUET")
    assert rows(load(tmp_path / "mine.PARQUET")) == [("a.jpg", "", ["cat"], []), ("b.jpg", "", [], ["cat", "dog"])]


def test_a_parquet_label_that_is_no_number_is_no_label(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"image": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "label": [1.0, float("nan"), None, 3.0]}),
        tmp_path / "mine.parquet",
    )
    assert labels(tmp_path / "mine.parquet") == [["1"], [], [], ["3"]]


def test_parquet_that_holds_the_images_themselves(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"bytes": b"", "path": "a.jpg"}], "label": [1]}), tmp_path / "mine.parquet")
    with pytest.raises(DataError, match=r"holds the images themselves in column image. Save them as files"):
        load(tmp_path / "mine.parquet", expected="csv")


def test_damaged_parquet(tmp_path: Path) -> None:
    path = write_parquet(tmp_path) / "metadata.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load(path, expected="csv")


# ---- whether a label is there


def put_values(folder: Path, name: str, values: list[str]) -> Path:
    """A table of one label a row, each of an image of its own, with a value."""
    draw_all(folder, [f"{k}.jpg" for k in range(len(values))])
    rows = [f"{k}.jpg,{'dog' if k % 2 else 'cat'},{value}\n" for k, value in enumerate(values)]
    return put(folder / "mine.csv", "".join([f"image,label,{name}\n", *rows]))


@pytest.mark.parametrize(("name", "values"), [("confidence", ["1", "0.4", "0.9"]), ("present", ["1", "0", "1"])])
def test_a_label_whose_value_is_below_one_is_a_question(tmp_path: Path, name: str, values: list[str]) -> None:
    path = put_values(tmp_path, name, values)
    with pytest.raises(
        DataError, match=rf"column '{name}' may say of each label .*--long .*--threshold 0.5.*--label-column label"
    ):
        load(path)
    assert labels(path, reading=Reading(label_column="label")) == [["cat"], ["dog"], ["cat"]]
    assert labels(path, reading=Reading(long=True, threshold=0.5)) == [["cat"], [], ["cat"]]
    assert labels(path, reading=Reading(threshold=0.5)) == [["cat"], [], ["cat"]]


def test_labels_that_are_all_present_need_no_value(tmp_path: Path) -> None:
    assert labels(put_values(tmp_path, "confidence", ["1", "1.0", "1"])) == [["cat"], ["dog"], ["cat"]]
    path = put_values(tmp_path, "score", ["7", "2", "0"])
    assert labels(path) == [["cat"], ["dog"], ["cat"]]
    with pytest.raises(UsageError, match="--threshold has no effect"):
        load(path, reading=Reading(threshold=0.5))


@pytest.mark.parametrize(
    ("cells", "hint"),
    [
        (("0,9", "1,0"), r"If 0,9 in column 'cat' is a number, say --decimal ,"),
        (("x", ""), r"If 'x' and blank in column 'cat' say of a class whether it is there"),
    ],
)
def test_columns_that_may_be_meant_as_classes_are_hinted_at(tmp_path: Path, cells: tuple[str, str], hint: str) -> None:
    rows = [f"{k}.jpg;{cells[k % 2]};{cells[k % 3 % 2]}\n" for k in range(6)]
    with pytest.raises(DataError, match=rf"no column of labels .*{hint}"):
        load(put(tmp_path / "mine.csv", "".join(["image;cat;dog\n", *rows])))


# ---- which column is which


def test_two_columns_that_are_called_as_labels_are_a_question(tmp_path: Path) -> None:
    draw_all(tmp_path, ["a.jpg", "b.jpg"])
    path = put(tmp_path / "mine.csv", "image,tag,category\na.jpg,new,cat\nb.jpg,old,dog\n")
    with pytest.raises(DataError, match=r"columns tag, category may hold the labels\. Say which: --label-column category"):
        load(path)
    assert labels(path, reading=Reading(label_column="category")) == [["cat"], ["dog"]]
    path = put(tmp_path / "mine.csv", "image,label,label_name\na.jpg,0,cat\nb.jpg,1,dog\n")
    with pytest.raises(DataError, match=r"columns label, label_name may hold the labels\. Say which: --label-column label_name"):
        load(path)
    path = put_lines(tmp_path / "mine.jsonl", [{"image": f"{name}.jpg", "labels": [name], "tags": []} for name in "ab"])
    assert labels(path) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,image_path,labels\n7,a.jpg,cat\n8,b.jpg,dog\n", [["cat"], ["dog"]]),
        ("image_id,path_to_file,tags\n7,a.jpg,cat\n8,b.jpg,dog\n", [["cat"], ["dog"]]),
        ("fname,labels,is_valid\na.jpg,cat dog,True\nb.jpg,dog,False\nc.jpg,cat,0\n", [["cat", "dog"], ["dog"], ["cat"]]),
        (
            "Image Index,Finding Labels,Patient Gender\na.jpg,Hernia|Mass,F\nb.jpg,No Finding,M\n",
            [["Hernia", "Mass"], ["No Finding"]],
        ),
        ("labels,image\ncat;dog,a.jpg\ndog,b.jpg\n", [["cat", "dog"], ["dog"]]),
        ("cat,a.jpg\ndog,b.jpg\n", [["cat"], ["dog"]]),
        ("a.jpg,cat;dog,train\nb.jpg,dog,test\n", [["cat", "dog"], ["dog"]]),
        ("train,a.jpg,cat,dog\nval,b.jpg,dog\n", [["cat", "dog"], ["dog"]]),
        ("a.jpg\nb.jpg,cat,dog\n", [[], ["cat", "dog"]]),
        ("a.jpg\nb.jpg;cat,dog\n", [[], ["cat", "dog"]]),
        ("id,target\na,cat\nb,dog\n", [["cat"], ["dog"]]),
        ("Id,Target\na,16 0\nb,7 1 2 0\nc,5\n", [["0", "16"], ["0", "1", "2", "7"], ["5"]]),
        ('image,labels\na.jpg,"[\'cat\', \'dog\']"\nb.jpg,"[""dog""]"\n', [["cat", "dog"], ["dog"]]),
        ("image,labels\na.jpg,\"('cat', 'dog')\"\nb.jpg,\"{'dog'}\"\n", [["cat", "dog"], ["dog"]]),
        (",image,cat,dog\n0,a.jpg,1,1\n1,b.jpg,0,1\n", [["cat", "dog"], ["dog"]]),
        ("image,Sex,cat,dog\na.jpg,F,1,1\nb.jpg,M,0,1\n", [["cat", "dog"], ["dog"]]),
        ("image,cat,label\na.jpg,1,1\nb.jpg,0,1\n", [["cat", "label"], ["label"]]),
        ("image,cat,unknown\na.jpg,1,1\nb.jpg,0,1\n", [["cat", "unknown"], ["unknown"]]),
        ("image,cat,dog\na.jpg,Yes,TRUE\nb.jpg,no,true\n", [["cat", "dog"], ["dog"]]),
        ("\n\nimage, labels\n\n a.jpg , cat\n\nb.jpg,dog", [["cat"], ["dog"]]),
        ("a.jpg,cat,\nb.jpg,,dog\nc.jpg,cat,dog\n", [["cat"], ["dog"], ["cat", "dog"]]),  # blank cells are no columns of classes
        ('image,labels\na.jpg,"cat\ndog"\nb.jpg,dog\n', [["cat", "dog"], ["dog"]]),  # where nothing else separates labels
        ("sep=;\r\nimage;labels\r\na.jpg;cat,dog\r\nb.jpg;dog\r\n", [["cat", "dog"], ["dog"]]),  # of a spreadsheet program
    ],
)
def test_columns_are_found(tmp_path: Path, text: str, expected: list[list[str]]) -> None:
    assert labels(table(tmp_path, text)) == expected


def test_splits_of_fastai(tmp_path: Path) -> None:
    manifest = load(table(tmp_path, "fname,labels,is_valid\na.jpg,cat,True\nb.jpg,dog,False\n"))
    assert [row[1] for row in rows(manifest)] == ["val", "train"]


def test_unknown_labels_have_a_column_of_their_own(tmp_path: Path) -> None:
    path = table(tmp_path, "image,labels,unknown\na.jpg,cat;dog,car\nb.jpg,,cat;dog\n")
    assert rows(load(path)) == [("a.jpg", "", ["cat", "dog"], ["car"]), ("b.jpg", "", [], ["cat", "dog"])]


def test_a_class_of_which_nobody_knows_is_a_class(tmp_path: Path) -> None:
    manifest = load(table(tmp_path, "image,cat,dog\na.jpg,1,?\nb.jpg,0,-1\n"))
    assert rows(manifest) == [("a.jpg", "", ["cat"], ["dog"]), ("b.jpg", "", [], ["dog"])]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("image,cat\nb.jpg,0\n", "val.csv has no column of the class 'dog', which .*train.csv has. Give all the same columns"),
        ("image,cat,dog,car\nb.jpg,0,1,1\n", "val.csv has a column of the class 'car', which .*train.csv has not, or left blank"),
    ],
)
def test_tables_with_other_columns_would_make_labels_absent(tmp_path: Path, second: str, message: str) -> None:
    table(tmp_path, "image,cat,dog\na.jpg,1,0\n", "train.csv")
    table(tmp_path, second, "val.csv")
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_list_of_classes_says_which_columns_are_classes(tmp_path: Path) -> None:
    path = table(tmp_path, "image,flash,cat,dog\na.jpg,1,1,\nb.jpg,0,0,\n")
    manifest = load(path, reading=Reading(classes=("dog", "cat")))
    assert manifest.classes == ("dog", "cat")
    assert rows(manifest) == [("a.jpg", "", ["cat"], ["dog"]), ("b.jpg", "", [], ["dog"])]
    assert left_out(manifest) == ["flash"]
    with pytest.raises(DataError, match="has no column of the class 'cow', which the list of classes has"):
        load(path, reading=Reading(classes=("cat", "cow")))


# ---- labels of several words


def test_one_label_of_several_words_that_come_again_is_kept_whole(tmp_path: Path) -> None:
    lines = [f"{k}.jpg,{name}\n" for k, name in enumerate(["traffic light", "hot dog", "cat"] * 3)]
    manifest = load(table(tmp_path, f"image,label\n{''.join(lines)}"))
    assert manifest.classes == ("cat", "hot dog", "traffic light")
    assert "'traffic light' are kept whole; --delimiter ' ' takes them apart" in manifest.description.notes[0]
    assert load(tmp_path / "mine.csv", reading=Reading(delimiter=" ")).classes == ("cat", "dog", "hot", "light", "traffic")


def test_words_that_come_together_in_other_ways_are_labels(tmp_path: Path) -> None:
    lines = [f"{k}.jpg,{name}\n" for k, name in enumerate(["clear water", "haze water", "clear", "haze"] * 3)]
    manifest = load(table(tmp_path, f"image,tags\n{''.join(lines)}"))
    assert manifest.classes == ("clear", "haze", "water")
    assert account(manifest).separator == " "
    assert "clear water" in load(tmp_path / "mine.csv", reading=Reading(delimiter="none")).classes


def test_what_stands_between_labels_is_found_out_from_all_tables_together(tmp_path: Path) -> None:
    table(tmp_path, "image,labels\na.jpg,hot dog;cat\nb.jpg,cat\n", "train.csv")
    table(tmp_path, "image,labels\nc.jpg,hot dog\nd.jpg,cat\n", "val.csv")
    assert labels(tmp_path) == [["cat", "hot dog"], ["cat"], ["hot dog"], ["cat"]]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("['cat' 'dog']", ["cat", "dog"]),
        ('[""cat"" ""hot dog""]', ["cat", "hot dog"]),
        ("['cat'\n 'dog']", ["cat", "dog"]),
        ("cat\ndog", ["cat", "dog"]),
        ("hot dog\ncat", ["cat", "hot dog"]),
        *((text, []) for text in ("()", "{}", "set()", "[]", "nan", "NaN", "n/a", "N/A", "null", "")),
    ],
)
def test_how_programs_write_lists_and_nothing_at_all(tmp_path: Path, cell: str, expected: list[str]) -> None:
    """Beside labels between bars, so that a space is part of a label."""
    assert labels(table(tmp_path, f'image,labels\na.jpg,"{cell}"\nb.jpg,dog|cat\n')) == [expected, ["cat", "dog"]]


@pytest.mark.parametrize("cell", ["?", "-1", " ? "])
def test_not_known_is_no_label(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=r"row 3: (\?|-1) is not a label\. Leave the image out if nothing is known"):
        load(table(tmp_path, f"image,labels\na.jpg,cat;dog\nb.jpg,{cell}\n"))


# ---- what a person says of the columns


def test_the_column_of_labels_can_be_said(tmp_path: Path) -> None:
    path = table(tmp_path, "image,caption,findings,cat\na.jpg,a sofa,cat;dog,1\nb.jpg,a road,dog,0\n")
    manifest = load(path, reading=Reading(label_column="findings"))
    assert labels(path, Reading(label_column="findings")) == [["cat", "dog"], ["dog"]]
    assert left_out(manifest) == ["caption", "cat"]
    with pytest.raises(DataError, match=r"has no column 'finding', only image, caption, findings, cat\. Check --label-column"):
        load(path, reading=Reading(label_column="finding"))


LONG = Reading(long=True)


def test_rows_of_one_label_each_are_put_together(tmp_path: Path) -> None:
    text = "ImageID,LabelName,split\na.jpg,cat,train\nb.jpg,dog,val\na.jpg,dog,train\na.jpg,cat,train\n"
    path = table(tmp_path, text)
    assert rows(load(path, reading=LONG)) == [("a.jpg", "train", ["cat", "dog"], []), ("b.jpg", "val", ["dog"], [])]
    with pytest.raises(DataError, match=r"was listed in row 2 with other labels.*say --long"):
        load(path)


def test_rows_of_one_label_each_with_paths_of_another_machine(tmp_path: Path) -> None:
    draw_all(tmp_path / "photos" / "sub", ["a.jpg", "b.jpg"])
    there = "/home/someone/sets/photos/sub"
    path = table(tmp_path, f"path,label\n{there}/a.jpg,cat\n{there}/b.jpg,dog\n{there}/a.jpg,dog\n", "lists/mine.csv")
    found = load(path, data=tmp_path / "photos", reading=LONG)
    assert rows(found) == [("sub/a.jpg", "", ["cat", "dog"], []), ("sub/b.jpg", "", ["dog"], [])]
    with pytest.raises(DataError, match=r"does not lie under .*elsewhere\. Say with --data"):
        load(path, data=draw(tmp_path / "elsewhere" / "c.jpg").parent, reading=LONG)


# ---- what programs add


@pytest.mark.parametrize("suffix", [".JPG", ".PNG", ".JPEG", ".jpg", ".webp"])
def test_images_that_are_named_without_their_ending(tmp_path: Path, suffix: str) -> None:
    draw_all(tmp_path / "photos", [f"a{suffix}", f"b{suffix}"])
    found = load(table(tmp_path, "id,labels\na,cat\nb,dog\n"))
    assert [row[0] for row in rows(found)] == [f"photos/a{suffix}", f"photos/b{suffix}"]


@pytest.mark.parametrize("suffix", [".xlsx", ".xls", ".ods", ".XLSX"])
def test_a_spreadsheet_is_to_be_saved_as_text(tmp_path: Path, suffix: str) -> None:
    path = put(tmp_path / f"mine{suffix}", b"PK\x03\x04 and more")
    with pytest.raises(DataError, match=r"is a spreadsheet\. Save it as CSV"):
        load(path)


# ---- damage


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,labels\n", "has a header and no row. Give a table with a row per image"),
        ("a.jpg\nb.jpg\n", "lists images and no labels. Write their labels behind them"),
        ("x,y\n1,2\n", "has no column of images: neither a header"),
        ("image,labels,image\na.jpg,cat,b.jpg\n", "the header names 'image' twice. Rename one"),
        ("image,place\na.jpg\n", "row 2 has 1 cells where 2 are needed. Mend the row"),
        ("image,labels,split\na.jpg,cat,train,dog\n", "row 2 has 4 cells where the others have 3. Mend the row"),
        ("image,x,y\na.jpg,u,v\n", r"has no column of labels \(image, x, y\). Call it labels"),
        ("a.jpg,1,0\nb.jpg,0,1\n", "has 2 columns of 1 and 0 and no header to name their classes. Add one"),
        ("image,cat,dog\na.jpg,1,0\nb.jpg,2,1\nc.jpg,0,0\n", "row 3, column 'cat': '2' is not 1, 0, or unknown .*--classes FILE"),
        ('image,labels\na.jpg,"[1.5]"\n', r"row 2: \[1.5\] is not a list of labels. Write"),
        ('image,labels\na.jpg,"[cat"\nb.jpg,"[cat]"\n', r"row 2: \[cat is a list that does not end"),
        ("image,labels\n,cat\n", "row 2: the image has no name"),
        ("image,labels\na.jpg,\nb.jpg,\n", "no image has a label"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(table(tmp_path, text), expected="csv")


@pytest.mark.parametrize("features", [None, [], {"labels": 5}, {"labels": {"feature": {"names": 5}}}, {"labels": {"names": []}}])
def test_metadata_of_a_schema_that_say_nothing(tmp_path: Path, features: Any) -> None:
    content = pa.table({"image": ["a.jpg"], "labels": [["cat"]]})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(content.replace_schema_metadata(metadata), tmp_path / "mine.parquet")
    assert labels(tmp_path / "mine.parquet") == [["cat"]]


def test_images_in_any_folder_beside_the_table(tmp_path: Path) -> None:
    draw(tmp_path / "Our Photos" / "a.png")
    assert [row[0] for row in rows(load(table(tmp_path, "image,labels\na,cat\n")))] == ["Our Photos/a.png"]


def test_long_tables_with_a_column_of_flags_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "ImageID,Source,LabelName,Rare\na,x,cat,1\na,x,dog,0\n")
    with pytest.raises(DataError, match=r"column 'Rare' says 1 or 0 of each label\. Call it value if 0 means"):
        load(path, reading=Reading(long=True))


def test_the_unknown_column_counts_beside_a_chosen_column_of_labels(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "image,labels,unknown,set\na.jpg,cat,dog,train\n")
    assert rows(load(path, reading=Reading(label_column="labels"))) == [("a.jpg", "train", ["cat"], ["dog"])]
    for name in ("image", "set"):
        with pytest.raises(DataError, match="holds images or splits, not labels"):
            load(path, reading=Reading(label_column=name))


def test_classes_that_are_whole_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    path = table(tmp_path, "image,labels\na.jpg,10;2\nb.jpg,9\nc.jpg,2\n")
    manifest = load(path)
    assert manifest.classes == ("2", "9", "10")
    assert labels(path) == [["2", "10"], ["9"], ["2"]]


def test_notes_that_begin_with_an_image_are_not_the_table(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,labels\na.jpg,cat\nb.jpg,dog\n")
    (tmp_path / "training notes.txt").write_text("a.jpg is the first picture I took\nand it was raining that day\n")
    assert [path.name for path in detect(tmp_path).files.values()] == ["labels.csv"]


@pytest.mark.parametrize(
    ("cells", "delimiter"),
    [
        (["cat/dog", "dog", "cat"], "/"),
        (["cat + dog", "dog", "cat", "cat + car"], "+"),
        (["cat and dog", "dog", "cat", "cat and car"], " and "),
        (["cat_dog", "dog", "cat"], "_"),
        (["cat/dog;car", "dog", "cat;car"], "/"),
        (["cat::dog", "dog", "cat"], "::"),
        (["cat<br>dog", "dog", "cat"], "<br>"),
    ],
)
def test_unusual_separators_are_a_question(tmp_path: Path, cells: list[str], delimiter: str) -> None:
    path = put(tmp_path / "mine.csv", "image,labels\n" + "".join(f"{k}.jpg,{cell}\n" for k, cell in enumerate(cells)))
    with pytest.raises(DataError, match=f"--delimiter ' ?{re.escape(delimiter.strip())} ?'"):
        load(path)
    assert len(rows(load(path, reading=Reading(delimiter=delimiter)))[0][2]) == 2
    assert load(path, reading=Reading(delimiter="none")).classes


@pytest.mark.parametrize("header", ["", "image,number\n"])
def test_numbers_of_the_rows_are_no_labels(tmp_path: Path, header: str) -> None:
    path = put(tmp_path / "images.csv", header + "".join(f"{k}.jpg,{k}\n" for k in range(1, 9)))
    with pytest.raises(DataError, match=r"no labels|no column of labels"):
        load(path)


def test_labels_in_numbered_columns(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "image,tag1,tag2,mask\na.jpg,cat,hot dog,a.png\nb.jpg,dog,,b.png\n")
    assert labels(path) == [["cat", "hot dog"], ["dog"]]
    assert labels(path, Reading(label_column="tag1,tag2")) == [["cat", "hot dog"], ["dog"]]
    assert left_out(load(path)) == ["mask"]


def test_lists_that_were_not_quoted(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", 'image,labels\na.jpg,["cat", "hot dog"]\nb.jpg,[\'dog\']\nc.jpg,[]\n')
    assert labels(path) == [["cat", "hot dog"], ["dog"], []]
    path = put(tmp_path / "mine.csv", "image,labels\na.jpg,[1, 0, 0]\nb.jpg,[0, 1, 1]\n")
    assert labels(path, Reading(classes=("cat", "dog", "car"))) == [["cat"], ["dog", "car"]]


@pytest.mark.parametrize(
    ("cells", "delimiter", "message"),
    [
        (["cat|dog", "dog"], ";", r"'\|' stands between labels, as in 'cat\|dog'. Say --delimiter '\|'"),
        (['"[""cat"", ""dog""]"', "[]"], ";", "cells hold lists of labels. Leave it out"),
    ],
)
def test_a_delimiter_without_effect_is_refused(tmp_path: Path, cells: list[str], delimiter: str, message: str) -> None:
    path = put(tmp_path / "mine.csv", "image,labels\n" + "".join(f"{k}.jpg,{cell}\n" for k, cell in enumerate(cells)))
    with pytest.raises(UsageError, match=f"--delimiter .*has no effect, because (the )?{message}"):
        load(path, reading=Reading(delimiter=delimiter))


def test_a_delimiter_for_cells_of_one_label_each_is_said_to_stand_nowhere(tmp_path: Path) -> None:
    manifest = load(put(tmp_path / "mine.csv", "image,labels\na.jpg,cat\nb.jpg,dog\n"), reading=Reading(delimiter=";"))
    assert manifest.description.notes == ("';' (--delimiter) stands in none of the first cells, so each of them is one label",)


def test_the_account_says_where_classes_come_from(tmp_path: Path) -> None:
    def order(**options: Any) -> str:
        interpretation = load(tmp_path / "mine.csv", reading=Reading(**options)).description.interpretation
        assert interpretation is not None
        return interpretation.classes

    put(tmp_path / "mine.csv", "image,cat,dog\na.jpg,1,0\nb.jpg,0,1\n")
    assert (order(), order(classes=("dog", "cat"))) == ("by column", "as in --classes")
    put(tmp_path / "mine.csv", "image,labels\na.jpg,cat\nb.jpg,dog\n")
    assert order() == "by name"
    put(tmp_path / "classes.txt", "dog\ncat\n")
    assert order() == "as in classes.txt"


def test_numbers_of_classes_are_no_flags(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "image,labels\na.jpg,1\nb.jpg,2\nc.jpg,1;2\n")
    assert account(load(path)).values == {}
    with pytest.raises(UsageError, match="--absent has no effect, because no cell says 1 or 0"):
        load(path, reading=Reading(absent=("0",)))


def test_rows_that_disagree_on_a_label_make_it_unknown(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "ImageID,LabelName,Confidence\na,m1,1\na,m1,0\na,m2,1\nb,m1,1\nb,m2,0.3\n")
    put(tmp_path / "class-descriptions.csv", "m1,Cat\n")
    put(tmp_path / "class-descriptions-boxable.csv", "m2,Dog\n")
    manifest = load(path, reading=Reading(threshold=0.5))
    assert rows(manifest) == [("a", "", ["Dog"], ["Cat"]), ("b", "", ["Cat"], ["Dog"])]
    assert any("1 label that rows say is there and is not" in note for note in manifest.description.notes)
    assert account(manifest).values["below 0.5"] == "unknown"


def test_an_index_before_the_images_is_not_read(tmp_path: Path) -> None:
    path = put(tmp_path / "images.txt", "".join(f"{k} {k}.jpg {'cat' if k % 2 else 'dog'}\n" for k in range(1, 9)))
    manifest = load(path)
    assert manifest.classes == ("cat", "dog")
    assert account(manifest).columns[0].role == "metadata"


def test_cells_of_one_label_each_are_said(tmp_path: Path) -> None:
    assert account(load(put(tmp_path / "mine.csv", "image,labels\na.jpg,cat\nb.jpg,dog\n"))).separator == "none"


def test_a_column_of_images_of_any_name_can_be_named(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "id_code,what\na,cat;dog\nb,dog\n")
    with pytest.raises(DataError, match=r"has no column of images.*id_code,what.*Say --image-column NAME"):
        load(path)
    assert [row[2] for row in rows(load(path, reading=Reading(image_column="id_code")))] == [["cat", "dog"], ["dog"]]


def test_numbers_of_classes_between_spaces(tmp_path: Path) -> None:
    cells = ("0 2", "1", "2 1 0", "0") * 2
    path = put(tmp_path / "train.csv", "id,attribute_ids\n" + "".join(f"x{k},{cell}\n" for k, cell in enumerate(cells)))
    manifest = load(path)
    assert manifest.classes == ("0", "1", "2")
    assert rows(manifest)[2][2] == ["0", "1", "2"]


def test_numbers_of_listed_classes_count_from_0_and_it_is_said(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "image,labels\na.jpg,0;2\nb.jpg,1;2\n")
    manifest = load(path, reading=Reading(classes=("cat", "dog", "car")))
    assert rows(manifest)[0][2] == ["cat", "car"]
    assert "labels are numbers and count from 0: 0 is cat, 1 is dog, 2 is car" in manifest.description.notes
    named = load(put(tmp_path / "names.csv", "image,labels\na.jpg,cat;car\n"), reading=Reading(classes=("cat", "dog", "car")))
    assert not any("count from 0" in note for note in named.description.notes)


def test_numbers_that_may_count_from_1_are_pointed_out_with_what_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = put(tmp_path / "mine.csv", "image,labels\na.jpg,1;2\nb.jpg,2\n")
    (note,) = (text for text in load(path, reading=Reading(classes=("cat", "dog", "car"))).description.notes if "numbers" in text)
    assert "1 is dog, 2 is car; no image has 0, cat. If they count from 1" in note
    with pytest.raises(
        DataError, match=r"label 2, but there are 2 classes, counted from 0.*--classes zero,cat,\.\.\. --drop zero"
    ):
        load(path, reading=Reading(classes=("cat", "dog")))
    for name in "ab":
        draw(tmp_path / f"{name}.jpg")
    prepared = prepare(str(path), split="train", classes="zero,cat,dog", drop=("zero",)).manifest
    assert [row[2] for row in rows(prepared)] == [["cat", "dog"], ["dog"]]
    assert not any("If they count from 1" in note for note in prepared.description.notes)


@pytest.mark.parametrize("form", ["<cat><dog>", "<dog>"])
def test_tags_in_angle_brackets(tmp_path: Path, form: str) -> None:
    manifest = load(put(tmp_path / "mine.csv", f"image,tags\na.jpg,<cat><traffic light>\nb.jpg,{form}\nc.jpg,\n"))
    assert [row[2] for row in rows(manifest)] == [["cat", "traffic light"], form.strip("<>").split("><"), []]
    assert load(put(tmp_path / "one.csv", "image,tags\na.jpg,<unk>\nb.jpg,cat\n")).classes == ("<unk>", "cat")


def test_a_column_of_images_without_a_class_is_no_class(tmp_path: Path) -> None:
    put(tmp_path / "train" / "_classes.csv", "filename, Unlabeled, cat, dog\na.jpg, 0, 1, 1\nb.jpg, 1, 0, 0\n")
    manifest = load(tmp_path)
    assert manifest.classes == ("cat", "dog")
    assert [row[2:] for row in rows(manifest)] == [(["cat", "dog"], []), ([], [])]
    put(tmp_path / "train" / "_classes.csv", "filename, Unlabeled, cat, dog\na.jpg, 1, 1, 1\nb.jpg, 1, 0, 0\n")
    with pytest.raises(DataError, match="columns Unlabeled may be classes, or facts about the images"):
        load(tmp_path)


def test_rows_of_several_readers_are_not_put_together_in_silence(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "image,reader_id,cat,dog\na.jpg,R1,1,0\na.jpg,R2,0,1\nb.jpg,R1,1,0\n")
    with pytest.raises(DataError, match=r"was listed in row 2 with other labels\. Write all labels"):
        load(path)
    with pytest.raises(UsageError, match="--long has no effect, because each class has a column"):
        load(path, reading=Reading(long=True))


def test_tables_deeper_down_are_named(tmp_path: Path) -> None:
    draw(tmp_path / "mine" / "images" / "1.png")
    table = put(tmp_path / "mine" / "labels_of_all.csv", "image,cat,dog\n1.png,1,0\n")
    with pytest.raises(DataError, match=f"Name what lies below it: {re.escape(str(table.parent))} "):
        load(tmp_path)


def test_numbers_of_classes_that_a_table_beside_names(tmp_path: Path) -> None:
    draw_all(tmp_path, ["a.jpg", "b.jpg"])
    put(tmp_path / "labels.csv", "attribute_id,attribute_name\n0,culture::french\n1,tag::dogs\n2,tag::cats\n")
    path = put(tmp_path / "train.csv", "id,attribute_ids\na,0 1\nb,1\n")
    manifest = load(path)
    assert [row[2] for row in rows(manifest)] == [["culture::french", "tag::dogs"], ["tag::dogs"]]
    assert "names of classes from labels.csv" in manifest.description.notes
    put(path, "id,attribute_ids\na,0 1\nb,7\n")  # which has no name
    assert load(path).classes == ("0", "1", "7")


def test_two_columns_of_images_are_a_question(tmp_path: Path) -> None:
    path = put(tmp_path / "eyes.csv", "ID,Left-Fundus,Right-Fundus,N,D\n0,0_l.jpg,0_r.jpg,1,0\n1,1_l.jpg,1_r.jpg,0,1\n")
    with pytest.raises(DataError, match=r"Left-Fundus, Right-Fundus hold paths of images. Say which: --image-column Left-Fundus"):
        load(path)
