"""Random tables of every convention come back as they were written, or are refused."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadcl_core.data.formats.cells import find_values
from sadcl_core.data.formats.source import Reading
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError, UsageError
from tests.core.data.formats.samples import load, put, put_lines, rows

FEW = settings(max_examples=30, deadline=None)
NAMES = ["cat", "dog", "traffic light", "hot dog", "1girl", "Tür", "x", "No Finding", "is_dog", "a-b", "long_hair", "42"]
ABOUT: dict[str, list[str]] = {  # columns about the images, and what they hold
    "id": ["0", "1"],
    "patient_id": ["7", "8", "9"],
    "Age": ["30", "1", "0"],
    "split": ["train", "val"],
    "weather": ["sunny", "rainy"],
    "annotator": ["0", "1"],
    "is_test_set": ["0", "1"],
    "region_count": ["0", "1", "2"],
    "confidence": ["0.5", "1.0"],
    "created_at": ["2024-01-01"],
}


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def active(manifest: Manifest) -> dict[str, set[str]]:
    return {image: set(labels) for image, _, labels, _ in rows(manifest)}


def unknown(manifest: Manifest) -> dict[str, set[str]]:
    return {image: set(labels) for image, _, _, labels in rows(manifest)}


def text_of(cells: list[list[str]], delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(cells)
    return out.getvalue()


@st.composite
def label_sets(draw: st.DrawFn, names: list[str], least: int = 1) -> dict[str, set[str]]:
    """Labels of some images, each of which is there by itself; every class occurs."""
    chosen = draw(st.lists(st.sampled_from(names), min_size=2, max_size=6, unique=True))
    count = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.1, 0.4, 0.8]))
    sets = [{name for name in chosen if rng.random() < share} for _ in range(count)]
    sets += [{name} for name in chosen]
    return {f"{k:03d}.jpg": labels or set(chosen[:least]) for k, labels in enumerate(sets)}


@FEW
@given(st.data(), st.sampled_from(["|", ";", ",", ", ", "; "]), st.sampled_from([",", ";", "\t"]), st.booleans())
def test_labels_in_a_cell(data: st.DataObject, between: str, cells: str, header: bool) -> None:
    labels = data.draw(label_sets(NAMES, least=0))
    content = [[image, between.join(sorted(names))] for image, names in labels.items()]
    with folder() as place:
        path = put(place / "mine.csv", text_of([["image", "labels"], *content] if header else content, cells))
        try:
            assert active(load(path)) == labels
        except DataError as error:  # where no image has two labels, those of several words are a question
            assert "--delimiter" in str(error)  # noqa: PT017 - either is right
        assert active(load(path, reading=Reading(delimiter=between.strip()))) == labels


@FEW
@given(label_sets(["cat", "dog", "1girl", "hat", ";d", "|_|", "o_o"]))
def test_labels_between_spaces_or_a_question(labels: dict[str, set[str]]) -> None:
    content = [[image, " ".join(sorted(names))] for image, names in labels.items()]
    with folder() as place:
        path = put(place / "mine.csv", text_of([["image", "tags"], *content]))
        try:
            manifest = load(path)
        except DataError as error:
            assert "--delimiter" in str(error)  # noqa: PT017 - either is right
        else:
            whole = {" ".join(sorted(names)) for names in labels.values()}
            if not whole >= set(manifest.classes):  # a few that always come together are one label
                assert active(manifest) == labels
        assert active(load(path, reading=Reading(delimiter=" "))) == labels


LISTS: dict[str, Callable[[list[str]], str]] = {
    "JSON": json.dumps,
    "Python": repr,
    "quoted": lambda names: repr(names)[1:-1],
    "NumPy": lambda names: f"array({names!r}, dtype=object)",
    "PostgreSQL": lambda names: "{" + ",".join(f'"{name}"' if " " in name else name for name in names) + "}",
    "bare": lambda names: f"[{', '.join(names)},]",
}


@FEW
@given(label_sets(NAMES), st.sampled_from([*LISTS, "lines", "objects", "mapping", "columns"]))
def test_lists_of_labels(labels: dict[str, set[str]], form: str) -> None:
    with folder() as place:
        of = {name: 1 for names in labels.values() for name in names}
        if form in LISTS:
            content = [[image, LISTS[form](sorted(names))] for image, names in labels.items()]
            path = put(place / "mine.csv", text_of([["image", "labels"], *content]))
        elif form in ("mapping", "columns"):
            lists = {image: sorted(names) for image, names in labels.items()}
            path = put(place / "mine.json", lists if form == "mapping" else {"image": [*lists], "labels": [*lists.values()]})
        else:
            lines = [
                {"image": image, "labels": sorted(names) if form == "lines" else {name: int(name in names) for name in of}}
                for image, names in labels.items()
            ]
            path = put(place / "mine.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        assert active(load(path)) == labels


# present, absent, unknown as they are written, and what a person has to say of it
CONVENTIONS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "0/1": ("1", "0", "", {}),
    "decimals": ("1.0", "0.0", "", {}),
    "-1 unknown": ("1", "0", "-1", {"absent": ("0",)}),
    "question mark": ("1", "0", "?", {}),
    "booleans": ("True", "False", "", {}),
    "words": ("yes", "no", "unknown", {}),
    "1/-1": ("1", "-1", "?", {}),
    "VOC": ("1", "-1", "0", {"absent": ("-1",)}),
    "blank absent": ("1", "", "?", {"absent": ("blank",)}),
    "blank unknown": ("1", "0", "", {"unknown": ("blank",)}),
    "u for unknown": ("1", "0", "u", {"unknown": ("u",)}),
    "2 for unknown": ("1.0", "0.0", "2.0", {"unknown": ("2",)}),
    "marks": ("X", "", "?", {"present": ("x",), "absent": ("blank",)}),
    "words of a person": ("positive", "negative", "", {"present": ("Positive",), "absent": ("negative",)}),
    "NA unknown": ("1", "", "NA", {"absent": ("blank",), "unknown": ("NA",)}),
    "nan": ("1.0", "0.0", "nan", {}),
}

SPLITS = {  # columns of splits: what they hold, and which splits these are
    "split": [("train", "train"), ("val", "val"), ("test", "test")],
    "Set": [("Training", "train"), ("Validation", "val")],
    "subset": [("TRAIN", "train"), ("dev", "val"), ("test ", "test")],
    "is_valid": [("False", "train"), ("True", "val")],
    "is_test_set": [("0", "train"), ("1", "test")],
    "is_train": [("1", "train"), ("0", "test")],
}


def looks_like_another(convention: str, cells: list[str]) -> bool:
    """True for 1 and -1 alone of which -1 is unknown, and for VOC with more labels that are difficult than present or absent."""
    zeros = cells.count("0")
    return (convention == "-1 unknown" and not zeros) or (convention == "VOC" and zeros >= min(map(cells.count, ("1", "-1"))))


@FEW
@given(st.data(), st.sampled_from(list(CONVENTIONS)), st.lists(st.sampled_from(list(ABOUT)), max_size=4, unique=True))
def test_columns_of_classes(data: st.DataObject, convention: str, about: list[str]) -> None:
    present, absent, not_known, options = CONVENTIONS[convention]
    labels = data.draw(label_sets(NAMES, least=0))
    classes = sorted({name for names in labels.values() for name in names})
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    hidden = {image: {name for name in classes if rng.random() < 0.1} for image in labels}
    columns = [*classes, *about]
    columns = [columns[k] for k in rng.permutation(len(columns))]
    content, flags = [], list[str]()
    for image, names in labels.items():
        cells = {name: not_known if name in hidden[image] else present if name in names else absent for name in classes}
        flags += cells.values()
        cells |= {name: str(rng.choice(ABOUT[name])) for name in about}
        content.append([image, *(cells[name] for name in columns)])
    with folder() as place:
        path = put(place / "mine.csv", text_of([["image", *columns], *content]))
        for reading in (Reading(**options), Reading(), Reading(**options, classes=tuple(classes))):
            try:
                manifest = load(path, reading=reading)
            except DataError:
                continue
            if not reading.absent and looks_like_another(convention, flags):
                continue
            assert set(manifest.classes) == set(classes)
            assert active(manifest) == {image: names - hidden[image] for image, names in labels.items()}
            assert unknown(manifest) == hidden


def test_each_convention_is_read_with_what_a_person_says(tmp_path: Path) -> None:
    for present, absent, not_known, options in CONVENTIONS.values():
        cells = [[present, absent, absent], [absent, present, not_known], [absent, absent, present]]
        content = [[f"{k}.jpg", *row] for k, row in enumerate(cells)]
        path = put(tmp_path / "mine.csv", text_of([["image", "cat", "dog", "car"], *content]))
        assert unknown(load(path, reading=Reading(**options)))["1.jpg"] == {"car"}


@pytest.mark.parametrize(
    ("text", "message", "choices"),
    [
        ("image,a,b\n1.jpg,1,\n2.jpg,,1\n", "--absent blank or --unknown blank", {"absent": ("blank",), "unknown": ("blank",)}),
        ("image,a,b\n1.jpg,1,-1\n2.jpg,,1\n", "--absent -1 or --absent blank", {"absent": ("-1",)}),
        (
            "image,a,b,c,d\n1.jpg,1,-1,-1,0\n2.jpg,1,1,-1,-1\n3.jpg,1,1,0,-1\n4.jpg,1,-1,-1,-1\n",
            "--absent 0 or --absent -1",
            {"absent": ("-1",), "unknown": ("0",)},
        ),
        (
            "image,a,b,c,d\n1.jpg,1,-1,-1,-1\n2.jpg,-1,0,0,-1\n3.jpg,-1,-1,0,-1\n4.jpg,-1,-1,-1,-1\n",  # more 0 than 1, both few
            "--absent 0 or --absent -1",
            {"absent": ("0",), "unknown": ("0",)},
        ),
        (
            "image,cat,dog,car\n1.jpg,1,-1,-1\n2.jpg,-1,1,-1\n3.jpg,-1,-1,0\n",  # classes of VOC, and of many others
            "--absent 0 or --absent -1",
            {"absent": ("-1",)},
        ),
        ("image,a,b\n1.jpg,x,\n2.jpg,,x\n", "'x' and blank in column 'a' say of a class.*--present, --absent", {}),
        ("image,a,b\n1.jpg,pos,neg\n2.jpg,neg,neg\n", "'pos' and 'neg' in column 'a' say of a class.*--present, --absent", {}),
        ("image,a,b\n1.jpg,1,2\n2.jpg,0,1\n", "say what it means with --present, --absent or --unknown 2", {"unknown": ("2",)}),
        ("image,label\n1.jpg,1\n2.jpg,0\n", "holds only 0 and 1.*of one class.*these are two", {"classes": ("no", "yes")}),
        ("image,label\n1.jpg,1\n2.jpg,0\n", "--classes label for one class", {"classes": ("label",)}),
        ("1.jpg 1\n2.jpg 0\n", "holds only 0 and 1.*of one class.*these are two", {"classes": ("cat",)}),
        ("left,right,a,b\n1.jpg,2.jpg,1,0\n3.jpg,4.jpg,0,1\n", "columns left, right hold paths.*--image-column left",
         {"image_column": "right"}),
        ("image,fig,date\n1.jpg,1,0\n2.jpg,0,1\n", "columns date may be classes, or facts", {"classes": ("fig", "date")}),
        ("image,red fox,page\n1.jpg,1,0\n2.jpg,0,1\n", "--classes 'red fox', with or without", {"classes": ("red fox",)}),
        ("image,tone,scene\n1.jpg,red,road\n2.jpg,blue,bay\n3.jpg,red,bay\n", "tone, scene may hold", {"label_column": "scene"}),
        ("image,labels\n1.jpg,a;b\n2.jpg,a|c\n3.jpg,a;b\n", "a part of it is one too.*--delimiter", {}),
        ("image,labels\n1.jpg,a:b\n2.jpg,a:c\n3.jpg,b:c\n4.jpg,a:d\n5.jpg,b:d\n6.jpg,c:d\n", "parts come again.*--delimiter ':'",
         {"delimiter": ":"}),
        ("image,labels\n1.jpg,cat:0.9;dog:0.2\n2.jpg,dog:1\n", "'cat:0.9' is a label with its value|'dog", {"delimiter": "none"}),
        ("image,labels\n1.jpg,a cat on a sofa\n2.jpg,a dog on the sofa\n3.jpg,the cat\n4.jpg,a dog\n5.jpg,the sofa\n6.jpg,dog\n",
         "may be one label of several words", {"delimiter": " "}),
        ("image,labels,cat,dog\n1.jpg,x;y,1,0\n2.jpg,y,0,1\n", "--label-column 'labels', or with --classes cat,dog", {}),
        ("image,a,w,s,t\n1.jpg,1,x,y,z\n2.jpg,0,y,z,x\n", r"but most columns do not \(w, s, t\)", {"classes": ("a",)}),
        ("image,a,visible\n1.jpg,1,0\n2.jpg,0,1\n", "columns visible may be classes, or facts", {"classes": ("a",)}),
        ("image,split,a,b\n1.jpg,0,0,1\n2.jpg,1,1,0\n", "names splits, but holds numbers", {"split_column": "none"}),
        ("image,a,b\n1.jpg,1,0.7\n2.jpg,0,1\n", "0.7 is a fraction, neither 0 or 1.*--threshold 0.5", {"threshold": 0.5}),
        ("image,labels\n1.jpg,red car\n2.jpg,red bus\n3.jpg,blue van\n" * 1 + "4.jpg,red car\n5.jpg,red bus\n6.jpg,blue van\n",
         "may be one label of several words, or several", {"delimiter": "none"}),
        ("image,labels\n1.jpg,a;b\n2.jpg,a;c\n3.jpg,\"a,b\"\n4.jpg,c;b\n", "each part of it is one too", {}),
        ("image,labels\n1.jpg,0 1 0\n2.jpg,1 1 0\n", "0/1 vector of length 3.*--classes FILE", {"classes": ("a", "b", "c")}),
        ("image,labels\n1.jpg,\"[0, 1, 0]\"\n2.jpg,\"[1, 0]\"\n", "0/1 vectors, most of them", {}),
        ("image,labels\n1.jpg,01\n2.jpg,011\n3.jpg,100\n", "0/1 vectors", {}),
    ],
)  # fmt: skip
def test_two_readings_are_a_question_that_an_option_answers(
    tmp_path: Path, text: str, message: str, choices: dict[str, Any]
) -> None:
    path = put(tmp_path / "mine.csv", text)
    with pytest.raises(DataError, match=message):
        load(path)
    for option, value in choices.items():
        load(path, reading=Reading(**{option: value}))


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ("1 0 -1 blank", {"absent": ("-1", "0")}, {"0": 0, "-1": 0, "blank": -1}),  # CheXpert, uncertain as absent
        ("1 0 -1 blank", {"present": ("-1",)}, {"0": 0, "-1": 1, "blank": -1}),  # and as present
        ("1 0 -1 blank", {"absent": ("blank",)}, {"0": 0, "-1": -1, "blank": 0}),
        ("1 0 0 -1", {"absent": ("-1",), "unknown": ("0",)}, {"0": -1, "-1": 0}),
        ("1 -1 blank", {"unknown": ("blank",)}, {"-1": 0, "blank": -1}),
        ("1 0 0 -1", {"absent": ("-1",)}, "--absent -1,0, or --absent -1 --unknown 0"),
        ("1 0", {"absent": ("-1",)}, "--absent -1,0, or --absent -1 --unknown 0"),
        ("1 -1 blank", {"present": ("-1",)}, "--absent blank or --unknown blank"),
        ("x blank", {"present": ("x",)}, "marked with x or left blank.*--absent blank"),
    ],
)
def test_a_value_that_is_given_a_meaning_decides_on_the_others(
    values: str, options: dict[str, Any], expected: dict[str, int] | str
) -> None:
    counts, reading = Counter(values.split()), Reading(**options)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            find_values(counts, reading, "a.csv")
    else:
        assert find_values(counts, reading, "a.csv").states.items() >= expected.items()


def test_in_a_table_of_voc_0_is_difficult(tmp_path: Path) -> None:
    text = "image,aeroplane,dog,car\n1.jpg,1,-1,-1\n2.jpg,-1,1,-1\n3.jpg,-1,-1,0\n"
    assert unknown(load(put(tmp_path / "mine.csv", text))) == {"1.jpg": set(), "2.jpg": set(), "3.jpg": {"car"}}


@pytest.mark.parametrize(
    ("train", "test", "odd"),
    [
        ("1,0 0,1 -1,0 0,0", "1,-1 -1,1", "-1"),
        ("1,-1 -1,1 -1,-1 -1,-1 -1,0", "1,0 0,1", "0"),  # difficult, as in VOC's lists
    ],
)
def test_tables_of_two_conventions_are_a_question(tmp_path: Path, train: str, test: str, odd: str) -> None:
    for name, cells in (("train", train), ("test", test)):
        put(
            tmp_path / f"{name}.csv",
            "image,aeroplane,dog\n" + "".join(f"{name}{k}.jpg,{row}\n" for k, row in enumerate(cells.split())),
        )
    with pytest.raises(DataError, match=f"{odd} would mean unknown, but .*test.csv alone holds .*as if {odd} meant absent"):
        load(tmp_path)
    meant = unknown(load(tmp_path, reading=Reading(unknown=(odd,))))
    assert bool(meant["test0.jpg"]) == (odd in test)


def test_labels_of_a_test_set_that_are_kept_secret_are_no_other_convention(tmp_path: Path) -> None:
    put(tmp_path / "train.csv", "image,a,b\n1.jpg,1,0\n2.jpg,0,1\n")
    put(tmp_path / "test.csv", "image,a,b\n3.jpg,-1,-1\n4.jpg,-1,-1\n")
    assert unknown(load(tmp_path))["3.jpg"] == {"a", "b"}


def test_no_value_has_two_meanings_and_one_that_no_cell_has_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.csv", "image,a,b\n1.jpg,1,0\n2.jpg,0,1\n")
    with pytest.raises(UsageError, match=r"-1\.0 is to mean absent and unknown"):
        load(path, reading=Reading(absent=("-1",), unknown=("-1.0",)))
    notes = load(path, reading=Reading(unknown=("u", "blank"))).description.notes
    assert "no cell says blank, u, to which --present, --absent or --unknown gives a meaning" in notes


@pytest.mark.parametrize("cells", ["", "?"])
def test_columns_that_say_nothing_are_refused_as_such(tmp_path: Path, cells: str) -> None:
    path = put(tmp_path / "mine.csv", f"image,a,b\n1.jpg,{cells},\n2.jpg,,{cells}\n")
    with pytest.raises(DataError, match="no cell of the columns a, b says whether a class is there: all are blank or unknown"):
        load(path)


def test_the_account_says_how_fractions_are_understood(tmp_path: Path) -> None:
    manifest = load(put(tmp_path / "mine.csv", "image,a,b\n1.jpg,1,0.7\n2.jpg,0,0.2\n"), reading=Reading(threshold=0.5))
    account = manifest.description.interpretation
    assert account is not None
    assert account.files[0].values == {"0": "absent", "1": "present", "0.5 and above": "present", "below 0.5": "absent"}


@pytest.mark.parametrize(
    ("absent", "expected"), [((), {"b.jpg": {"cat", "dog"}, "c.jpg": {"cat"}}), (("blank",), {}), (("0", "blank"), {})]
)
def test_what_an_object_does_not_name_is_a_blank_where_others_name_absent_classes(
    tmp_path: Path, absent: tuple[str, ...], expected: dict[str, set[str]]
) -> None:
    lines = [("a.jpg", {"cat": 1, "dog": 0, "car": 0}), ("b.jpg", {"car": 1}), ("c.jpg", {"dog": 1, "car": 0})]
    path = put_lines(tmp_path / "mine.jsonl", [{"image": image, "labels": labels} for image, labels in lines])
    assert unknown(load(path, reading=Reading(absent=absent))) == {"a.jpg": set(), "b.jpg": set(), "c.jpg": set(), **expected}
    ones = [{"image": image, "labels": {name: 1 for name, flag in labels.items() if flag}} for image, labels in lines]
    assert not any(unknown(load(put_lines(tmp_path / "ones.jsonl", ones))).values())


VECTORS: dict[str, Callable[[list[str]], str]] = {
    "spaces": " ".join,
    "commas": ",".join,
    "list": lambda bits: f"[{', '.join(bits)}]",
    "NumPy": lambda bits: f"[{' '.join(f'{bit}.' for bit in bits)}]",
    "glued": "".join,
    "quoted": str,
    "words": lambda bits: str([bit == "1" for bit in bits]),
    "NumPy words": lambda bits: f"[{' '.join(str(bit == '1').rjust(5) for bit in bits)}]",
    "tensor": lambda bits: f"tensor([{', '.join(f'{bit}.' for bit in bits)}], dtype=torch.float64)",
    "dashes": "-".join,
}


@FEW
@given(st.sampled_from(list(VECTORS)), st.integers(3, 6), st.integers(4, 20), st.integers(0, 2**32 - 1))
def test_vectors_are_read_with_names_and_refused_without(form: str, width: int, count: int, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, (count, width))
    bits[0], bits[1] = 0, 1
    classes = tuple("abcdef"[:width])
    content = [[f"{k:02d}.jpg", VECTORS[form]([str(bit) for bit in row])] for k, row in enumerate(bits)]
    lines = [{"image": f"{k:02d}.jpg", "labels": row.tolist()} for k, row in enumerate(bits)]
    expected = {f"{k:02d}.jpg": {classes[j] for j in np.flatnonzero(row)} for k, row in enumerate(bits)}
    with folder() as place:
        table = put(place / "mine.csv", text_of([["image", "labels"], *content]))
        objects = put(place / "mine.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        for path in (table, objects):
            assert active(load(path, reading=Reading(classes=classes))) == expected
            for wrong in ((), (*classes, "more")):
                with pytest.raises(DataError, match=rf"0/1 vector of length {width}"):
                    load(path, reading=Reading(classes=wrong))


@pytest.mark.parametrize("odd", ["cat", "[1, 0, 2]", "[1, 0]", ""])
def test_one_cell_does_not_make_numbers_of_classes_of_vectors(tmp_path: Path, odd: str) -> None:
    path = put(
        tmp_path / "mine.csv", text_of([["image", "labels"], ["1.jpg", "[1, 0, 0]"], ["2.jpg", odd], ["3.jpg", "[0, 1, 0]"]])
    )
    for classes in ((), ("a", "b", "c")) if odd else (("a", "b", "c"),):
        with pytest.raises(DataError, match=r"mine.csv, row 3: the labels are (not a 0/1 vector|0/1 vectors, most of them)"):
            load(path, reading=Reading(classes=classes))


def test_empty_lists_do_not_make_numbers_of_classes_of_vectors(tmp_path: Path) -> None:
    lines = [{"image": f"{k}.jpg", "labels": labels} for k, labels in enumerate([[1, 0, 0], [], [0, 1, 0]])]
    path = put(tmp_path / "mine.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match="row 2: the labels are not a 0/1 vector of length 3"):
        load(path, reading=Reading(classes=("a", "b", "c")))


@FEW
@given(label_sets(NAMES), st.booleans(), st.integers(0, 2**32 - 1))
def test_rows_of_one_label_each_with_its_value(labels: dict[str, set[str]], every: bool, seed: int) -> None:
    """What is verified as absent is absent, and what no row names is unknown."""
    rng = np.random.default_rng(seed)
    classes = sorted({name for names in labels.values() for name in names})
    verified = {image: {name for name in classes if every or rng.random() < 0.5} - names for image, names in labels.items()}
    content: list[list[str]] = [[image, name, "1"] for image, names in labels.items() for name in sorted(names)]
    content += [[image, name, "0"] for image, names in verified.items() for name in sorted(names)]
    content = [content[k] for k in rng.permutation(len(content))]
    with folder() as place:
        path = put(place / "mine.csv", text_of([["ImageID", "LabelName", "Confidence"], *content]))
        manifest = load(path, reading=Reading(long=True))
        assert active(manifest) == labels
        rest = {image: set(classes) - labels[image] - verified[image] for image in labels}
        assert unknown(manifest) == (rest if any(verified.values()) else {image: set() for image in labels})


@FEW
@given(label_sets(NAMES, least=0))
def test_image_and_class_in_one_cell(labels: dict[str, set[str]]) -> None:
    classes = [name for name in sorted({name for names in labels.values() for name in names}) if not name.isdecimal()]
    content = [
        [f"ID_{k}_{name.replace('_', '-')}", str(int(name in names))]
        for k, names in enumerate(labels.values())
        for name in classes
    ]
    with folder() as place:
        path = put(place / "mine.csv", text_of([["Image", "Label"], *content]))
        try:
            manifest = load(path)
        except DataError:
            return
        expected = {
            f"ID_{k}": {name.replace("_", "-") for name in names & set(classes)} for k, names in enumerate(labels.values())
        }
        assert active(manifest) == expected


@FEW
@given(label_sets(NAMES, least=0), st.sampled_from([0.25, 0.5, 0.7]), st.booleans(), st.integers(0, 2**32 - 1))
def test_soft_values_are_read_with_a_threshold_and_refused_without(
    labels: dict[str, set[str]], threshold: float, whole: bool, seed: int
) -> None:
    """In all columns, or in some beside columns of 0 and 1."""
    rng = np.random.default_rng(seed)
    classes = sorted({name for names in labels.values() for name in names})
    hard = set(classes[1:]) if whole else set()
    content = []
    for image, names in labels.items():
        low, high = rng.uniform(0.01, threshold - 0.01, len(classes)), rng.uniform(threshold, 0.99, len(classes))
        soft = np.where([name in names for name in classes], high, low)
        cells = [str(int(name in names)) if name in hard else f"{value:.4f}" for name, value in zip(classes, soft, strict=True)]
        content.append([image, *cells])
    with folder() as place:
        path = put(place / "mine.csv", text_of([["image", *classes], *content]))
        assert active(load(path, reading=Reading(threshold=threshold))) == labels
        with pytest.raises(DataError, match="fraction"):
            load(path)


@FEW
@given(label_sets(NAMES), st.sampled_from([" ", ",", ";", "list", "JSON"]), st.integers(0, 2**32 - 1))
def test_numbers_of_classes(labels: dict[str, set[str]], between: str, seed: int) -> None:
    """With a list of names they are those; without they are the classes, in the order of their value."""
    listed = sorted({name for names in labels.values() for name in names if not name.isdecimal()})
    listed = [listed[k] for k in np.random.default_rng(seed).permutation(len(listed))]
    sets = {image: {name for name in names if name in listed} for image, names in labels.items()}
    numbers = {image: sorted(listed.index(name) for name in names) for image, names in sets.items()}
    with folder() as place:
        if between == "JSON":
            lines = [{"image": image, "labels": own} for image, own in numbers.items()]
            path = put(place / "mine.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        else:
            content = [[image, str(own) if between == "list" else between.join(map(str, own))] for image, own in numbers.items()]
            path = put(place / "mine.csv", text_of([["image", "labels"], *content]))
        for reading in (Reading(classes=tuple(listed)), Reading()):
            try:
                manifest = load(path, reading=reading)
            except DataError:  # of two classes, the numbers 0 and 1 are a vector as well
                assert len(listed) < 3 or between in (" ", ",", ";")
                continue
            expected = sets if reading.classes else {image: {str(k) for k in own} for image, own in numbers.items()}
            assert active(manifest) == expected
            if not reading.classes:
                assert manifest.classes == tuple(map(str, range(len(listed))))


@FEW
@given(label_sets(NAMES), st.sampled_from(list(SPLITS)), st.integers(0, 2**32 - 1))
def test_columns_of_splits(labels: dict[str, set[str]], column: str, seed: int) -> None:
    words = SPLITS[column]
    chosen = [words[k] for k in np.random.default_rng(seed).integers(0, len(words), len(labels))]
    chosen[: len(words)] = words
    content = [[word[0], "|".join(sorted(names)), image] for word, (image, names) in zip(chosen, labels.items(), strict=True)]
    with folder() as place:
        path = put(place / "mine.csv", text_of([[column, "labels", "image"], *content]))
        manifest = load(path, reading=Reading(delimiter="|"))
    assert {image: split for image, split, _, _ in rows(manifest)} == {
        image: word[1] for word, image in zip(chosen, labels, strict=True)
    }


@FEW
@given(label_sets(NAMES), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_row_per_label(labels: dict[str, set[str]], threshold: bool, seed: int) -> None:
    """All of them present; or with the confidence of a machine, of which those below the threshold are unknown."""
    rng = np.random.default_rng(seed)
    pairs = [(image, name) for image, names in labels.items() for name in sorted(names)]
    pairs = [pairs[k] for k in rng.permutation(len(pairs))]
    with folder() as place:
        if not threshold:
            path = put(place / "mine.csv", text_of([["image", "label"], *map(list, pairs)]))
            assert active(load(path, reading=Reading(long=True))) == labels
            return
        sure = {pair: rng.random() < 0.6 for pair in pairs}
        content = [[image, "machine", name, "0.9" if is_sure else "0.2"] for (image, name), is_sure in sure.items()]
        path = put(place / "mine.csv", text_of([["ImageID", "Source", "LabelName", "Confidence"], *content]))
        manifest = load(path, reading=Reading(long=True, threshold=0.5))
    for image, names in labels.items():
        assert active(manifest)[image] == {name for name in names if sure[image, name]}
        assert unknown(manifest)[image] == {name for name in names if not sure[image, name]}
