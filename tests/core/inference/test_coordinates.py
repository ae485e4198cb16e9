from __future__ import annotations

import sys

import numpy as np
import pytest

from sadcl_core.errors import MachineError
from sadcl_core.inference.coordinates import two_dimensions


def test_two_dimensions_keep_neighbours_and_repeat() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3, 8)
    vectors = (centres[np.arange(60) % 3] + rng.normal(0, 0.02, (60, 8))).astype(np.float32)
    points = two_dimensions(vectors)
    assert points.shape == (60, 2)
    assert np.array_equal(points, two_dimensions(vectors))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(60)
    assert (distances.argmin(axis=1) % 3 == np.arange(60) % 3).all()
    assert two_dimensions(vectors[:3]).shape == (3, 2)
    with pytest.raises(ValueError, match="at least 3"):
        two_dimensions(vectors[:2])


def test_umap_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)  # as where it is not installed
    with pytest.raises(MachineError, match=r"sadcl\[umap\]"):
        two_dimensions(np.eye(5, dtype=np.float32), method="umap")
