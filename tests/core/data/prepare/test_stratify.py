from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iterstrat.ml_stratifiers import IterativeStratification

from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.prepare.assignment import assign_splits, extend_splits
from sadcl_core.data.prepare.stratify import parse_fractions, stratify
from sadcl_core.data.rows import Box, Record
from sadcl_core.errors import UsageError

Dense = npt.NDArray[np.bool_]
Splits = npt.NDArray[np.int8]
THREE = (0.8, 0.1, 0.1)


def zipf(images: int, classes: int, seed: int, *, labels: float = 3.0, bare: float = 0.05) -> Dense:
    """(N, K) targets, the class counts skewed and some images without a label."""
    rng = np.random.default_rng(seed)
    often = 1 / np.arange(1, classes + 1)
    dense: Dense = rng.random((images, classes)) < np.minimum(often / often.sum() * labels, 0.6)
    dense[rng.random(images) < bare] = False
    return dense


def one_label(counts: Sequence[int], seed: int = 0) -> Dense:
    """(N, K) targets, one label an image."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    dense: Dense = labels[:, None] == np.arange(len(counts))
    return dense


def sparse(dense: Dense) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    return np.nonzero(dense)[1].astype(np.int32), np.concatenate([[0], np.cumsum(dense.sum(axis=1))])


def divide(
    dense: Dense, fractions: Sequence[float] = THREE, *, seed: int = 0, groups: npt.NDArray[np.int64] | None = None
) -> Splits:
    split = stratify(*sparse(dense), fractions, seed=seed, groups=groups)
    assert split.shape == (len(dense),)
    assert split.dtype == np.int8
    return split


def counts(dense: Dense, split: npt.NDArray[np.integer], splits: int = 3) -> npt.NDArray[np.int64]:
    """(S, K) images of each class in each split."""
    return np.stack([dense[split == number].sum(axis=0) for number in range(splits)])


def off(dense: Dense, split: npt.NDArray[np.integer], fractions: Sequence[float]) -> float:
    """Images by which a class differs from its fraction of a split, on average."""
    return float(np.abs(counts(dense, split, len(fractions)) - np.outer(fractions, dense.sum(axis=0))).mean())


def label_distribution(dense: Dense, split: npt.NDArray[np.integer], splits: int) -> float:
    """The measure LD of Sechidis et al.: how the odds of a class in a split differ from those in all images."""
    total, there = dense.sum(axis=0), counts(dense, split, splits)
    sizes = np.bincount(split, minlength=splits)[:, None]
    return float(np.abs(there / (sizes - there) - total / (len(dense) - total)).mean())


@pytest.mark.parametrize(
    ("text", "fractions"),
    [
        ("0.8,0.1,0.1", {"train": 0.8, "val": 0.1, "test": 0.1}),
        (" 0.75 , 0.25 ", {"train": 0.75, "val": 0.25}),
        ("80,10,10", {"train": 0.8, "val": 0.1, "test": 0.1}),
        ("0.3333333,0.3333333,0.3333334", {"train": 0.3333333, "val": 0.3333333, "test": 0.3333334}),
        ("33.3,66.7", {"train": 0.333, "val": 0.667}),
        ("test", {"test": 1.0}),
        ("train", {"train": 1.0}),
        ("hold-out_2", {"hold-out_2": 1.0}),
    ],
)
def test_fractions_that_can_be_read(text: str, fractions: dict[str, float]) -> None:
    assert list(parse_fractions(text)) == list(fractions)
    assert parse_fractions(text) == pytest.approx(fractions)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "does not say"),
        ("1", "does not say"),
        ("0.8", "does not say"),
        ("1e2", "does not say"),
        ("nan", "does not say"),
        ("a name", "does not say"),
        ("all/of/it", "does not say"),
        ("0.7,0.1,0.1,0.1", "does not say"),
        ("0.8,0.1,", "not a number above 0"),
        ("0.8,0.2,0", "not a number above 0"),
        ("1.2,-0.2", "not a number above 0"),
        ("0.5,nan", "not a number above 0"),
        ("inf,0.1", "not a number above 0"),
        ("train,val", "not a number above 0"),
        ("0.8;0.2", "does not say"),
        ("0.8,0.1", "sum to 0.9"),
        ("0.5,0.50001", "sum to 1.00001"),
        ("80,10", "sum to 90"),
    ],
)
def test_fractions_that_cannot_be_read(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=r"Write 0\.8,0\.1,0\.1 for train, val and test") as caught:
        parse_fractions(text)
    assert what in str(caught.value)


@pytest.mark.parametrize("fractions", [THREE, (0.7, 0.3), (0.62, 0.17, 0.21), (0.2,) * 5, (0.5, 0, 0.5)])
@pytest.mark.parametrize("images", [7, 100, 1001])
def test_the_sizes_are_those_asked_for(fractions: tuple[float, ...], images: int) -> None:
    split = divide(zipf(images, 12, images), fractions)
    sizes = np.bincount(split, minlength=len(fractions))
    assert np.abs(sizes - images * np.array(fractions)).max() < 1
    assert ((sizes > 0) == (np.array(fractions) > 0)).all()


def test_no_split_is_empty() -> None:
    assert sorted(divide(zipf(3, 4, 0))) == [0, 1, 2]
    assert np.bincount(divide(zipf(10, 4, 0), (0.98, 0.01, 0.01))).tolist() == [8, 1, 1]


@pytest.mark.parametrize("fractions", [THREE, (0.7, 0.3), (0.2,) * 5])
def test_as_even_as_the_dense_algorithm(fractions: tuple[float, ...]) -> None:
    means = []
    for seed in range(5):
        dense = zipf(2000, 30, seed)
        random = np.random.default_rng(seed)
        shuffled = random.permutation(len(dense))
        theirs = np.empty(len(dense), np.int64)
        theirs[shuffled] = IterativeStratification(dense[shuffled], np.array(fractions), np.random.RandomState(seed))
        ways = (divide(dense, fractions, seed=seed), theirs, random.choice(len(fractions), len(dense), p=fractions))
        means.append([(off(dense, way, fractions), label_distribution(dense, way, len(fractions))) for way in ways])
    ours, dense_ones, at_random = np.mean(means, axis=0)
    assert ours[0] < 1.1 * dense_ones[0] + 0.02
    assert ours[1] < 1.1 * dense_ones[1] + 1e-4
    assert (ours < at_random / 5).all()


def test_many_labels_an_image() -> None:
    dense = zipf(2000, 60, 3, labels=10)
    theirs = IterativeStratification(dense, np.array(THREE), np.random.RandomState(0))
    assert off(dense, divide(dense), THREE) < off(dense, theirs, THREE) / 2


@pytest.mark.parametrize("images", [12, 16, 57])
def test_many_classes_of_one_size_do_not_round_to_the_same_side(images: int) -> None:
    dense = one_label([images] * 150)
    there = counts(dense, divide(dense))
    assert np.abs(there - images * np.array(THREE)[:, None]).max() < 2.5
    assert there.min() >= 1


def test_rare_classes_take_nothing_from_common_ones() -> None:
    dense = one_label([5] * 100 + [200] * 8)
    there = counts(dense, divide(dense))
    assert set(there[0, :100]) == {4}
    assert there[1:, :100].sum(axis=1).tolist() == [50, 50]
    assert there[:, 100:].tolist() == [[160] * 8, [20] * 8, [20] * 8]


def test_the_same_seed_gives_the_same_splits() -> None:
    dense = zipf(300, 10, 0)
    assert (divide(dense, seed=3) == divide(dense, seed=3)).all()
    assert (divide(dense, seed=3) != divide(dense, seed=4)).any()


def test_the_order_of_the_labels_of_an_image_and_repeated_ones_do_not_matter() -> None:
    labels, ends = np.array([0, 1, 1, 2, 0, 2], np.int32), np.array([0, 2, 4, 5, 6])
    other, other_ends = np.array([1, 0, 1, 2, 1, 0, 0, 2], np.int32), np.array([0, 3, 5, 7, 8])
    for seed in range(5):
        split = stratify(labels, ends, (0.5, 0.5), seed=seed)
        assert (split == stratify(other, other_ends, (0.5, 0.5), seed=seed)).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_misses_a_split_by_an_image_or_two(seed: int) -> None:
    dense = zipf(2000, 200, seed)
    rare = dense.sum(axis=0) < 10
    assert rare.sum() > 5
    exact = np.outer(THREE, dense.sum(axis=0))
    difference = np.abs(counts(dense, divide(dense, seed=seed)) - exact)[:, rare]
    assert difference.max() < 2
    assert (difference < 1).mean() > 0.9


def test_very_rare_classes_together_have_their_fraction() -> None:
    dense = one_label([1] * 20 + [2] * 60 + [1000])
    there = counts(dense, divide(dense))
    assert np.abs(there[:, :80].sum(axis=1) - 140 * np.array(THREE)).max() < 8
    assert there[0, 20:80].min() >= 1


def test_more_rare_classes_than_places() -> None:
    there = counts(dense := one_label([3] * 100), divide(dense))
    assert there.sum(axis=1).tolist() == [240, 30, 30]
    assert there[0].min() >= 1  # no class is kept from train
    assert there[1:].max() == 1


def test_images_without_labels_are_spread_too() -> None:
    dense = zipf(1000, 10, 0, bare=0.3)
    bare = np.bincount(divide(dense)[~dense.any(axis=1)], minlength=3)
    assert np.abs(bare - bare.sum() * np.array(THREE)).max() < 12


def test_nothing_but_images_without_labels() -> None:
    split = divide(np.zeros((50, 0), dtype=bool))
    assert np.bincount(split).tolist() == [40, 5, 5]
    assert (split != divide(np.zeros((50, 0), dtype=bool), seed=1)).any()


def test_one_split() -> None:
    assert divide(np.ones((1, 1), dtype=bool), [1.0]).tolist() == [0]
    assert divide(np.ones((4, 1), dtype=bool), [0, 1.0]).tolist() == [1] * 4
    assert divide(zipf(6, 3, 0), [1.0], groups=np.zeros(6, np.int64)).tolist() == [0] * 6


@pytest.mark.parametrize(
    ("images", "groups", "message"),
    [
        (0, None, "0 different images cannot be divided into 3 splits"),
        (2, None, "2 different images cannot be divided into 3 splits"),
        (5, [3] * 5, r"1 different image, or groups of images that stay together \(5 images\), cannot be divided into 3 splits"),
        (
            5,
            [0, 0, 1, 1, 1],
            r"2 different images, or groups of images that stay together \(5 images\), cannot be divided into 3 splits",
        ),
    ],
)
def test_more_splits_than_images(images: int, groups: list[int] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        divide(np.ones((images, 2), dtype=bool), groups=None if groups is None else np.array(groups))


def test_a_large_group_leaves_no_split_empty() -> None:
    for seed in range(10):
        split = divide(np.ones((102, 1), dtype=bool), seed=seed, groups=np.array([5] * 100 + [-1, 8]))
        assert len(set(split[:100])) == 1
        assert set(split) == {0, 1, 2}


def test_groups_of_one_are_no_groups() -> None:
    dense = zipf(200, 8, 0)
    alone = divide(dense)
    assert (alone == divide(dense, groups=np.full(200, -1))).all()
    assert (alone == divide(dense, groups=np.arange(200) + 1000)).all()


def test_copies_stay_together_and_the_fractions_hold() -> None:
    originals = zipf(1000, 20, 0)
    copied = np.repeat(np.arange(1000), np.random.default_rng(0).choice([1, 1, 1, 2, 3], 1000))
    dense = originals[copied]
    split = divide(dense, groups=copied)
    assert all(len(set(split[copied == group])) == 1 for group in range(1000))
    assert np.abs(np.bincount(split) - len(dense) * np.array(THREE)).max() <= 3
    assert off(dense, split, THREE) < 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 6), st.sets(st.integers(0, 5))), min_size=3, max_size=40), st.integers(0, 9))
def test_groups_are_never_torn(images: list[tuple[int, set[int]]], seed: int) -> None:
    groups = np.array([group for group, _ in images])
    units = len(set(groups[groups >= 0])) + groups.tolist().count(-1)
    dense = np.array([[k in labels for k in range(6)] for _, labels in images])
    fractions = THREE[: min(units, 3)]
    split = divide(dense, fractions, seed=seed, groups=groups)
    for group in set(groups[groups >= 0]):
        assert len(set(split[groups == group])) == 1
    assert set(split) == set(range(len(fractions)))
    if (np.unique(groups[groups >= 0], return_counts=True)[1] <= 1).all():
        exact = len(images) * np.array(fractions) / sum(fractions)
        assert np.abs(np.bincount(split) - exact).max() < 1 or exact.min() < 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(3, 30), min_size=1, max_size=8), st.integers(0, 9))
def test_classes_of_one_label_images_are_even(rare: list[int], seed: int) -> None:
    dense = one_label([*rare, 300], seed)
    fractions = (0.6, 0.2, 0.2)
    assert np.abs(counts(dense, divide(dense, fractions, seed=seed)) - np.outer(fractions, [*rare, 300])).max() < 3


def manifest_of(images: int) -> Manifest:
    records = [
        Record(
            f"{number:03d}.jpg",
            "train" if number % 2 else "old",
            active=tuple({number % 3, number % 4} - {2}),
            unknown=(4,) if number % 5 == 0 else (),
            boxes=(Box(number % 3, 1, 2, 3, 4),) if number % 7 else None,
        )
        for number in range(images)
    ]
    return Manifest.from_records(Description("mine", Path("/images"), tuple("abcde")), records)


@pytest.mark.parametrize("chunks", [1, 3])
def test_assigned_rows_keep_what_they_say(chunks: int, tmp_path: Path) -> None:
    manifest = manifest_of(60)
    step = 60 // chunks
    manifest = Manifest(manifest.description, pa.concat_tables(manifest.rows.slice(k, step) for k in range(0, 60, step)))
    assert manifest.rows["active"].num_chunks == chunks
    divided, order = assign_splits(manifest, {"val": 0.25, "train": 0.5, "test": 0.25}, seed=0)
    divided.rows.validate(full=True)
    assert divided.rows.schema == manifest.rows.schema
    assert divided.split_sizes == {"val": 15, "train": 30, "test": 15}
    assert divided.description == manifest.description
    before, after = (one.rows.drop_columns("split").to_pylist() for one in (manifest, divided))
    assert after == [before[row] for row in order]
    assert sorted(order) == list(range(60))
    for name in divided.splits:
        assert list(divided.split(name)) == sorted(divided.split(name))  # as in the manifest before
    stored = divided.save(tmp_path)
    assert stored.rows.equals(divided.rows)
    assert list(load_manifest(tmp_path).split("test")) == list(divided.split("test"))


def test_a_manifest_that_is_stored_is_not_touched(tmp_path: Path) -> None:
    stored = manifest_of(20).save(tmp_path)
    divided, _ = assign_splits(stored, {"test": 1.0}, seed=0)
    assert divided.folder is None
    assert list(divided.split("test")) == [f"{number:03d}.jpg" for number in range(20)]
    assert load_manifest(tmp_path).split_sizes == {"old": 10, "train": 10}


def test_unknown_labels_have_no_say() -> None:
    description = Description("mine", Path("/images"), ("a", "b"))
    records = [Record(f"{number:03d}.jpg", "all", (0,) if number % 4 == 0 else ()) for number in range(80)]
    unknown = [record._replace(unknown=(1,) if number < 30 else ()) for number, record in enumerate(records)]
    known, other = (Manifest.from_records(description, rows) for rows in (records, unknown))
    known, order = assign_splits(known, {"train": 0.5, "val": 0.5}, seed=1)
    assert assign_splits(other, {"train": 0.5, "val": 0.5}, seed=1)[1].tolist() == order.tolist()
    assert known.split("val").class_counts().tolist() == [10, 0]


def test_copies_of_an_image_in_a_manifest() -> None:
    groups = np.arange(60) // 3
    divided, _ = assign_splits(manifest_of(60), parse_fractions("60,20,20"), seed=0, groups=groups)
    where = {image: name for name in divided.splits for image in divided.split(name)}
    assert all(len({where[f"{3 * group + copy:03d}.jpg"] for copy in range(3)}) == 1 for group in range(20))
    assert divided.split_sizes == {"train": 36, "val": 12, "test": 12}


def test_the_active_lists_of_a_part_of_a_manifest() -> None:
    manifest = manifest_of(60)
    part = Manifest(manifest.description, manifest.rows.slice(13, 30))
    divided, _ = assign_splits(part, {"train": 0.5, "val": 0.5}, seed=0)
    assert sorted(divided.rows["image"].to_pylist()) == [f"{number:03d}.jpg" for number in range(13, 43)]
    total = part.split("all").class_counts()
    assert np.abs(divided.split("val").class_counts() - total / 2).max() <= 1


TENTHS = {"train": 0.8, "val": 0.1, "test": 0.1}


def splits_of(manifest: Manifest) -> dict[str, str]:
    images, splits = (manifest.rows[name].to_pylist() for name in ("image", "split"))
    return dict(zip(images, splits, strict=True))


def extended(images: int, known: int, *, groups: npt.NDArray[np.int64] | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """The splits of some images, and those of more, of which the first are these."""
    before = splits_of(assign_splits(manifest_of(known), TENTHS, seed=0)[0])
    manifest = manifest_of(images)
    names = [before.get(image) for image in manifest.rows["image"].to_pylist()]
    divided, order = extend_splits(manifest, names, TENTHS, seed=0, groups=groups)
    divided.rows.validate(full=True)
    assert divided.rows.drop_columns("split").equals(manifest.rows.take(pa.array(order)).drop_columns("split"))
    assert divided.splits == list(TENTHS)
    return before, splits_of(divided)


def test_images_that_were_divided_stay_and_new_ones_are_divided() -> None:
    before, after = extended(200, 100)
    assert after.items() >= before.items()
    new = [split for image, split in after.items() if image not in before]
    assert {name: new.count(name) for name in TENTHS} == {"train": 80, "val": 10, "test": 10}


def test_a_new_copy_goes_where_its_original_is() -> None:
    groups = np.arange(200) % 100
    before, after = extended(200, 100, groups=groups)
    assert after.items() >= before.items()
    assert all(
        after[f"{number + 100:03d}.jpg"] == split for number, split in enumerate(after[f"{k:03d}.jpg"] for k in range(100))
    )


@pytest.mark.parametrize("new", [1, 2])
def test_too_few_new_images_for_every_split_go_to_the_largest(new: int) -> None:
    before, after = extended(100 + new, 100)
    assert after.items() >= before.items()
    assert {split for image, split in after.items() if image not in before} == {"train"}


def test_all_is_divided_anew_where_a_split_would_be_empty_otherwise() -> None:
    manifest = manifest_of(40)
    divided, _ = extend_splits(manifest, ["train"] * 36 + ["val"] * 4, TENTHS, seed=3)
    assert splits_of(divided) == splits_of(assign_splits(manifest, TENTHS, seed=3)[0])
