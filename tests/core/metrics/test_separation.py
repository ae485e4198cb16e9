from __future__ import annotations

import math

import numpy as np
import pytest

from sadcl_core.metrics.separation import separation

RNG = np.random.default_rng(0)


def test_against_the_definitions() -> None:
    vectors, labels = RNG.normal(size=(24, 5)) + 2 * np.eye(5)[np.arange(24) % 3], np.arange(24) % 3
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = 1 - unit @ unit.T
    values = []
    for i in range(24):
        own = [distances[i, j] for j in range(24) if labels[j] == labels[i] and j != i]
        others = [distances[i, labels == k].mean() for k in range(3) if k != labels[i]]
        a, b = np.mean(own), min(others)
        values.append((b - a) / max(a, b))
    between = sum(((unit[labels == k].mean(axis=0) - unit.mean(axis=0)) ** 2).sum() * (labels == k).sum() for k in range(3))
    within = sum(((unit[labels == k] - unit[labels == k].mean(axis=0)) ** 2).sum() for k in range(3))
    result = separation(vectors, labels)
    assert result.silhouette == pytest.approx(np.mean(values))
    assert result.between_within == pytest.approx(between / within)
    assert (result.vectors, result.classes) == (24, 3)
    order = RNG.permutation(24)
    assert separation(7 * vectors[order], labels[order]).between_within == pytest.approx(between / within)


def test_what_has_no_answer() -> None:
    assert math.isnan(separation(np.eye(4), [1, 1, 1, 1]).silhouette)
    assert math.isnan(separation(np.eye(4), [0, 1, 2, 3]).silhouette)
    assert separation(np.eye(2)[[0, 0, 1]], [0, 0, 1]).between_within == np.inf
    with pytest.raises(ValueError, match="one label each"):
        separation(np.eye(3), [0, 1])


def test_a_sample_is_near_the_whole() -> None:
    labels = RNG.integers(0, 3, 900)
    vectors = RNG.normal(size=(900, 8)) + 2 * np.eye(8)[labels]
    assert separation(vectors, labels, most=300).silhouette == pytest.approx(separation(vectors, labels).silhouette, abs=0.03)
