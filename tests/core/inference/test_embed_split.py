from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sadcl_core.data.images import read_image
from sadcl_core.data.manifest import load_manifest
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.inference.embed_split import write_embeddings
from sadcl_core.inference.load import Model, load


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load(trained / "runs" / "coco", device="cpu")


@pytest.fixture(scope="module")
def split(trained: Path) -> Split:
    return load_manifest(trained / "prepared" / "coco").split("val")


def test_active_labels_with_their_features(model: Model, split: Split, tmp_path: Path) -> None:
    rows = write_embeddings(model, split, tmp_path, batch_size=5)
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


def test_every_label_on_request(model: Model, split: Split, tmp_path: Path) -> None:
    write_embeddings(model, split, tmp_path, limit=3, every_label=True)
    table = pq.read_table(tmp_path / "label_features.parquet").to_pylist()
    assert len(table) == 30
    assert [row["target"] for row in table] == [int(t) for i in range(3) for t in split.targets(i)]


def test_nothing_is_left_of_what_fails(model: Model, split: Split, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        write_embeddings(model, split, tmp_path, limit=0)
    assert list(tmp_path.iterdir()) == []
