from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from sadcl_core.metrics import average_precisions, precision_recall_curves
from tests.core.metrics.test_average_precision import random_scores, tied


def of_scikit_learn(targets: np.ndarray, scores: np.ndarray) -> set[tuple[float, float]]:
    precision, recall, _ = precision_recall_curve(targets, scores)
    return {(round(float(r), 9), round(float(p), 9)) for r, p in zip(recall[:-1], precision[:-1], strict=True)}


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_points_are_those_of_scikit_learn_where_recall_rises(decimals: int) -> None:
    scores, targets = random_scores(0, images=100, classes=3)
    scores = scores.round(decimals)
    for k, curve in enumerate(precision_recall_curves(scores, targets, points=1000)):
        found = {(round(float(r), 9), round(float(p), 9)) for r, p in zip(curve.recall, curve.precision, strict=True)}
        everything = of_scikit_learn(targets[:, k], scores[:, k])
        best: dict[float, float] = {}  # of the points of one recall, the end of a positive's tie comes first and highest
        for recall, precision in everything:
            best[recall] = max(best.get(recall, 0), precision)
        assert found == {(r, p) for r, p in best.items() if r > 0}


@given(tied())
def test_area_of_a_curve_is_average_precision(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    expected = average_precisions(*arrays)
    for k, curve in enumerate(precision_recall_curves(*arrays)):
        if not len(curve.recall):
            assert np.isnan(expected.non_interpolated[k])
            continue
        assert (curve.precision * np.diff(curve.recall, prepend=0)).sum() == pytest.approx(expected.non_interpolated[k])
        assert (np.diff(curve.recall) > 0).all()
        assert curve.recall[-1] == 1


@pytest.mark.parametrize("points", [4, 5, 20, 100])
def test_thinned_curve_keeps_ends_and_extremes_of_each_bin(points: int) -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random((20_000, 1)) < 0.2).astype(np.int8)
    scores = rng.normal(size=targets.shape) + targets
    whole = precision_recall_curves(scores, targets, points=10**6)[0]
    thin = precision_recall_curves(scores, targets, points=points)[0]
    assert len(whole.recall) > 3000
    assert len(thin.recall) <= points
    assert (np.diff(thin.recall) > 0).all()
    pairs = set(zip(whole.recall, whole.precision, strict=True))
    assert all(pair in pairs for pair in zip(thin.recall, thin.precision, strict=True))
    for end in (0, -1):
        assert (thin.recall[end], thin.precision[end]) == (whole.recall[end], whole.precision[end])
    bins = (points - 2) // 2
    for b in range(bins):
        inside = [(c.recall >= b / bins) & ((c.recall < (b + 1) / bins) | (b == bins - 1)) for c in (whole, thin)]
        assert thin.precision[inside[1]].max() == whole.precision[inside[0]].max()
        assert thin.precision[inside[1]].min() == whole.precision[inside[0]].min()


@given(st.integers(1, 30), st.integers(4, 12))
def test_short_curves_are_whole(positives: int, points: int) -> None:
    scores, targets = -np.arange(2.0 * positives)[:, None], np.tile([[1], [0]], (positives, 1))
    curve = precision_recall_curves(scores, targets, points=points)[0]
    assert len(curve.recall) <= points
    if positives <= points:
        np.testing.assert_allclose(curve.precision, np.arange(1, positives + 1) / np.arange(1, 2 * positives, 2))


def test_by_hand() -> None:
    curve, empty = precision_recall_curves([[0.9, 1], [0.8, 1], [0.8, 1], [0.1, 1]], [[1, 0], [0, -1], [1, 0], [-1, 0]])
    np.testing.assert_allclose(curve.recall, [1 / 2, 1])
    np.testing.assert_allclose(curve.precision, [1, 2 / 3])
    assert len(empty.recall) == len(empty.precision) == 0


def test_refuses_too_few_points_and_nan() -> None:
    with pytest.raises(ValueError, match="points"):
        precision_recall_curves([[1.0]], [[1]], points=3)
    with pytest.raises(ValueError, match="NaN"):
        precision_recall_curves([[np.nan]], [[1]])
