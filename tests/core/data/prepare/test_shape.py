"""Classes are merged, left out and kept; a part of the images has every class in its share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.prepare.shape import hide_labels, parse_merges, shape_classes, take_part
from sadcl_core.data.rows import Box, Record
from sadcl_core.errors import DataError, UsageError

CLASSES = ("bus", "car", "dog", "cat")


def manifest(count: int = 60) -> Manifest:
    """Targets of every kind, from a fixed draw; boxes of every active label."""
    targets = np.random.default_rng(0).integers(-1, 2, (count, len(CLASSES)))
    records = []
    for k, row in enumerate(targets):
        active = tuple(int(label) for label in np.flatnonzero(row == 1))
        boxes = tuple(Box(label, 0, 0, 1, 1) for label in active)
        records.append(Record(f"{k}.jpg", "train" if k % 3 else "val", active, tuple(map(int, np.flatnonzero(row == -1))), boxes))
    names = ("vehicle", "vehicle", "animal", "animal")
    return Manifest.from_records(Description("pets", Path("photos"), CLASSES, names), records)


def targets(data: Manifest) -> dict[str, list[int]]:
    split = data.split("all")
    return {image: split.targets(k).tolist() for k, image in enumerate(split)}


def merged(parts: list[int]) -> int:
    return 1 if 1 in parts else -1 if -1 in parts else 0


def test_a_merged_class_is_active_where_a_part_is_and_else_unknown_where_a_part_is() -> None:
    before = manifest()
    after = shape_classes(before, merge={"vehicle": ("bus", "car")})
    assert after.classes == ("vehicle", "dog", "cat")
    assert after.description.superclasses == ("vehicle", "animal", "animal")
    expected = {image: [merged(row[:2]), *row[2:]] for image, row in targets(before).items()}
    assert targets(after) == expected
    for row in after.rows.to_pylist():
        assert {box["label"] for box in row["boxes"]} == set(row["active"])
    assert "bus, car became vehicle" in after.description.notes


def test_a_class_may_become_another_that_is_there() -> None:
    after = shape_classes(manifest(), merge={"dog": ("cat",)})
    assert after.classes == ("bus", "car", "dog")
    assert targets(after) == {image: [*row[:2], merged(row[2:])] for image, row in targets(manifest()).items()}


@pytest.mark.parametrize("options", [{"drop": ("car", "cat")}, {"drop": ("cat,car",)}, {"keep": ("dog", "bus")}])
def test_classes_left_out_leave_the_others_as_they_were(options: dict[str, tuple[str, ...]]) -> None:
    after = shape_classes(manifest(), merge={}, **options)  # type: ignore[arg-type]
    assert after.classes == ("bus", "dog")
    assert targets(after) == {image: [row[0], row[2]] for image, row in targets(manifest()).items()}
    assert "left out 2 of 4 classes: car, cat" in after.description.notes


def test_rare_classes_are_counted_in_the_training_split() -> None:
    data = manifest()
    counts = data.split("train").class_counts()
    after = shape_classes(data, merge={}, min_positives=int(counts.max()))
    assert after.classes == tuple(name for name, count in zip(CLASSES, counts, strict=True) if count == counts.max())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"drop": ("dgo",)}, UsageError, "--drop: there is no class 'dgo'. Did you mean 'dog'"),
        ({"keep": ("dgo",)}, UsageError, "--keep: there is no class 'dgo'"),
        ({"merge": {"a": ("bus", "no")}}, UsageError, "--merge: there is no class 'no'"),
        ({"merge": {"a": ("bus",), "b": ("bus",)}}, UsageError, "--merge names the class 'bus' twice"),
        ({"drop": CLASSES}, DataError, "pets: no class would be left"),
        ({"drop": ("dog,cat",), "keep": ("dog",)}, UsageError, "--keep and --drop both name the class 'dog'"),
        ({"merge": {"pet": ("dog", "cat")}, "drop": ("cat",)}, UsageError, "--drop: 'cat' is part of 'pet' by --merge"),
    ],
)
def test_classes_that_are_not_there(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        shape_classes(manifest(), **{"merge": {}, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["vehicle", "=car", "vehicle=", "vehicle= , "])
def test_a_merge_says_what_becomes_what(text: str) -> None:
    with pytest.raises(UsageError, match=r"does not say which classes become one. Write --merge vehicle=car,bus"):
        parse_merges([text])


def test_a_merge_that_is_given_again_adds_to_the_class_and_names_may_hold_commas() -> None:
    merges = parse_merges(["vehicle=car", 'bowl="bowl, plate", cup', "vehicle=bus, van"])
    assert merges == {"vehicle": ("car", "bus", "van"), "bowl": ("bowl, plate", "cup")}


def test_a_part_has_each_split_and_class_in_its_share() -> None:
    data = manifest(600)
    part = take_part(data, 150)
    assert part.split_sizes == {"val": 50, "train": 100}
    for split in ("train", "val"):
        whole, own = data.split(split).class_counts() / 4, part.split(split).class_counts()
        assert np.abs(whole - own).max() < 2
    assert targets(part).items() < targets(data).items()
    assert take_part(data, 150).rows.equals(part.rows)
    assert not take_part(data, 150, seed=1).rows.equals(part.rows)
    assert take_part(data, 600) is data
    one_held_out = Manifest.from_records(
        data.description, [Record(f"{k}.jpg", "train" if k else "val", (k % 4,)) for k in range(8)]
    )
    assert take_part(one_held_out, 2).split_sizes == {"val": 1, "train": 1}
    assert take_part(one_held_out, 1).split_sizes == {"val": 1, "train": 1}


def test_a_share_of_the_known_labels_of_one_split_is_hidden() -> None:
    data = manifest(5000)
    hidden = hide_labels(data, "train", share=0.4, seed=1)
    before, after = (some.split("train").all_targets() for some in (data, hidden))
    assert ((after == before) | (after == -1)).all()
    assert ((before >= 0) & (after < 0)).sum() / (before >= 0).sum() == pytest.approx(0.4, abs=0.02)
    assert (hidden.split("val").all_targets() == data.split("val").all_targets()).all()
    assert hide_labels(data, "train", share=0.4, seed=1).fingerprint() == hidden.fingerprint()
    assert hide_labels(data, "train", share=0.4, seed=2).fingerprint() != hidden.fingerprint() != data.fingerprint()
    missed = hide_labels(data, "train", share=0.4, become="inactive", seed=1).split("train").all_targets()
    assert (missed == np.where((after < 0) & (before >= 0), 0, before)).all()


@pytest.mark.parametrize("become", ["unknown", "inactive"])
def test_a_single_active_label_of_each_image_is_kept(become: Literal["unknown", "inactive"]) -> None:
    data = manifest(300)
    before = data.split("train").all_targets()
    after = hide_labels(data, "train", single_positive=True, become=become).split("train").all_targets()
    assert ((after == 1).sum(axis=1) == (before == 1).any(axis=1)).all()
    assert (before[after == 1] == 1).all()
    assert (after[before < 0] == -1).all()
    assert (after[(before >= 0) & (after != 1)] == (-1 if become == "unknown" else 0)).all()
