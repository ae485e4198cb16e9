from __future__ import annotations

import numpy as np
import pytest

from sadcl_core.metrics import Counts, calibration_error, precision_recall, ratios
from sadcl_core.metrics.calibration import (
    CrossFit,
    Objective,
    apply_probabilities,
    choose_thresholds,
    cross_fit,
    fit_probabilities,
)
from tests.core.metrics.calibration.simulation import World, world

F1 = Objective("f1")


def halves(seed: int = 0, images: int = 600) -> tuple[World, np.ndarray]:
    return world(seed, images=images, classes=8, rarest=10, commonest=200), np.arange(images) % 3


def same(one: CrossFit, other: CrossFit, order: np.ndarray | None = None) -> None:
    classes = slice(None) if order is None else order
    for name in ("before", "shared", "after"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))
    for name in ("class_f1_before", "class_f1_after", "achieved"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name)[classes])
    assert one.error_after.overall == pytest.approx(other.error_after.overall, abs=1e-4)
    assert one.error_before.overall == pytest.approx(other.error_before.overall)


def test_equals_fold_by_fold_with_the_others_cut_out() -> None:
    drawn, folds = halves()
    result = cross_fit(drawn.scores, drawn.targets, F1, folds)
    decided, shared = np.zeros(drawn.scores.shape, dtype=bool), np.zeros(drawn.scores.shape, dtype=bool)
    mapped = np.zeros_like(drawn.scores)
    for fold in range(3):
        here, others = folds == fold, folds != fold
        fitted = fit_probabilities(drawn.scores[others], drawn.targets[others])
        inside = apply_probabilities(drawn.scores[others], fitted.temperatures, fitted.biases)
        mapped[here] = apply_probabilities(drawn.scores[here], fitted.temperatures, fitted.biases)
        decided[here] = mapped[here] > choose_thresholds(inside, drawn.targets[others], F1).values
        shared[here] = drawn.scores[here] > choose_thresholds(drawn.scores[others], drawn.targets[others], F1).global_value

    def counted(taken: np.ndarray) -> dict[str, float]:
        positive = drawn.targets == 1
        right, wrong, missed = taken & positive, taken & ~positive, ~taken & positive
        return ratios(Counts(right.sum(axis=0), wrong.sum(axis=0), missed.sum(axis=0)))

    assert result.after == pytest.approx(counted(decided))
    assert result.shared == pytest.approx(counted(shared))
    assert result.before == pytest.approx(precision_recall(drawn.scores, drawn.targets, 0.5))
    assert result.error_before.overall == pytest.approx(calibration_error(drawn.scores, drawn.targets).overall)
    assert result.error_after.overall == pytest.approx(calibration_error(mapped, drawn.targets).overall, abs=1e-5)
    np.testing.assert_allclose(result.error_after.per_class, calibration_error(mapped, drawn.targets).per_class, atol=1e-5)
    np.testing.assert_array_equal(result.achieved, result.class_f1_after)
    assert result.held is None


def test_calibration_helps_where_scores_are_off() -> None:
    drawn = world(2, images=2000, classes=20, rarest=20, commonest=800)
    result = cross_fit(drawn.scores, drawn.targets, F1, np.arange(2000) % 5)
    assert result.after["macro_F1"] > result.shared["macro_F1"] > 0
    assert result.after["macro_F1"] > result.before["macro_F1"]
    assert result.error_after.classwise < result.error_before.classwise
    assert result.error_after.overall < result.error_before.overall


def test_its_own_fold_teaches_a_fold_nothing() -> None:
    drawn, folds = halves(3)
    flipped = drawn.targets.copy()
    flipped[folds == 1] = 1 - flipped[folds == 1]
    known = np.where((folds == 1)[:, None], drawn.targets, -1)  # judged on fold 1 alone, so tuned on nothing
    result = cross_fit(drawn.scores, known, F1, folds)
    assert result.after == pytest.approx(precision_recall(drawn.scores, known, 0.5))
    other = cross_fit(drawn.scores, np.where((folds == 1)[:, None], flipped, -1), F1, folds)
    assert other.after == pytest.approx(precision_recall(drawn.scores, np.where((folds == 1)[:, None], flipped, -1), 0.5))


@pytest.mark.parametrize("kind", ["precision", "recall"])
def test_says_whether_the_target_held(kind: str) -> None:
    drawn, folds = halves(4, images=1500)
    result = cross_fit(drawn.scores, drawn.targets, Objective(kind, 0.7), folds)  # type: ignore[arg-type]
    assert result.held is not None
    np.testing.assert_array_equal(result.held, result.achieved >= 0.7)
    assert result.held.any()
    overall = result.after["OP" if kind == "precision" else "OR"]
    assert overall == pytest.approx(0.7, abs=0.1)


def test_silent_and_empty_classes_did_not_hold() -> None:
    scores = np.tile([[0.9, 0.9], [0.2, 0.1]], (6, 1))
    targets = np.tile([[0, 0], [1, 0]], (6, 1))
    result = cross_fit(scores, targets, Objective("precision", 0.9), np.arange(12) // 4)
    assert np.isnan(result.achieved).all()
    assert result.held is not None
    assert not result.held.any()


def test_names_of_folds_order_and_unknown_labels_change_nothing() -> None:
    rng = np.random.default_rng(5)
    drawn, folds = halves(5)
    whole = cross_fit(drawn.scores, drawn.targets, F1, folds)
    same(cross_fit(drawn.scores, drawn.targets, F1, np.array([7, -3, 100])[folds]), whole)
    rows, order = rng.permutation(len(folds)), rng.permutation(8)
    same(cross_fit(drawn.scores[rows][:, order], drawn.targets[rows][:, order], F1, folds[rows]), whole, order)
    scores = np.concatenate([drawn.scores, rng.random((9, 8)).astype(np.float32)])
    targets = np.concatenate([drawn.targets, np.full((9, 8), -1, dtype=np.int8)])
    same(cross_fit(scores, targets, F1, np.concatenate([folds, np.arange(9) % 3])), whole)


@pytest.mark.parametrize("folds", [np.zeros(600, dtype=int), np.zeros(3, dtype=int), np.zeros((600, 1), dtype=int)])
def test_refuses_folds_that_do_not_divide(folds: np.ndarray) -> None:
    drawn, _ = halves()
    with pytest.raises(ValueError, match="folds"):
        cross_fit(drawn.scores, drawn.targets, F1, folds)
