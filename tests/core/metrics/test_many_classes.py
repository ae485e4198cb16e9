"""Memory of what is counted for pairs of classes."""

from __future__ import annotations

import tracemalloc

import numpy as np

from sadcl_core.metrics.mistakes import confusions


def test_confusions_of_thousands_of_classes_take_no_matrix_of_all_pairs() -> None:
    count = 3000
    rng = np.random.default_rng(0)
    scores, targets = rng.random((20, count), np.float32), np.zeros((20, count), np.int8)
    targets[:, :300] = 1
    tracemalloc.start()
    found = confusions(scores, targets, 0.5, most=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 300
    assert peak < count * count * 8  # the counts of all pairs are four times this
