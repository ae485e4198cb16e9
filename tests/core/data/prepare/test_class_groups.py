"""Groups of classes: those that scenes were made of, also where labels are unknown, and stored with the same images."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.prepare.class_groups import class_groups, write_class_groups
from sadcl_core.data.rows import Record
from sadcl_core.data.statistics import label_statistics
from sadcl_core.errors import UsageError

BLOCKS = [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


def manifest(*, unknown: bool = False) -> Manifest:
    """Three scenes of three classes each, with a stray label in some images; class 9 never occurs."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(120):
        active = {k for k in BLOCKS[number % 3] if rng.random() < 0.8} | ({int(rng.integers(9))} if number % 10 == 0 else set())
        hidden = {int(rng.integers(9))} - active if unknown else set()
        records.append(Record(f"{number}.jpg", ("train", "val")[number % 4 == 0], tuple(active), tuple(hidden)))
    names = tuple(f"class {k}" for k in range(10))
    return Manifest.from_records(Description("scenes", Path("/images"), names), records)


@pytest.mark.parametrize("unknown", [False, True])
def test_classes_of_a_scene_are_in_a_group_together_and_in_others_apart(unknown: bool) -> None:
    counts = label_statistics(manifest(unknown=unknown).split("train"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = class_groups(counts, 4)
        apart = class_groups(counts, 3, apart=True)
    assert sorted([*BLOCKS, [9]]) == together
    assert sorted(k for group in apart for k in group) == list(range(10))
    assert not any(len(set(group).intersection(block)) == 3 for group in apart for block in BLOCKS)
    assert class_groups(counts, 4) == together


@pytest.mark.parametrize("number", [2, 9])
@pytest.mark.parametrize("apart", [False, True])
def test_every_class_is_in_one_group(number: int, apart: bool) -> None:
    groups = class_groups(label_statistics(manifest().split("train")), number, apart=apart)
    assert 1 <= len(groups) <= number
    assert sorted(k for group in groups for k in group) == list(range(10))


def test_groups_are_stored_with_all_images_and_their_labels(tmp_path: Path) -> None:
    whole = manifest(unknown=True)
    folder = tmp_path / "groups"
    groups = write_class_groups(whole, 3, folder)
    assert groups == {path: load_manifest(path).classes for path in folder.iterdir()}
    assert sorted(path.name for path in folder.iterdir()) == [f"{kind}-{n}" for kind in ("apart", "together") for n in (1, 2, 3)]
    names: list[str] = []
    for path in sorted(folder.glob("together-*")):
        part = load_manifest(path)
        assert part.description.name == f"scenes-{path.name}"
        places = [whole.classes.index(name) for name in part.classes]
        for split in ("train", "val"):
            assert list(part.split(split)) == list(whole.split(split))
            assert np.array_equal(part.split(split).all_targets(), whole.split(split).all_targets()[:, places])
        names += part.classes
    assert sorted(names) == sorted(whole.classes)


@pytest.mark.parametrize("number", [1, 10, 11])
def test_groups_that_cannot_be_made_are_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(UsageError, match=rf"--class-groups {number}: give 2 groups or more, and fewer than the 10 classes"):
        write_class_groups(manifest(), number, tmp_path / "groups")
