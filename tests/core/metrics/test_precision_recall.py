from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_fscore_support, precision_score, recall_score

from sadcl_core.metrics import class_ratios, decision_counts, precision_recall, ratios
from tests.core.metrics.test_average_precision import tied


def random_scores(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((50, 6)), (rng.random((50, 6)) < 0.4).astype(np.int8)


@pytest.mark.parametrize("topk", [None, 3])
def test_equals_scikit_learn(topk: int | None) -> None:
    scores, targets = random_scores(0)
    predicted = scores > 0.5
    if topk is not None:
        third = np.sort(scores, axis=1)[:, -topk][:, None]
        predicted &= scores >= third
    values = precision_recall(scores, targets, threshold=0.5, topk=topk)
    assert values["CP"] == pytest.approx(precision_score(targets, predicted, average="macro"))
    assert values["CR"] == pytest.approx(recall_score(targets, predicted, average="macro"))
    assert values["macro_F1"] == pytest.approx(f1_score(targets, predicted, average="macro"))
    assert values["OP"] == pytest.approx(precision_score(targets, predicted, average="micro"))
    assert values["OR"] == pytest.approx(recall_score(targets, predicted, average="micro"))
    assert values["OF1"] == pytest.approx(f1_score(targets, predicted, average="micro"))
    assert values["CF1"] == pytest.approx(2 * values["CP"] * values["CR"] / (values["CP"] + values["CR"]))


def naive_counts(scores: np.ndarray, targets: np.ndarray, thresholds: list[float], topk: int) -> np.ndarray:
    """(3, K) right, wrong and missed, one decision after the other."""
    counts = np.zeros((3, scores.shape[1]), dtype=np.int64)
    for image, truth in zip(scores.tolist(), targets.tolist(), strict=True):
        known = [k for k in range(len(image)) if truth[k] >= 0]
        best = sorted(known, key=lambda k: -image[k])[:topk]  # Python's sort keeps the first of a tie first
        for k in known:
            predicted = image[k] > thresholds[k] and k in best
            counts[0, k] += predicted and truth[k] == 1
            counts[1, k] += predicted and truth[k] == 0
            counts[2, k] += not predicted and truth[k] == 1
    return counts


@given(tied(most_images=6), st.lists(st.sampled_from([-np.inf, -1, 0, 0.3, 0.5, 7]), min_size=3, max_size=3), st.integers(1, 4))
def test_equals_the_loop(arrays: tuple[np.ndarray, np.ndarray], thresholds: list[float], topk: int) -> None:
    scores, targets = arrays
    thresholds = thresholds[: scores.shape[1]]
    found = decision_counts(scores, targets, thresholds, topk)
    expected = naive_counts(scores, targets, thresholds, topk)
    np.testing.assert_array_equal([found.true_positives, found.false_positives, found.false_negatives], expected)


@given(tied())
def test_as_many_best_as_classes_are_all(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    assert precision_recall(*arrays, topk=3) == pytest.approx(precision_recall(*arrays), nan_ok=True)


def test_ratios_of_each_class_equal_scikit_learn() -> None:
    scores, targets = random_scores(4)
    thresholds = np.array([0.2, 0.4, 0.5, 0.6, 0.8, 1.0])  # the last class is never predicted
    expected = precision_recall_fscore_support(targets, scores > thresholds, average=None, zero_division=0)[:3]
    np.testing.assert_allclose(class_ratios(decision_counts(scores, targets, thresholds)), expected)


def test_ratios_of_a_class_without_positive_are_nan() -> None:
    counts = decision_counts([[0.9, 0.9], [0.1, 0.9]], [[1, 0], [0, 0]])
    np.testing.assert_equal(class_ratios(counts), [[1, np.nan]] * 3)
    assert ratios(counts)["OP"] == pytest.approx(1 / 3)


def test_by_hand() -> None:
    scores = np.array([[0.9, 0.6, 0.2], [0.8, 0.4, 0.7]])
    targets = np.array([[1, 0, 1], [1, 1, 1]])
    values = precision_recall(scores, targets)
    # class 0: 2 right; class 1: 1 wrong, 1 missed; class 2: 1 right, 1 missed
    assert values["CP"] == pytest.approx((1 + 0 + 1) / 3)
    assert values["CR"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert values["macro_F1"] == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert values["OP"] == pytest.approx(3 / 4)
    assert values["OR"] == pytest.approx(3 / 5)


def test_threshold_is_exclusive() -> None:
    assert precision_recall(np.array([[0.5]]), np.array([[1]]), threshold=0.5)["OR"] == 0


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_a_threshold_means_the_same_alone_and_for_each_class(threshold: float) -> None:
    scores = np.full((1, 2), threshold, dtype=np.float32)  # 0.3 rounded up or down: the score is at the threshold, not above
    for given_as in (threshold, np.full(2, threshold), [threshold, threshold]):
        assert precision_recall(scores, np.ones((1, 2)), threshold=given_as)["OR"] == 0


def test_class_without_positive_is_left_out_of_class_means_only() -> None:
    scores = np.array([[0.9, 0.9], [0.1, 0.9]])
    targets = np.array([[1, 0], [0, 0]])
    values = precision_recall(scores, targets)
    assert values["CP"] == values["CR"] == values["macro_F1"] == 1
    assert values["OP"] == pytest.approx(1 / 3)


def test_nothing_positive_is_nan() -> None:
    assert all(np.isnan(value) for value in precision_recall(np.ones((2, 2)), np.zeros((2, 2))).values())


def test_refuses_topk_of_zero() -> None:
    with pytest.raises(ValueError, match="topk"):
        precision_recall(np.ones((2, 2)), np.zeros((2, 2)), topk=0)


@pytest.mark.parametrize("threshold", [[0.5], [[0.5, 0.5]], [0.5, 0.5, 0.5]])
def test_refuses_thresholds_that_are_not_one_for_each_class(threshold: object) -> None:
    with pytest.raises(ValueError, match="one for each of 2 classes"):
        precision_recall(np.ones((2, 2)), np.zeros((2, 2)), threshold=threshold)  # type: ignore[arg-type]


def test_refuses_nan() -> None:
    with pytest.raises(ValueError, match="threshold is NaN"):
        precision_recall([[0.1]], [[1]], threshold=[np.nan])
