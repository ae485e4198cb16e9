from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from sadcl_core.metrics import precision_recall


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


def test_topk_takes_exactly_k_also_of_ties() -> None:
    values = precision_recall(np.full((1, 5), 0.9), np.ones((1, 5)), topk=2)
    assert values["OR"] == pytest.approx(2 / 5)


def test_unknown_entries_are_left_out() -> None:
    scores, targets = random_scores(1)
    unknown = np.random.default_rng(2).random(targets.shape) < 0.2
    hidden = np.where(unknown, -1, targets)
    values = precision_recall(scores, hidden)
    predicted = scores > 0.5
    assert values["OP"] == pytest.approx((predicted & (hidden == 1)).sum() / (predicted & (hidden >= 0)).sum())


def test_unknown_labels_take_no_place_among_the_best() -> None:
    targets = np.array([[-1, 1, 1, 1]])
    for unknown in (0.95, 0.05):
        assert precision_recall(np.array([[unknown, 0.8, 0.7, 0.6]]), targets, topk=3)["OR"] == 1


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
