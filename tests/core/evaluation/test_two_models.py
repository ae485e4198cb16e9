from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

from sadcl_core.errors import DataError
from sadcl_core.evaluation.candidates import Candidate
from sadcl_core.evaluation.two_models import compare
from sadcl_core.inference.score import Scores
from sadcl_core.metrics import average_precisions, bootstrap_average_precision, interval

CLASSES = ("a", "b", "c")


def make(noise: float, *, seed: int = 0, n: int = 300, name: str = "one") -> Candidate:
    """Scores of the same images and labels, the better the less noise there is."""
    truth = np.random.default_rng(0).random((n, 3)) < 0.2
    scores = 1 / (1 + np.exp(-(2 * truth - 1 + noise * np.random.default_rng(seed).standard_normal((n, 3)))))
    return Candidate(name, Scores(scores.astype(np.float32), truth.astype(np.int8), 1.0), CLASSES, None, {})


def test_the_same_scores_do_not_differ() -> None:
    paired = compare(make(1.0), make(1.0, name="two"), resamples=50)
    for difference in (paired.map_interpolated, paired.map_non_interpolated):
        assert (difference.value, difference.low, difference.high, difference.clear) == (0, 0, 0, False)
    assert paired.moved == []
    assert paired.names == ("one", "two")


def test_a_better_model_is_found_and_its_classes_named() -> None:
    paired = compare(make(2.0), make(0.5, seed=1), resamples=200)
    first, second = (make(2.0), make(0.5, seed=1))
    for name in ("interpolated", "non_interpolated"):
        difference = getattr(paired, f"map_{name}")
        expected = [
            100 * np.nanmean(getattr(average_precisions(c.scores.scores, c.scores.targets), name)) for c in (first, second)
        ]
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
    from sadcl_core.evaluation.evaluate import evaluate

    first = make(1.5)
    nearly = first.scores.scores + 0.02 * np.random.default_rng(5).random(first.scores.scores.shape).astype(np.float32)
    second = Candidate("two", Scores(nearly / 1.02, first.scores.targets, 1.0), CLASSES, None, {})
    paired = compare(first, second, resamples=200).map_interpolated
    alone = evaluate(first.scores, CLASSES, resamples=200).uncertainty
    assert alone is not None
    low, high = alone.map_interpolated
    assert paired.high - paired.low < 0.5 * (high - low)


def test_classes_in_another_order() -> None:
    first, second = make(1.0), make(0.7, seed=3)
    order = [2, 0, 1]
    turned = Candidate(
        "two",
        Scores(second.scores.scores[:, order], second.scores.targets[:, order], 1.0),
        tuple(CLASSES[k] for k in order),
        None,
        {},
    )
    assert (
        compare(first, turned, resamples=40).as_json()["per_class"] == compare(first, second, resamples=40).as_json()["per_class"]
    )


def test_a_class_without_positives_has_no_difference() -> None:
    first, second = make(1.0), make(0.7, seed=3)
    for candidate in (first, second):
        candidate.scores.targets[:, 1] = 0
    paired = compare(first, second, resamples=40)
    assert paired.per_class[1] is None
    assert paired.by_chance == pytest.approx(0.1)
    json.dumps(paired.as_json(), allow_nan=False)


def other_targets(targets: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    return np.roll(targets, 1, axis=0)


def test_other_images_labels_or_classes_are_refused() -> None:
    first, second = make(1.0), make(1.0, n=200)
    with pytest.raises(DataError, match="not scored on the same images"):
        compare(first, second, resamples=10)
    rolled = Candidate("two", Scores(first.scores.scores, other_targets(first.scores.targets), 1.0), CLASSES, None, {})
    with pytest.raises(DataError, match="not scored on the same images"):
        compare(first, rolled, resamples=10)
    strange = Candidate("two", first.scores, ("a", "b", "d"), None, {})
    with pytest.raises(DataError, match="do not share all classes, such as 'c'"):
        compare(first, strange, resamples=10)


def with_names(candidate: Candidate, names: list[str], order: npt.NDArray[np.int64] | None = None) -> Candidate:
    scores, targets = candidate.scores.scores, candidate.scores.targets
    if order is not None:
        scores, targets, names = scores[order], targets[order], [names[int(row)] for row in order]
    return Candidate(candidate.name, Scores(scores, targets, 1.0), CLASSES, names, {})


def test_images_in_another_order_are_paired_by_name() -> None:
    """Rows that change places without changing a label: only names can tell."""
    first, second = make(2.0), make(0.5, seed=1)
    names = [f"{number}.jpg" for number in range(300)]
    order = np.lexsort((np.random.default_rng(0).random(300), *first.scores.targets.T))
    order = order[np.random.default_rng(1).permutation(300)]
    expected = compare(with_names(first, names), with_names(second, names), resamples=60).as_json()
    assert compare(with_names(first, names), with_names(second, names, order), resamples=60).as_json() == expected


def test_images_of_other_names_are_refused() -> None:
    names = [f"{number}.jpg" for number in range(300)]
    others = [*names[:-1], "other.jpg"]
    with pytest.raises(DataError, match=r"299\.jpg"):
        compare(with_names(make(1.0), names), with_names(make(1.0), others), resamples=10)


def test_a_few_positives_are_never_sure() -> None:
    """The two differ in the one image of a class: that proves nothing."""
    first, second = make(0.1), make(0.1)
    for candidate in (first, second):
        candidate.scores.targets[:, 1] = 0
        candidate.scores.targets[7, 1] = 1
    first.scores.scores[7, 1], second.scores.scores[7, 1] = 0.999, 0.3
    paired = compare(first, second, resamples=60)
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
    paired, reverse = compare(first, second, resamples=100), compare(second, first, resamples=100)
    drawn = [
        100 * bootstrap_average_precision(one.scores.scores, one.scores.targets, samples=100).interpolated
        for one in (first, second)
    ]
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
