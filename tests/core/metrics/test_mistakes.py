from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import multilabel_confusion_matrix

from sadcl_core.metrics.mistakes import ClassMistakes, Mistake, confusions, pictured, worst_mistakes

Scores = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int8]


def made(seed: int = 0, images: int = 60, classes: int = 7) -> tuple[Scores, Targets]:
    rng = np.random.default_rng(seed)
    scores = np.round(20 * rng.random((images, classes), dtype=np.float32)) / np.float32(20)  # with ties, and at the thresholds
    return scores, rng.choice([-1, 0, 0, 1], (images, classes)).astype(np.int8)


def naive_confusion(scores: Scores, targets: Targets, limits: Scores, k: int, j: int) -> tuple[int, int, float, float]:
    """How often j fired and how often it could where k was missed; its rate where k was found, and everywhere."""
    counts = {"missed": [0, 0], "found": [0, 0], "all": [0, 0]}
    for score, target in zip(scores, targets, strict=True):
        if target[j] != 0:
            continue
        places = ["all"]
        if target[k] == 1:
            places.append("found" if score[k] > limits[k] else "missed")
        for place in places:
            counts[place][0] += int(score[j] > limits[j])
            counts[place][1] += 1
    found, everywhere = counts["found"], counts["all"]
    rate_found = found[0] / found[1] if found[1] else float("nan")
    return counts["missed"][0], counts["missed"][1], rate_found, everywhere[0] / max(everywhere[1], 1)


@pytest.mark.parametrize("seed", range(3))
def test_worst_against_a_naive_loop(seed: int) -> None:
    scores, targets = made(seed)
    limits = np.linspace(0.2, 0.8, 7, dtype=np.float32)
    for k, found in enumerate(worst_mistakes(scores, targets, limits, 4)):
        wrong = [(-float(s), i) for i, s in enumerate(scores[:, k]) if targets[i, k] == 0 and s > limits[k]]
        missed = [(float(s), i) for i, s in enumerate(scores[:, k]) if targets[i, k] == 1 and not s > limits[k]]
        assert found.label == k
        assert found.false_positives == tuple(Mistake(i, -s) for s, i in sorted(wrong)[:4])
        assert found.misses == tuple(Mistake(i, s) for s, i in sorted(missed)[:4])
        assert (found.false_positive_count, found.miss_count) == (len(wrong), len(missed))


def test_counts_are_those_of_scikit_learn() -> None:
    scores, targets = made()
    targets = np.maximum(targets, 0).astype(np.int8)
    matrices = multilabel_confusion_matrix(targets, scores > 0.5)
    for found, matrix in zip(worst_mistakes(scores, targets, 0.5, 2), matrices, strict=True):
        assert (found.false_positive_count, found.miss_count) == (matrix[0, 1], matrix[1, 0])
    misses = {one.label: one.misses for one in confusions(scores, targets, 0.5)}
    assert misses == {k: matrix[1, 0] for k, matrix in enumerate(matrices) if matrix[1, 0]}


def test_nothing_wrong() -> None:
    targets = np.array([[1, 0], [0, -1]], np.int8)
    scores = np.array([[0.9, 0.5], [0.1, 1.0]], np.float32)  # a score at the threshold does not count
    assert worst_mistakes(scores, targets, 0.5, 4) == [ClassMistakes(0, (), (), 0, 0), ClassMistakes(1, (), (), 0, 0)]
    assert confusions(scores, targets, 0.5) == []
    assert worst_mistakes(np.empty((0, 2)), np.empty((0, 2), np.int8), 0.5, 4)[1].misses == ()
    assert worst_mistakes(1 - scores, targets, 0.4, 0)[0].misses == ()


@pytest.mark.parametrize("seed", range(3))
def test_confusions_against_a_naive_loop(seed: int) -> None:
    scores, targets = made(seed)
    limits = np.linspace(0.3, 0.7, 7, dtype=np.float32)
    seen = 0
    for one in confusions(scores, targets, limits, most=7):
        expected = {j: naive_confusion(scores, targets, limits, one.label, j) for j in range(7)}
        excess = {j: fired - known * overall for j, (fired, known, _, overall) in expected.items()}
        above = sorted((j for j in excess if excess[j] > 1e-6), key=lambda j: (-excess[j], j))
        assert [confusion.label for confusion in one.instead] == above
        for confusion in one.instead:
            fired, known, rate_found, overall = expected[confusion.label]
            assert (confusion.fired, confusion.known) == (fired, known)
            assert confusion.rate_found == pytest.approx(rate_found, nan_ok=True)
            assert confusion.lift == pytest.approx(fired / known / overall)
            assert confusion.rate == fired / known
            seen += 1
    assert seen > 5


def test_the_class_that_fires_instead_comes_first() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((400, 5)) < 0.2).astype(np.int8)
    scores = np.where(targets == 1, 0.9, 0.1).astype(np.float32)
    scores[:, 4] = 0.9  # fires everywhere
    missed = np.flatnonzero((targets[:, 0] == 1) & (targets[:, 1] == 0))
    scores[missed, 0], scores[missed, 1] = 0.2, 0.8
    found = confusions(scores, targets, 0.5)
    assert [one.label for one in found] == [0]
    assert [confusion.label for confusion in found[0].instead] == [1]
    assert found[0].instead[0].rate == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_what_must_not_change_them(seed: int) -> None:
    scores, targets = made(seed, images=30, classes=4)
    worst = worst_mistakes(scores, targets, 0.5, 3)
    other = np.where(targets < 0, 1 - scores, scores)  # unknown entries
    assert worst_mistakes(other, targets, 0.5, 3) == worst
    order = np.random.default_rng(seed).permutation(30)  # the order of the images
    for one, again in zip(worst, worst_mistakes(scores[order], targets[order], 0.5, 3), strict=True):
        assert [mistake.score for mistake in one.misses] == [mistake.score for mistake in again.misses]
        assert all(scores[order][mistake.image, one.label] == mistake.score for mistake in again.false_positives)


def test_double_precision_changes_nothing() -> None:
    scores, targets = made()
    assert worst_mistakes(scores, targets, 0.55, 3)[0].misses == worst_mistakes(scores, targets, np.full(7, 0.55), 3)[0].misses
    doubled = worst_mistakes(scores.astype(np.float64), targets, np.float64(np.float32(0.55)), 3)
    assert doubled == worst_mistakes(scores, targets, 0.55, 3)


@pytest.mark.parametrize("metric", [worst_mistakes, confusions])
def test_refused(metric: Callable[..., object]) -> None:
    for targets, thresholds, message in (
        (np.zeros((2, 2)), 0.5, "must both be"),
        (np.zeros((3, 2)), [0.5, 0.5, 0.5], "thresholds for 2 classes"),
        (np.full((3, 2), 2), 0.5, "targets must be"),
    ):
        with pytest.raises(ValueError, match=message):
            metric(np.zeros((3, 2)), targets, thresholds)


def test_pictures_within_a_budget() -> None:
    mistakes = [
        ClassMistakes(0, (Mistake(1, 0.9), Mistake(2, 0.8)), (Mistake(3, 0.05),), 2, 1),
        ClassMistakes(1, (Mistake(1, 0.7),), (), 1, 0),
    ]
    assert pictured(mistakes) == [(3, 0), (1, 0), (1, 1), (2, 0)]
    assert pictured(mistakes, budget=2) == [(3, 0), (1, 0)]
