from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sadcl_core.data.formats.source import Reading
from sadcl_core.errors import DataError
from tests.core.data.formats.samples import (
    draw,
    load,
    put,
    rows,
    studio_task,
    write_labelstudio,
    write_labelstudio_minimal,
)


def test_the_full_export(tmp_path: Path) -> None:
    manifest = load(write_labelstudio(tmp_path))
    assert manifest.classes == ("cat", "dog")
    assert rows(manifest) == [
        ("images/a.jpg", "", ["cat"], ["dog"]),
        ("images/b.jpg", "", ["dog"], []),
        ("images/c.jpg", "", [], []),
    ]
    assert "left out 2 tasks without an annotation" in manifest.description.notes[0]


def test_the_minimal_export(tmp_path: Path) -> None:
    assert rows(load(write_labelstudio_minimal(tmp_path))) == [
        ("photos/a.jpg", "", ["cat", "dog"], []),
        ("photos/b.jpg", "", ["dog"], []),
        ("photos/c.jpg", "", [], []),
        ("photos/d.jpg", "", ["cat"], []),
    ]


def minimal(image: str, **more: Any) -> dict[str, Any]:
    return {"image": image, "id": 1, "annotator": 1, "annotation_id": 1, "created_at": "2024", "lead_time": 1.0, **more}


def test_annotators_of_a_minimal_export_have_a_row_each(tmp_path: Path) -> None:
    tasks = [minimal("a.jpg", choice={"choices": ["cat", "dog"]}), minimal("b.jpg", choice="dog"), minimal("a.jpg", choice="cat")]
    assert rows(load(put(tmp_path / "mine.json", tasks))) == [("a.jpg", "", ["cat"], ["dog"]), ("b.jpg", "", ["dog"], [])]


def test_labels_of_a_minimal_export_are_called_after_their_tag(tmp_path: Path) -> None:
    tasks = [minimal("a.jpg", animals={"choices": ["cat", "dog"]}, city="Rome"), minimal("b.jpg", animals="dog", city="Oslo")]
    assert rows(load(put(tmp_path / "mine.json", tasks))) == [("a.jpg", "", ["cat", "dog"], []), ("b.jpg", "", ["dog"], [])]


def test_single_choices_beside_several_are_named(tmp_path: Path) -> None:
    """As plain text they look like any other text."""
    tasks = [
        minimal("a.jpg", animals={"choices": ["cat", "dog"]}, weather="sunny", note="first"),
        minimal("b.jpg", animals="dog", weather="sunny", note="second"),
        minimal("c.jpg", animals="dog", weather="rainy", note="third"),
        minimal("d.jpg", animals="cat", weather="rainy", note="fourth"),
    ]
    manifest = load(put(tmp_path / "mine.json", tasks))
    assert manifest.classes == ("cat", "dog")
    assert manifest.description.notes == (
        "mine.json: texts that were not taken for labels: weather; export as JSON to have them",
    )


def test_boxes_and_polygons_are_labels(tmp_path: Path) -> None:
    full = studio_task("a.jpg", ["cat"])
    full["annotations"][0]["result"] += [
        {"type": "rectanglelabels", "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rectanglelabels": ["dog"]}},
        {"type": "polygonlabels", "value": {"points": [[1, 2], [3, 4]], "polygonlabels": ["car"]}},
        {"type": "textarea", "value": {"text": ["a remark"]}},
        {"type": "rating", "value": {"rating": 3}},
        {"type": "relation", "from_id": "1", "to_id": "2"},
    ]
    assert rows(load(put(tmp_path / "full.json", [full])))[0][2] == ["car", "cat", "dog"]
    small = minimal("a.jpg", label=[{"x": 1, "rectanglelabels": ["dog"], "original_width": 8}, {"polygonlabels": ["car"]}])
    assert rows(load(put(tmp_path / "small.json", [small])))[0][2] == ["car", "dog"]


def test_an_upload_may_keep_its_letters_or_lie_beside_the_export(tmp_path: Path) -> None:
    draw(tmp_path / "0a1b2c3d-a.jpg")
    draw(tmp_path / "images" / "b.jpg")
    tasks = [studio_task(f"/data/upload/1/0a1b2c3d-{name}.jpg", ["cat"]) for name in "ab"]
    assert [row[0] for row in rows(load(put(tmp_path / "mine.json", tasks[:1])))] == ["0a1b2c3d-a.jpg"]
    assert [row[0] for row in rows(load(put(tmp_path / "labels" / "mine.json", tasks[1:])))] == ["images/b.jpg"]


def test_data_after_very_long_annotations_are_seen(tmp_path: Path) -> None:
    task = studio_task("a.jpg", ["cat"])
    task["annotations"][0]["result"][0]["meta"] = "x" * 100_000
    assert len(load(put(tmp_path / "mine.json", [task]))) == 1


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([studio_task("a.jpg", ["cat"]), None], "task 2 is no object. Export as JSON or JSON-MIN"),
        ([{**studio_task("a.jpg", ["cat"]), "data": None}], "task 1 has data that are no object"),
        ([{**studio_task("a.jpg", ["cat"]), "data": {"text": "a"}}], "task 1 names no image. Its data should"),
        ([{**studio_task("a.jpg", ["cat"]), "data": {"image": 5}}], "task 1 names no image"),
        ([{**studio_task("a.jpg"), "annotations": [None]}], "cannot be read as a Label Studio export"),
        ([{**studio_task("a.jpg"), "annotations": {"result": []}}], "cannot be read as a Label Studio export"),
        ([studio_task("a.jpg")], "no image is listed"),
        ([studio_task("a.jpg", [])], "no image has a label"),
        ([studio_task("a.jpg", ["cat"]), studio_task("a.jpg", ["dog"])], "task 2: a.jpg was listed in row 1 with other labels"),
    ],
)
def test_tasks_that_are_none(tmp_path: Path, tasks: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(put(tmp_path / "mine.json", tasks))


def test_the_csv_export(tmp_path: Path) -> None:
    """One choice is plain text, several are JSON; whoever annotated is no class."""
    rows_of_tasks = [
        "annotation_id,annotator,choice,created_at,id,image,lead_time",
        '1,1,"{""choices"": [""cat"", ""dog""]}",2024-01-01,1,/data/upload/1/0a1b2c3d-a.jpg,3.0',
        "2,1,cat,2024-01-01,2,/data/upload/1/0a1b2c3d-b.jpg,3.0",
        '3,1,"{""choices"": []}",2024-01-01,3,/data/upload/1/0a1b2c3d-c.jpg,3.0',
        "4,2,dog,2024-01-01,1,/data/upload/1/0a1b2c3d-a.jpg,3.0",
    ]
    for name in "abc":
        draw(tmp_path / "images" / f"{name}.jpg")
    path = put(tmp_path / "project-1.csv", "\n".join(rows_of_tasks) + "\n")
    expected = [("images/a.jpg", "", ["dog"], ["cat"]), ("images/b.jpg", "", ["cat"], []), ("images/c.jpg", "", [], [])]
    assert rows(load(path)) == rows(load(path, reading=Reading(label_column="choice"))) == expected
    with pytest.raises(DataError, match=r"project-1.csv has no column 'colour' with labels. Check --label-column"):
        load(path, reading=Reading(label_column="colour"))
