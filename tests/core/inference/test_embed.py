from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sadcl_core.data.images import read_image
from sadcl_core.data.manifest import load_manifest
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.inference.embed import label_features, two_dimensions, write_embeddings
from sadcl_core.runs.checkpoint import LoadedModel, load_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(trained: Path) -> LoadedModel:
    return load_model(trained / "runs" / "coco" / "weights" / "best.safetensors")


@pytest.fixture(scope="module")
def split(trained: Path) -> Split:
    return load_manifest(trained / "prepared" / "coco").split("val")


def test_active_labels_with_their_features(model: LoadedModel, split: Split, tmp_path: Path) -> None:
    rows = write_embeddings(label_features(model, split, device=CPU, batch_size=5), split, tmp_path)
    labels = pq.read_table(tmp_path / "label_features.parquet").to_pylist()
    images = pq.read_table(tmp_path / "image_features.parquet").to_pylist()
    assert rows == {tmp_path / "label_features.parquet": len(labels), tmp_path / "image_features.parquet": len(images)}
    names = split.manifest.classes
    assert [(row["image"], row["label"]) for row in labels] == [
        (split[i], names[k]) for i in range(len(split)) for k in split.active(i)
    ]
    assert all(row["target"] == 1 for row in labels)
    assert [row["labels"] for row in images] == [[names[k] for k in split.active(i)] for i in range(len(split))]
    # the row of one label against the model itself
    row = next(row for row in labels if row["image"] == split[7])
    output = model.classifier(
        model.card.preprocessing.normalise(model.card.preprocessing.resize(read_image(split.path(7)))[None])
    )
    feature = output.label_features[0, names.index(row["label"])]
    np.testing.assert_allclose(row["feature"], feature.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(row["embedding"], model.classifier.project(feature).detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(images[7]["feature"], output.image_features[0].detach().numpy(), atol=1e-5)
    assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-5)


def test_every_label_on_request(model: LoadedModel, split: Split, tmp_path: Path) -> None:
    write_embeddings(label_features(model, split, device=CPU, limit=3, every_label=True), split, tmp_path)
    table = pq.read_table(tmp_path / "label_features.parquet").to_pylist()
    assert len(table) == 30
    assert [row["target"] for row in table] == [int(t) for i in range(3) for t in split.targets(i)]


def test_nothing_is_left_of_what_fails(split: Split, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        write_embeddings(iter(()), split, tmp_path)
    assert list(tmp_path.iterdir()) == []


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
