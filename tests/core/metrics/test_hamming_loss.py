from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import hamming_loss as reference

from sadcl_core.metrics import hamming_loss


@pytest.mark.parametrize("threshold", [0.5, [0.1, 0.4, 0.5, 0.9]])
def test_equals_scikit_learn(threshold: float | list[float]) -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.random((60, 4)), rng.integers(0, 2, (60, 4))
    assert hamming_loss(scores, targets, threshold) == pytest.approx(reference(targets, scores > threshold))


def test_unknown_labels_are_left_out() -> None:
    assert hamming_loss([[0.9, 0.9], [0.1, 0.1]], [[1, -1], [-1, 1]]) == 0.5
    assert np.isnan(hamming_loss([[0.9]], [[-1]]))


def test_a_score_at_the_threshold_does_not_count() -> None:
    assert hamming_loss([[0.5]], [[1]]) == 1
