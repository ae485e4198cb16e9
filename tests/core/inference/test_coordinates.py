from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sadcl_core.errors import MachineError, UsageError
from sadcl_core.inference.coordinates import Method, add_coordinates, two_dimensions


@pytest.mark.parametrize("method", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_two_dimensions_keep_neighbours_and_repeat(one_thread: None, method: Method) -> None:
    if method == "umap":
        pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    centres = np.eye(3, 8)
    vectors = (centres[np.arange(60) % 3] + rng.normal(0, 0.02, (60, 8))).astype(np.float32)
    points = two_dimensions(vectors, method=method)
    assert points.shape == (60, 2)
    assert np.array_equal(points, two_dimensions(vectors, method=method))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(60)
    assert (distances.argmin(axis=1) % 3 == np.arange(60) % 3).all()
    assert two_dimensions(vectors[:3], method=method).shape == (3, 2)
    with pytest.raises(ValueError, match="at least 3"):
        two_dimensions(vectors[:2], method=method)
    assert torch.get_num_threads() == 1  # as before


def test_both_tables_get_columns_of_places(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    for kind, rows in (("label", 7), ("image", 2)):
        np.save(tmp_path / f"{kind}_embeddings.npy", vectors[:rows])
        pq.write_table(pa.table({"image": [str(row) for row in range(rows)]}), tmp_path / f"{kind}_features.parquet")
    add_coordinates(tmp_path)
    labels, images = (pq.read_table(tmp_path / f"{kind}_features.parquet") for kind in ("label", "image"))
    assert labels["image"].to_pylist() == [str(row) for row in range(7)]
    np.testing.assert_array_equal(np.stack([labels["x"], labels["y"]], axis=1), two_dimensions(vectors))
    assert np.isnan([images["x"], images["y"]]).all()  # of two vectors there is no map


def test_umap_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)  # as where it is not installed
    with pytest.raises(MachineError, match=r"sadcl\[umap\]"):
        two_dimensions(np.eye(5, dtype=np.float32), method="umap")


def test_too_many_rows_for_tsne_are_refused_before_a_table_changes(tmp_path: Path) -> None:
    for kind, rows in (("label", 20_001), ("image", 4)):
        np.save(tmp_path / f"{kind}_embeddings.npy", np.ones((rows, 2), np.float32))
        pq.write_table(pa.table({"image": ["a"] * rows}), tmp_path / f"{kind}_features.parquet")
    with pytest.raises(UsageError, match=r"20,001 rows .* --limit, or take --coordinates umap"):
        add_coordinates(tmp_path)
    assert pq.read_schema(tmp_path / "image_features.parquet").names == ["image"]
