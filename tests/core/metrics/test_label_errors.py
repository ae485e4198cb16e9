from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from sadcl_core.metrics.label_errors import contradiction, estimate_errors, fit_log_odds, suspected_label_errors

Pair = tuple[int, int]


def made(
    seed: int = 0, images: int = 300, classes: int = 6, flips: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray, set[Pair]]:
    """Scores and cosines of a good model, targets of which some are flipped and some unknown, and the flipped pairs."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((images, classes)) < 0.3).astype(np.int8)
    logits = np.where(truth == 1, 3.0, -3.0) + rng.normal(0, 0.5, truth.shape) + rng.normal(0, 1, classes)
    cosines = np.where(truth == 1, 0.8, -0.2) + rng.normal(0, 0.1, truth.shape)
    targets = truth.copy()
    flipped = {divmod(int(place), classes) for place in rng.choice(truth.size, flips, replace=False)}
    for pair in flipped:
        targets[pair] ^= 1
    for place in rng.choice(truth.size, images // 4, replace=False):
        if divmod(int(place), classes) not in flipped:
            targets[divmod(int(place), classes)] = -1
    return expit(logits).astype(np.float32), cosines.astype(np.float16), targets, flipped


def naive(scores: np.ndarray, targets: np.ndarray, similarity: np.ndarray | None) -> dict[Pair, float]:
    """The suspicion of every known label, one by one, the regression by an optimiser that knows nothing of it."""
    rows = {}
    for i, k in np.argwhere(targets >= 0):
        score = min(max(float(scores[i, k]), 1e-6), 1 - 1e-6)
        rows[int(i), int(k)] = [math.log(score / (1 - score)), *([] if similarity is None else [float(similarity[i, k])]), 1.0]
    columns, told = np.array(list(rows.values())), np.array([targets[pair] for pair in rows])

    def loss(weights: np.ndarray) -> float:
        z = columns @ weights
        return float(np.logaddexp(0, z).sum() - told @ z + (weights[:-1] ** 2).sum() / 2)

    weights = minimize(loss, np.zeros(columns.shape[1]), tol=1e-9).x
    share = told.mean()
    half = math.log(share / (1 - share)) / 2
    return {
        pair: float((row @ weights - half) * (1 if targets[pair] == 0 else -1)) for pair, row in zip(rows, columns, strict=True)
    }


@pytest.mark.parametrize("with_similarity", [False, True])
def test_against_one_by_one(with_similarity: bool) -> None:
    scores, cosines, targets, _ = made(images=30)
    similarity = cosines if with_similarity else None
    expected = {pair: value for pair, value in naive(scores, targets, similarity).items() if value > 0}
    found = suspected_label_errors(scores, targets, similarity=similarity, bounded=False)
    assert {(one.image, one.label): one.suspicion for one in found} == pytest.approx(expected, rel=1e-2, abs=1e-3)
    assert [one.suspicion for one in found] == sorted((one.suspicion for one in found), reverse=True)


@pytest.mark.parametrize("with_similarity", [False, True])
def test_flipped_labels_come_first(with_similarity: bool) -> None:
    scores, cosines, targets, flipped = made()
    found = suspected_label_errors(
        scores, targets, similarity=cosines if with_similarity else None, most=len(flipped), bounded=False
    )
    assert {(one.image, one.label) for one in found} == flipped
    assert {one.kind for one in found} == {"missing", "wrong"}


def test_what_is_said_of_each() -> None:
    scores, cosines, targets, _ = made()
    thresholds = np.linspace(0.2, 0.8, 6)
    for one in suspected_label_errors(scores, targets, thresholds=thresholds, similarity=cosines, most=20):
        at = (one.image, one.label)
        assert one.kind == ("missing" if targets[at] == 0 else "wrong")
        assert one.score == scores[at]
        assert one.similarity == float(cosines[at])
        margin = np.log(one.score / (1 - one.score)) - np.log(thresholds[one.label] / (1 - thresholds[one.label]))
        assert one.margin == pytest.approx(margin if targets[at] == 0 else -margin, abs=1e-4)
    without = suspected_label_errors(scores, targets, most=20)
    assert all(one.similarity is None for one in without)
    at_half = suspected_label_errors(scores, targets, thresholds=0.5, most=20)
    assert at_half == without


def test_unknown_labels_are_no_suspects_and_change_nothing() -> None:
    scores, cosines, targets, _ = made()
    expected = suspected_label_errors(scores, targets, similarity=cosines)
    assert all(targets[one.image, one.label] >= 0 for one in expected)
    rng = np.random.default_rng(5)
    unknown = targets < 0
    scores[unknown], cosines[unknown] = rng.random(unknown.sum()), rng.uniform(-1, 1, unknown.sum())
    assert suspected_label_errors(scores, targets, similarity=cosines) == expected
    assert suspected_label_errors(scores, np.full_like(targets, -1)) == []


def test_a_model_that_has_learned_nothing_suspects_nothing() -> None:
    scores, cosines, targets, _ = made()
    assert suspected_label_errors(1 - scores, targets) == []
    assert suspected_label_errors(1 - scores, targets, similarity=-cosines) == []
    assert suspected_label_errors(np.full_like(scores, 0.3), targets) == []


@pytest.mark.parametrize("flips", [0, 12, 60])
def test_about_as_many_as_were_flipped(flips: int) -> None:
    scores, cosines, targets, flipped = made(flips=flips)
    every = suspected_label_errors(scores, targets, similarity=cosines, bounded=False)
    found = suspected_label_errors(scores, targets, similarity=cosines)
    assert flips * 0.8 <= len(found) <= flips * 1.2
    for kind in ("missing", "wrong"):  # the most suspicious of each
        of_kind = [one for one in found if one.kind == kind]
        assert of_kind == [one for one in every if one.kind == kind][: len(of_kind)]
    assert {(one.image, one.label) for one in found} <= flipped


def test_the_shares_by_hand() -> None:
    probability = np.array([[0.9, 0.8, 0.1], [0.1, 0.2, 0.9]])  # 0.9 and 0.8, or 0.1 and 0.2, are as sure as the labels' mean
    targets = np.array([[1, 1, 0], [0, 0, 0]])
    shares = estimate_errors([np.log(probability / (1 - probability))], targets, np.array([1.0, -np.log(2 / 4) / 2]))
    assert shares == (1 / 4, 0.0)  # sure of all four that are inactive, of one the other way round


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 400))
def test_parts_and_the_number_wanted_change_nothing_else(seed: int, most: int, block: int) -> None:
    scores, cosines, targets, _ = made(seed, images=60)
    whole = suspected_label_errors(scores, targets, similarity=cosines, most=10**6)
    found = suspected_label_errors(scores, targets, similarity=cosines, most=most, block=block)
    assert found == whole[:most]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_the_order_of_images_and_classes_changes_nothing(seed: int) -> None:
    scores, cosines, targets, _ = made(seed, images=60)
    rng = np.random.default_rng(seed)
    images, classes = rng.permutation(60), rng.permutation(6)
    plain = {(one.image, one.label): one.suspicion for one in suspected_label_errors(scores, targets, similarity=cosines)}
    moved = suspected_label_errors(
        scores[images][:, classes], targets[images][:, classes], similarity=cosines[images][:, classes]
    )
    assert {(int(images[one.image]), int(classes[one.label])): one.suspicion for one in moved} == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("shift", [-3.0, 0.0, 2.0])
def test_scores_that_are_too_high_or_too_low_are_put_right(shift: float) -> None:
    scores, _, targets, flipped = made()
    logits = np.log(scores.astype(np.float64) / (1 - scores))
    expected = suspected_label_errors(expit(logits), targets, most=40, bounded=False)
    moved = suspected_label_errors(expit(0.7 * logits + shift), targets, most=40, bounded=False)
    assert {(one.image, one.label) for one in moved[: len(flipped)]} == flipped
    assert [one.suspicion for one in moved] == pytest.approx([one.suspicion for one in expected], rel=0.05)  # but for the penalty


def test_log_odds_by_hand() -> None:
    measures = [np.array([[2.0, -1.0], [0.5, 3.0]]), np.array([[0.1, 0.2], [0.3, 0.4]])]
    told = np.array([[1, 0], [-1, 1]], dtype=np.int8)
    away = contradiction(measures, told, np.array([2.0, 10.0, -1.0]))
    np.testing.assert_allclose(away, [[-4.0, -1.0], [-np.inf, -9.0]])


def test_a_measure_that_says_nothing_hardly_counts() -> None:
    scores, _, targets, _ = made(images=3000, flips=120)
    noise = np.random.default_rng(3).uniform(-1, 1, scores.shape)
    weights = fit_log_odds([np.log(scores / (1 - scores)), noise], targets)
    assert weights is not None
    assert weights[0] > 0.5
    assert abs(weights[1]) < 0.3
    assert fit_log_odds([noise], np.where(targets == 0, -1, targets)) is None


def test_the_regression_on_some_of_the_images_is_about_that_on_all() -> None:
    scores, cosines, targets, flipped = made(images=4000, flips=30)
    expected = suspected_label_errors(scores, targets, similarity=cosines, most=30)
    found = suspected_label_errors(scores, targets, similarity=cosines, most=30, fitted_on=9000)
    assert found != expected
    assert {(one.image, one.label) for one in found} == {(one.image, one.label) for one in expected} == flipped
    assert [one.suspicion for one in found] == pytest.approx([one.suspicion for one in expected], rel=0.3)


def test_a_class_that_was_not_learned_is_not_on_top() -> None:
    scores, _, targets, flipped = made(classes=6)
    noise = np.random.default_rng(1).normal(0, 0.3, len(scores))
    scores[:, 0] = expit(noise)
    found = suspected_label_errors(scores, targets, most=len([pair for pair in flipped if pair[1]]))
    assert {(one.image, one.label) for one in found} == {pair for pair in flipped if pair[1]}


def test_a_class_without_a_positive_can_miss_labels() -> None:
    scores, _, targets, _ = made()
    targets[:, 3] = 0
    scores[:, 3] = 0.02
    scores[7, 3] = 0.99
    found = suspected_label_errors(scores, targets, most=20)
    assert (7, 3, "missing") in [(one.image, one.label, one.kind) for one in found]
    assert [one.image for one in found if one.label == 3] == [7]


@pytest.mark.parametrize("only", [0, 1])
def test_nothing_to_compare_with(only: int) -> None:
    scores, cosines, targets, _ = made()
    assert suspected_label_errors(scores, np.full_like(targets, only), similarity=cosines) == []


def test_certain_scores_are_finite_and_equals_are_in_order() -> None:
    scores = np.array([[1.0], [1.0], [0.0], [1.0], [1.0], [0.0], [0.0]])
    targets = np.array([[1], [0], [0], [0], [1], [1], [0]], dtype=np.int8)
    found = suspected_label_errors(scores, targets)
    assert np.isfinite([(one.suspicion, one.margin) for one in found]).all()
    assert sorted((one.image, one.kind) for one in found) == [(1, "missing"), (3, "missing"), (5, "wrong")]
    assert [one.image for one in found if one.kind == "missing"] == [1, 3]


def test_what_does_not_fit_is_refused() -> None:
    scores, cosines, targets, _ = made()
    with pytest.raises(ValueError, match="both be"):
        suspected_label_errors(scores, targets[:, :2])
    with pytest.raises(ValueError, match="similarity"):
        suspected_label_errors(scores, targets, similarity=cosines[:5])
    with pytest.raises(ValueError, match="most"):
        suspected_label_errors(scores, targets, most=0)
    with pytest.raises(ValueError, match="NaN"):
        suspected_label_errors(np.where(scores > 0.5, np.nan, scores), targets)
    with pytest.raises(ValueError, match="targets"):
        suspected_label_errors(scores, targets + 1)
