from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sadcl_core import search
from sadcl_core.data.image_stream import open_images
from sadcl_core.data.images import read_image
from sadcl_core.data.manifest import load_manifest
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError
from sadcl_core.inference.embed_split import write_embeddings, write_image_embeddings
from sadcl_core.inference.embedding_index import open_index
from sadcl_core.inference.load import Model, load_trained


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_trained(trained / "runs" / "coco", device="cpu")


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
    write_embeddings(model, split, tmp_path, limit=3, pairs="every")
    table = pq.read_table(tmp_path / "label_features.parquet").to_pylist()
    assert len(table) == 30
    assert [row["target"] for row in table] == [int(t) for i in range(3) for t in split.targets(i)]


def test_arrays_and_prototypes_go_with_the_tables(model: Model, split: Split, tmp_path: Path) -> None:
    write_embeddings(model, split, tmp_path, batch_size=5)
    labels, images = (pq.read_table(tmp_path / name) for name in ("label_features.parquet", "image_features.parquet"))
    vectors = np.load(tmp_path / "label_embeddings.npy")
    np.testing.assert_array_equal(vectors, np.array(labels["embedding"].to_pylist(), np.float32))
    pooled = np.array(images["feature"].to_pylist(), np.float32)
    np.testing.assert_allclose(
        np.load(tmp_path / "image_embeddings.npy"), pooled / np.linalg.norm(pooled, axis=1)[:, None], rtol=1e-5
    )
    assert images["path"].to_pylist() == [str(split.path(i)) for i in range(len(split))]
    scores = model.predict(split.path(3)).scores
    np.testing.assert_allclose(images["scores"][3].as_py(), scores, atol=1e-5)
    assert images["predicted"][3].as_py() == [name for name, score in zip(model.classes, scores, strict=True) if score > 0.5]
    index = open_index(tmp_path)
    assert index.about["classes"] == list(model.classes)
    centres = model.forward.project(model.classifier.prototypes).numpy()
    np.testing.assert_allclose([index.prototypes[name] for name in model.classes], centres, atol=1e-6)


def test_a_search_for_an_image_finds_its_neighbours(model: Model, split: Split, tmp_path: Path) -> None:
    write_embeddings(model, split, tmp_path)
    label = model.classes[split.active(3)[0]]
    matches = search(tmp_path, split.path(3), label, model=model)
    assert split[3] not in [match.image for match in matches]  # itself
    holders = [split[i] for i in range(len(split)) if split.active(3)[0] in split.active(i)]
    assert sorted(match.image for match in matches) == sorted(set(holders) - {split[3]})
    features = model.embed([split.path(i) for i in range(len(split))]).embeddings[:, model.classes.index(label)]
    for match in matches:
        row = [split[i] for i in range(len(split))].index(match.image)
        assert match.cosine == pytest.approx(float(features[3] @ features[row]), abs=1e-5)
    whole = search(str(tmp_path), split.path(3).read_bytes(), count=2)  # the model is found by itself
    assert whole[0].image == split[3]
    assert whole[0].cosine == pytest.approx(1, abs=1e-5)
    other = copy.deepcopy(model)
    torch.nn.init.zeros_(other.classifier.prototypes)
    with pytest.raises(DataError, match="another model"):
        search(tmp_path, split.path(3), model=other)


def test_files_without_labels_have_those_that_are_predicted(model: Model, split: Split, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    files = [split.path(0), tmp_path / "broken.jpg", split.path(1)]
    rows, errors = write_image_embeddings(model, open_images(files), tmp_path, batch_size=2)
    assert (rows[tmp_path / "image_features.parquet"], len(errors)) == (2, 1)
    images = pq.read_table(tmp_path / "image_features.parquet").to_pylist()
    assert [row["image"] for row in images] == [str(files[0]), str(files[2])]
    labels = pq.read_table(tmp_path / "label_features.parquet").to_pylist()
    assert [(row["image"], row["label"]) for row in labels] == [
        (row["image"], label) for row in images for label in row["predicted"]
    ]
    assert {row["target"] for row in labels} <= {-1}
    with pytest.raises(DataError, match="None of 1 images"):
        write_image_embeddings(model, open_images(files[1:2]), tmp_path / "none")


def test_a_name_that_is_no_utf8_is_written_by_its_bytes(model: Model, split: Split, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.png")
    path.write_bytes(split.path(0).read_bytes())
    write_image_embeddings(model, open_images([path]), tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out" / "image_features.parquet").to_pylist()
    assert (row["image"], row["path"]) == (f"{tmp_path}/\\xff.png",) * 2


def test_coordinates_are_columns(model: Model, split: Split, tmp_path: Path) -> None:
    write_embeddings(model, split, tmp_path, limit=2)
    before = pq.read_table(tmp_path / "label_features.parquet")
    write_embeddings(model, split, tmp_path, limit=2, coordinates="tsne")
    after = pq.read_table(tmp_path / "label_features.parquet")
    assert after.drop_columns(["x", "y"]).equals(before)
    assert (np.isfinite(after["x"].to_numpy()).all()) == (before.num_rows >= 3)
    assert np.isnan(pq.read_table(tmp_path / "image_features.parquet")["y"].to_numpy()).all()  # of two images
    assert open_index(tmp_path).about == open_index(tmp_path).about


def test_nothing_is_left_of_what_fails(model: Model, split: Split, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image"):
        write_embeddings(model, split, tmp_path, limit=0)
    assert list(tmp_path.iterdir()) == []
