from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from sadcl_core.metrics import average_precision
from tests import reference


def random_scores(seed: int, images: int = 60, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((images, classes)), (rng.random((images, classes)) < 0.3).astype(np.int8)


@pytest.mark.parametrize("ties", [False, True])
def test_non_interpolated_equals_scikit_learn(ties: bool) -> None:
    scores, targets = random_scores(0)
    scores = scores.round(1) if ties else scores
    expected = [average_precision_score(targets[:, k], scores[:, k]) for k in range(targets.shape[1])]
    np.testing.assert_allclose(average_precision(scores, targets, interpolated=False), expected, atol=1e-12)


@pytest.mark.parametrize("interpolated", [False, True])
def test_equals_the_formula_and_leaves_unknown_out(interpolated: bool) -> None:
    scores, targets = random_scores(1)
    targets[np.random.default_rng(2).random(targets.shape) < 0.2] = -1
    expected = [
        reference.average_precision(list(scores[:, k]), list(targets[:, k]), interpolated=interpolated)
        for k in range(targets.shape[1])
    ]
    np.testing.assert_allclose(average_precision(scores, targets, interpolated=interpolated), expected, atol=1e-12)


def test_by_hand() -> None:
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    targets = np.array([[0], [1], [0], [1]])  # precision at the positives: 1/2 and 2/4
    assert average_precision(scores, targets, interpolated=False)[0] == pytest.approx(0.5)
    targets = np.array([[0], [1], [1], [0]])  # 1/2 and 2/3; interpolated: 2/3 and 2/3
    assert average_precision(scores, targets, interpolated=False)[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert average_precision(scores, targets, interpolated=True)[0] == pytest.approx(2 / 3)


def test_interpolated_is_never_lower() -> None:
    scores, targets = random_scores(3)
    assert (average_precision(scores, targets) >= average_precision(scores, targets, interpolated=False)).all()


def test_constant_scores_give_the_share_of_positives() -> None:
    targets = np.array([[1], [0], [0], [1], [0]])
    for interpolated in (False, True):
        assert average_precision(np.full((5, 1), 0.3), targets, interpolated=interpolated)[0] == pytest.approx(0.4)


def test_class_without_positive_is_nan_and_with_only_positives_is_one() -> None:
    result = average_precision(np.random.default_rng(0).random((4, 2)), np.array([[0, 1]] * 4))
    assert np.isnan(result[0])
    assert result[1] == 1


def test_order_of_images_and_monotone_scales_do_not_matter() -> None:
    scores, targets = random_scores(4)
    order = np.random.default_rng(5).permutation(len(scores))
    expected = average_precision(scores, targets)
    np.testing.assert_allclose(average_precision(scores[order], targets[order]), expected)
    np.testing.assert_allclose(average_precision(np.exp(5 * scores), targets), expected)


def test_refuses_nan_and_other_shapes_and_other_targets() -> None:
    scores, targets = random_scores(6)
    with pytest.raises(ValueError, match="NaN"):
        average_precision(np.where(scores > 0.9, np.nan, scores), targets)
    with pytest.raises(ValueError, match=r"\(N, K\)"):
        average_precision(scores, targets[:, :2])
    with pytest.raises(ValueError, match="targets must be"):
        average_precision(scores, targets + 1)
