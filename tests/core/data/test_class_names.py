from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.class_names import SYNONYMS, load_class_map, match_classes, sort_classes
from sadcl_core.errors import UsageError

VOC = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
COCO_PART = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "boat",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "bottle",
    "chair",
    "couch",
    "potted_plant",
    "dining_table",
    "tv",
]


def test_every_class_of_voc_is_found_in_coco() -> None:
    matched = match_classes(VOC, COCO_PART)
    assert None not in matched.values()
    assert len(set(matched.values())) == 20
    assert matched["aeroplane"] == "airplane"
    assert matched["motorbike"] == "motorcycle"
    assert matched["sofa"] == "couch"
    assert matched["tvmonitor"] == "tv"
    assert matched["diningtable"] == "dining_table"
    assert matched["pottedplant"] == "potted_plant"
    assert matched["cat"] == "cat"


def test_back_again_and_what_is_not_there() -> None:
    matched = match_classes([*COCO_PART, "zebra"], VOC)
    assert matched.pop("zebra") is None
    assert set(matched.values()) == set(VOC)


def test_the_same_name_goes_before_a_synonym() -> None:
    assert match_classes(["sofa", "couch"], ["couch", "sofa"]) == {"sofa": "sofa", "couch": "couch"}
    assert match_classes(["Traffic_Light"], ["traffic light", "TRAFFIC-LIGHT"]) == {"Traffic_Light": "traffic light"}


def test_the_very_same_name_goes_before_all_others() -> None:
    for names in (
        ["A", "A+", "A-"],
        ["C", "C++"],
        ["cat", "Cat", "CAT"],
        ["\u0915\u093f", "\u0915\u0940"],
        ["+", "-"],
        ["🙂", "🙃"],
    ):
        assert match_classes(names, names[::-1]) == {name: name for name in names}
    assert match_classes(["-"], ["+"]) == {"-": None}
    assert match_classes(["\u0915\u093f"], ["\u0915\u0940"]) == {"\u0915\u093f": None}


def test_a_class_map_goes_before_everything() -> None:
    matched = match_classes(["cat", "puppy", "dog"], ["cat", "dog"], {"puppy": "dog", "cat": None})
    assert matched == {"cat": None, "puppy": "dog", "dog": "dog"}


def test_a_class_map_must_fit() -> None:
    with pytest.raises(UsageError, match=r"'catt', which this data set does not have. Did you mean 'cat'"):
        match_classes(["cat"], ["cat"], {"catt": "cat"})
    with pytest.raises(UsageError, match=r"'dgo', which the other model does not have. Did you mean 'dog'"):
        match_classes(["cat"], ["dog"], {"cat": "dgo"})


def test_no_name_is_in_two_groups_of_synonyms() -> None:
    names = [name for group in SYNONYMS for name in group]
    assert len(names) == len(set(names))


def test_reads_a_class_map(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("aeroplane: airplane\nzebra:\n")
    assert load_class_map(tmp_path / "m.yaml") == {"aeroplane": "airplane", "zebra": None}
    (tmp_path / "m.json").write_text('{"aeroplane": "airplane"}')
    assert load_class_map(tmp_path / "m.json") == {"aeroplane": "airplane"}


@pytest.mark.parametrize("content", [b"- a\n", b"a: 3\n", b"1: a\n", b"a: [", b"", b"\xff\xfe", b": a\n"])
def test_what_is_no_class_map(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.yaml").write_bytes(content)
    with pytest.raises(UsageError, match=r"m\.yaml"):
        load_class_map(tmp_path / "m.yaml")
    with pytest.raises(UsageError, match=r"none\.yaml cannot be read"):
        load_class_map(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "2", "1"], ["1", "2", "9", "10"]),
        (["10", "-1", "0"], ["-1", "0", "10"]),
        (["010", "9", "10"], ["9", "010", "10"]),
        (["10", "9", "a"], ["10", "9", "a"]),
        (["10", "9.5"], ["10", "9.5"]),
        (["b", "a", "C"], ["C", "a", "b"]),
        (["9" * 5000, "10"], ["10", "9" * 5000]),
    ],
)
def test_classes_are_ordered_by_name_and_whole_numbers_by_value(names: list[str], order: list[str]) -> None:
    assert list(sort_classes(names)) == order
