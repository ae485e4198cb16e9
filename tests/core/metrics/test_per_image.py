from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from sadcl_core.metrics import per_image


@pytest.mark.parametrize("zero_division", [0.0, 1.0])
@pytest.mark.parametrize("threshold", [0.5, [0.6, 0.7, 0.8, 0.9]])
def test_equals_scikit_learn(zero_division: float, threshold: float | list[float]) -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.random((900, 4)), (rng.random((900, 4)) < 0.25).astype(np.int8)
    decided = scores > threshold
    assert ((decided.sum(axis=1) + targets.sum(axis=1)) == 0).any()  # images of which zero_division decides
    result = per_image(scores, targets, threshold, zero_division=zero_division)
    assert result.f1 == pytest.approx(f1_score(targets, decided, average="samples", zero_division=zero_division))
    assert result.subset_accuracy == pytest.approx(accuracy_score(targets, decided))


def test_unknown_labels_and_images_are_left_out() -> None:
    result = per_image([[0.9, 0.9, 0.1], [0.9, 0.9, 0.9]], [[1, -1, 0], [-1, -1, -1]])
    assert (result.f1, result.subset_accuracy) == (1, 1)
    nothing = per_image([[0.9]], [[-1]])
    assert np.isnan([nothing.f1, nothing.subset_accuracy]).all()
