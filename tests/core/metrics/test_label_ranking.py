from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import coverage_error, label_ranking_loss

from sadcl_core.metrics import label_ranking


@pytest.mark.parametrize("decimals", [1, 9])
def test_equals_scikit_learn_on_the_images_with_active_and_inactive_labels(decimals: int) -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.random((80, 5)).round(decimals), (rng.random((80, 5)) < 0.3).astype(np.int8)
    some = targets.any(axis=1) & (targets == 0).any(axis=1)
    assert 0 < some.sum() < 80
    result = label_ranking(scores, targets)
    assert result.ranking_loss == pytest.approx(label_ranking_loss(targets[some], scores[some]))
    assert result.coverage_error == pytest.approx(coverage_error(targets[some], scores[some]))
    assert result.images == some.sum()
    assert label_ranking_loss(targets, scores) == pytest.approx(result.ranking_loss * some.mean())  # the others have loss 0 there


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_unknown_labels_take_no_place(seed: int) -> None:
    """Against scikit-learn image by image, with the unknown labels cut out."""
    rng = np.random.default_rng(seed)
    levels = np.array([-np.inf, -1.0, 0.0, 0.5, np.inf])
    scores, targets = levels[rng.integers(0, 5, (8, 6))], rng.integers(-1, 2, (8, 6)).astype(np.int8)
    losses, depths = [], []
    for score, truth in zip(scores, targets, strict=True):
        known = truth >= 0
        if (truth == 1).any() and (truth == 0).any():
            finite = np.searchsorted(levels, score[known]).astype(float)[None]
            losses.append(label_ranking_loss(truth[known][None], finite))
            depths.append(coverage_error(truth[known][None], finite))
    result = label_ranking(scores, targets)
    assert result.images == len(losses)
    assert (result.ranking_loss, result.coverage_error) == pytest.approx(
        (np.mean(losses), np.mean(depths)) if losses else (np.nan, np.nan), nan_ok=True
    )


def test_by_hand() -> None:
    scores = np.array([[0.9, 0.5, 0.5, 0.1]])
    result = label_ranking(scores, np.array([[0, 1, 0, 1]]))  # wrong pairs: (1, 0), (1, 2) as a tie, (3, 0), (3, 2)
    assert (result.ranking_loss, result.coverage_error) == (1, 4)
    assert label_ranking(scores, np.array([[1, 0, 0, 0]])).coverage_error == 1


def test_nothing_to_rank() -> None:
    result = label_ranking([[0.3, 0.4], [0.1, 0.2]], [[1, 1], [0, -1]])
    assert result.images == 0
    assert np.isnan([result.ranking_loss, result.coverage_error]).all()
