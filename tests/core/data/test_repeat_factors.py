from __future__ import annotations

import math
import statistics
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sadcl_core.data.manifest import Description, Manifest, Split
from sadcl_core.data.repeat_factors import class_repeat_factors, repeat_factors
from sadcl_core.data.rows import SCHEMA, Record


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


def naive(split: Split, threshold: float | None) -> list[float]:
    count, classes = len(split), len(split.manifest.classes)
    images = [[k for k in range(classes) if split.targets(i)[k] == 1] for i in range(count)]
    frequency = {k: sum(k in labels for labels in images) / count for k in range(classes)}
    t = statistics.median(f for f in frequency.values() if f) if threshold is None else threshold
    factors = [max([1.0] + [math.sqrt(t / frequency[k]) for k in labels]) for labels in images]
    return [factor / sum(factors) for factor in factors]


@pytest.mark.parametrize("threshold", [None, 1e-6, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
@pytest.mark.parametrize("name", ["train", "test", "all"])
def test_equals_naive_loops(monkeypatch: pytest.MonkeyPatch, threshold: float | None, chunk: int, name: str) -> None:
    monkeypatch.setattr("sadcl_core.data.manifest.CHUNK", chunk)
    split = random_manifest(0).split(name)
    factors = repeat_factors(split, threshold=threshold)
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


def test_many_images_and_classes_take_no_memory_for_their_product() -> None:
    images, classes = 100_000, 5_000
    rng = np.random.default_rng(0)
    ends = np.concatenate([[0], np.cumsum(rng.integers(0, 5, images))]).astype(np.int32)
    labels = (classes * rng.random(ends[-1]) ** 3).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(labels))
    empty = pa.ListArray.from_arrays(pa.array(np.zeros(images + 1, np.int32)), pa.array([], pa.int32()))
    split = pa.array(["train"] * images).dictionary_encode()
    names = pa.array([f"{i}.jpg" for i in range(images)])
    rows = pa.table([names, split, lists, empty, pa.nulls(images, SCHEMA.field("boxes").type)], schema=SCHEMA)
    train = Manifest(describe(classes), rows).split("train")
    tracemalloc.start()
    factors = repeat_factors(train)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert factors.shape == (images,)
    assert peak < 20 * 2**20  # the product would be 500 MB


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.5, math.nan])
def test_refuses_impossible_thresholds(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold above 0"):
        repeat_factors(random_manifest(2).split("train"), threshold=threshold)
