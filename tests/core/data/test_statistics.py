from __future__ import annotations

import math
import statistics
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sadcl_core.data.manifest import Description, Manifest, Shards
from sadcl_core.data.rows import SCHEMA, Record
from sadcl_core.data.split import Split
from sadcl_core.data.statistics import (
    class_repeat_factors,
    co_occurrence,
    label_statistics,
    median_short_side,
    repeat_factors,
)


def describe(classes: int) -> Description:
    return Description(name="some", root=Path("/images"), classes=tuple(f"class {k}" for k in range(classes)))


def random_manifest(seed: int, *, images: int = 60, classes: int = 9) -> Manifest:
    """Classes from common to never; some images without a label, some labels unknown, splits that are mixed up."""
    rng = np.random.default_rng(seed)
    often = np.array([0.6 / (k + 1) if k < classes - 1 else 0 for k in range(classes)])
    records = []
    for i in range(images):
        active = tuple(np.flatnonzero(rng.random(classes) < often).tolist())
        unknown = tuple(np.flatnonzero(rng.random(classes) < 0.1).tolist())
        records.append(Record(f"{i}.jpg", ("train", "test")[int(rng.random() < 0.3)], active, unknown))
    return Manifest.from_records(describe(classes), records)


@pytest.mark.parametrize("name", ["train", "test", "all"])
@pytest.mark.parametrize("seed", range(4))
def test_label_statistics_equal_a_naive_loop(seed: int, name: str) -> None:
    split = random_manifest(seed).split(name)
    targets = [split.targets(i).tolist() for i in range(len(split))]
    classes = range(len(split.manifest.classes))
    counts = label_statistics(split)
    assert {array.dtype for array in vars(counts).values()} == {np.dtype(np.int64)}
    assert counts.active.tolist() == [sum(row[i] == 1 for row in targets) for i in classes]
    assert counts.together.tolist() == [[sum(row[i] == 1 and row[j] == 1 for row in targets) for j in classes] for i in classes]
    assert counts.known.tolist() == [[sum(row[i] == 1 and row[j] != -1 for row in targets) for j in classes] for i in classes]
    assert np.array_equal(counts.together.diagonal(), counts.active)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_add_up(block: int) -> None:
    split = random_manifest(0).split("train")
    for other in ("active", "unknown"):
        assert np.array_equal(co_occurrence(split, other, block=block).toarray(), co_occurrence(split, other).toarray())


def test_the_share_of_a_class_leaves_out_images_in_which_the_other_is_unknown() -> None:
    records = [Record("a.jpg", "train", (0, 1)), Record("b.jpg", "train", (0,)), Record("c.jpg", "train", (0,), unknown=(1,))]
    counts = label_statistics(Manifest.from_records(describe(3), records).split("train"))
    np.testing.assert_array_equal(counts.conditional(), [[0, 0.5, 0], [1, 0, 0], [0, 0, 0]])


def test_the_share_of_a_class_whose_other_label_is_never_known_is_zero() -> None:
    records = [Record("a.jpg", "train", (0,), unknown=(1,))]
    counts = label_statistics(Manifest.from_records(describe(2), records).split("train"))
    assert counts.known.tolist() == [[1, 0], [0, 0]]
    assert not counts.conditional().any()


def test_one_split_is_counted_alone() -> None:
    records = [Record("a.jpg", "train", (0,)), Record("b.jpg", "test", (0, 1), unknown=(2,))]
    counts = label_statistics(Manifest.from_records(describe(3), records).split("train"))
    assert counts.together.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert counts.known.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


def naive(split: Split, threshold: float | None) -> list[float]:
    count, classes = len(split), len(split.manifest.classes)
    images = [[k for k in range(classes) if split.targets(i)[k] == 1] for i in range(count)]
    frequency = {k: sum(k in labels for labels in images) / count for k in range(classes)}
    t = statistics.median(f for f in frequency.values() if f) if threshold is None else threshold
    factors = [max([1.0] + [math.sqrt(t / frequency[k]) for k in labels]) for labels in images]
    return [factor / sum(factors) for factor in factors]


@pytest.mark.parametrize("threshold", [None, 1e-6, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("block", [1, 7, 1 << 16])
@pytest.mark.parametrize("name", ["train", "test", "all"])
def test_repeat_factors_equal_naive_loops(threshold: float | None, block: int, name: str) -> None:
    split = random_manifest(0).split(name)
    factors = repeat_factors(split, threshold=threshold, block=block)
    assert factors.dtype == np.float64
    assert factors.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(factors, naive(split, threshold), rtol=1e-12)


def test_the_example_of_the_paper() -> None:
    """A class in t / 4 of the images is drawn twice as often, one above t as often as without."""
    factors = class_repeat_factors(np.array([1000, 100, 25, 1, 0]), 100_000, threshold=0.001)
    np.testing.assert_allclose(factors, [1, 1, 2, 10, 1])


def test_without_a_threshold_the_rarer_half_of_the_classes_that_occur_is_repeated() -> None:
    factors = class_repeat_factors(np.array([0, 90, 40, 10, 0]), 100)
    np.testing.assert_allclose(factors, [1, 1, 1, 2, 1])


def test_an_image_is_drawn_as_its_rarest_class() -> None:
    records = [Record(f"{i}.jpg", "train", (0,)) for i in range(8)]
    records += [Record("rare.jpg", "train", (0, 1)), Record("none.jpg", "train", ())]
    factors = repeat_factors(Manifest.from_records(describe(3), records).split("train"), threshold=0.4)
    np.testing.assert_allclose(factors / factors[0], [*[1.0] * 8, 2.0, 1.0])


def test_unknown_labels_change_nothing() -> None:
    manifest = random_manifest(1)
    split = manifest.split("all")
    known = [Record(path, "train", tuple(split.active(i))) for i, path in enumerate(split)]
    assert np.array_equal(repeat_factors(split), repeat_factors(Manifest.from_records(describe(9), known).split("train")))


def test_without_any_label_every_image_is_drawn_alike() -> None:
    split = Manifest.from_records(describe(2), [Record(f"{i}.jpg", "train", ()) for i in range(4)]).split("train")
    assert repeat_factors(split).tolist() == [0.25] * 4


def test_classes_of_one_frequency_are_drawn_alike() -> None:
    split = Manifest.from_records(describe(4), [Record(f"{i}.jpg", "train", (i % 4,)) for i in range(20)]).split("train")
    np.testing.assert_allclose(repeat_factors(split), 1 / 20)


def many(images: int, classes: int) -> Split:
    """Up to 4 labels an image, common classes and rare ones."""
    rng = np.random.default_rng(0)
    ends = np.concatenate([[0], np.cumsum(rng.integers(0, 5, images))]).astype(np.int32)
    labels = (classes * rng.random(ends[-1]) ** 3).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(labels))
    split = pa.array(["train"] * images).dictionary_encode()
    names = pa.array([f"{i}.jpg" for i in range(images)])
    rows = pa.table([names, split, lists, lists, pa.nulls(images, SCHEMA.field("boxes").type)], schema=SCHEMA)
    return Manifest(describe(classes), rows).split("train")


def peak_of(work: Callable[[Split], object], split: Split) -> int:
    """Bytes that were in use at most."""
    tracemalloc.start()
    work(split)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_many_images_and_classes_take_no_memory_for_their_product() -> None:
    assert peak_of(repeat_factors, many(100_000, 5_000)) < 20 * 2**20  # the product would be 500 MB
    assert peak_of(label_statistics, many(100_000, 500)) < 20 * 2**20  # 50 MB; of it a count of pairs is 2 MB


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.5, math.nan])
def test_refuses_impossible_thresholds(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold above 0"):
        repeat_factors(random_manifest(2).split("train"), threshold=threshold)


def squares(folder: Path, sides: list[int]) -> Manifest:
    for number, side in enumerate(sides):
        Image.new("RGB", (side, side * 2)).save(folder / f"{number}.png")
    records = [Record(f"{number}.png", "train", (0,)) for number in range(len(sides))]
    return Manifest.from_records(Description("mine", folder, ("cat",)), records)


def test_the_median_of_the_shorter_sides(tmp_path: Path) -> None:
    assert median_short_side(squares(tmp_path, [10, 20, 90]).split("train")) == 20


def test_a_sample_is_spread_over_the_split(tmp_path: Path) -> None:
    split = squares(tmp_path, [10] * 20 + [40] * 30).split("train")
    assert median_short_side(split, sample=5) == 40
    assert median_short_side(split, sample=1) == 10


def test_unknown_where_nothing_can_be_opened(tmp_path: Path) -> None:
    manifest = squares(tmp_path, [10, 20])
    (tmp_path / "0.png").write_bytes(b"no image")
    assert median_short_side(manifest.split("train")) == 20
    (tmp_path / "1.png").unlink()
    assert median_short_side(manifest.split("train")) is None


def test_shards_are_not_fetched_for_it(tmp_path: Path) -> None:
    manifest = squares(tmp_path, [10, 20])
    shards = Shards("https://host/", {"train": (("train-000000.tar", 2),)})
    assert median_short_side(Manifest(replace(manifest.description, shards=shards), manifest.rows).split("train")) is None
