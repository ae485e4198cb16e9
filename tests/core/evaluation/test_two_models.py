from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from sadcl_core.errors import DataError
from sadcl_core.evaluation.evaluate import evaluate_scores
from sadcl_core.evaluation.scored_split import ScoredSplit
from sadcl_core.evaluation.two_models import compare_scored
from sadcl_core.metrics import average_precisions, bootstrap_average_precision, interval

CLASSES = ("a", "b", "c")


def make(noise: float, *, seed: int = 0, n: int = 300, name: str = "one") -> ScoredSplit:
    """Scores of the same images and labels, the better the less noise there is."""
    truth = np.random.default_rng(0).random((n, 3)) < 0.2
    scores = 1 / (1 + np.exp(-(2 * truth - 1 + noise * np.random.default_rng(seed).standard_normal((n, 3)))))
    return ScoredSplit(name, scores.astype(np.float32), truth.astype(np.int8), CLASSES)


def test_the_same_scores_do_not_differ() -> None:
    paired = compare_scored(make(1.0), make(1.0, name="two"), resamples=50)
    for difference in (paired.map_interpolated, paired.map_non_interpolated):
        assert (difference.value, difference.low, difference.high, difference.clear) == (0, 0, 0, False)
    assert paired.moved == []
    assert paired.names == ("one", "two")


def test_a_better_model_is_found_and_its_classes_named() -> None:
    paired = compare_scored(make(2.0), make(0.5, seed=1), resamples=200)
    first, second = (make(2.0), make(0.5, seed=1))
    for name in ("interpolated", "non_interpolated"):
        difference = getattr(paired, f"map_{name}")
        expected = [100 * np.nanmean(getattr(average_precisions(c.scores, c.targets), name)) for c in (first, second)]
        assert (difference.first, difference.second) == pytest.approx(tuple(expected))
        assert difference.low <= difference.value <= difference.high
        assert difference.clear
    assert {name for name, _ in paired.moved} == set(CLASSES)
    values = [abs(difference.value) for _, difference in paired.moved]
    assert values == sorted(values, reverse=True)
    document = paired.as_json()
    json.dumps(document, allow_nan=False)
    assert document["mAP_interpolated"]["difference"] == pytest.approx(paired.map_interpolated.value, abs=1e-4)
    assert document["classes_moved_by_chance"] == pytest.approx(0.15)


def test_what_is_hard_for_both_cancels_out() -> None:
    """Two models that err on the same images: the interval of the difference is narrower than either's own."""
    first = make(1.5)
    nearly = first.scores + 0.02 * np.random.default_rng(5).random(first.scores.shape).astype(np.float32)
    second = ScoredSplit("two", nearly / 1.02, first.targets, CLASSES)
    paired = compare_scored(first, second, resamples=200).map_interpolated
    low, high = evaluate_scores(first.scores, first.targets, resamples=200).numbers["mAP_interpolated_interval"]
    assert paired.high - paired.low < 0.5 * (high - low)


def test_classes_in_another_order() -> None:
    first, second = make(1.0), make(0.7, seed=3)
    order = [2, 0, 1]
    turned = ScoredSplit(
        "two",
        second.scores[:, order],
        second.targets[:, order],
        tuple(CLASSES[k] for k in order),
    )
    assert (
        compare_scored(first, turned, resamples=40).as_json()["per_class"]
        == compare_scored(first, second, resamples=40).as_json()["per_class"]
    )


def test_a_class_without_positives_has_no_difference() -> None:
    first, second = make(1.0), make(0.7, seed=3)
    for candidate in (first, second):
        candidate.targets[:, 1] = 0
    paired = compare_scored(first, second, resamples=40)
    assert paired.per_class[1] is None
    assert paired.by_chance == pytest.approx(0.1)
    json.dumps(paired.as_json(), allow_nan=False)


def test_a_class_without_negatives_has_no_difference_and_no_part_in_the_mean() -> None:
    first, second = make(0.3), make(0.6, seed=1, name="two")
    for one in (first, second):
        one.targets[:, 1] = 1
    result = compare_scored(first, second, resamples=100)
    assert result.per_class[1] is None
    keep = [k for k in range(len(first.classes)) if k != 1]
    some = (
        replace(one, scores=one.scores[:, keep], targets=one.targets[:, keep], classes=tuple("abc"[k] for k in keep))
        for one in (first, second)
    )
    assert result.map_interpolated == compare_scored(*some, resamples=100).map_interpolated


def other_targets(targets: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    return np.roll(targets, 1, axis=0)


def test_other_images_labels_or_classes_are_refused() -> None:
    first, second = make(1.0), make(1.0, n=200)
    with pytest.raises(DataError, match="not scored on the same images"):
        compare_scored(first, second, resamples=10)
    rolled = ScoredSplit("two", first.scores, other_targets(first.targets), CLASSES)
    with pytest.raises(DataError, match="not scored on the same images"):
        compare_scored(first, rolled, resamples=10)
    other = ScoredSplit("two", first.scores, first.targets, ("a", "b", "d"))
    with pytest.raises(DataError, match="do not share all classes, such as 'c'"):
        compare_scored(first, other, resamples=10)


def with_names(candidate: ScoredSplit, names: list[str], order: npt.NDArray[np.int64] | None = None) -> ScoredSplit:
    scores, targets = candidate.scores, candidate.targets
    if order is not None:
        scores, targets, names = scores[order], targets[order], [names[int(row)] for row in order]
    return ScoredSplit(candidate.name, scores, targets, CLASSES, names)


def test_images_in_another_order_are_paired_by_name() -> None:
    """Rows that change places without changing a label: only names can tell."""
    first, second = make(2.0), make(0.5, seed=1)
    names = [f"{number}.jpg" for number in range(300)]
    order = np.lexsort((np.random.default_rng(0).random(300), *first.targets.T))
    order = order[np.random.default_rng(1).permutation(300)]
    expected = compare_scored(with_names(first, names), with_names(second, names), resamples=60).as_json()
    assert compare_scored(with_names(first, names), with_names(second, names, order), resamples=60).as_json() == expected


def test_images_of_other_names_are_refused() -> None:
    names = [f"{number}.jpg" for number in range(300)]
    others = [*names[:-1], "other.jpg"]
    with pytest.raises(DataError, match=r"299\.jpg"):
        compare_scored(with_names(make(1.0), names), with_names(make(1.0), others), resamples=10)


def test_a_few_positives_are_never_sure() -> None:
    """The two differ in the one image of a class: that proves nothing."""
    first, second = make(0.1), make(0.1)
    for candidate in (first, second):
        candidate.targets[:, 1] = 0
        candidate.targets[7, 1] = 1
    first.scores[7, 1], second.scores[7, 1] = 0.999, 0.3
    paired = compare_scored(first, second, resamples=60)
    rare = paired.per_class[1]
    assert rare is not None
    assert rare.value < -20
    assert np.isnan(rare.low)
    assert not rare.clear
    assert [name for name, _ in paired.moved] == []
    assert paired.by_chance == pytest.approx(0.1)
    json.dumps(paired.as_json(), allow_nan=False)


def test_the_interval_is_that_of_second_minus_first() -> None:
    first, second = make(2.0), make(1.0, seed=1)
    paired, reverse = compare_scored(first, second, resamples=100), compare_scored(second, first, resamples=100)
    drawn = [100 * bootstrap_average_precision(one.scores, one.targets, samples=100).interpolated for one in (first, second)]
    differences = drawn[1].mean(axis=1) - drawn[0].mean(axis=1)
    expected = interval(differences, paired.map_interpolated.value)
    assert (paired.map_interpolated.low, paired.map_interpolated.high) == pytest.approx(expected)
    assert (reverse.map_interpolated.low, reverse.map_interpolated.high) == pytest.approx((-expected[1], -expected[0]))
    for k in range(3):
        one, other = paired.per_class[k], reverse.per_class[k]
        assert one is not None
        assert other is not None
        assert (one.low, one.high) == pytest.approx(interval(drawn[1][:, k] - drawn[0][:, k], one.value))
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
