from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import sadcl_core as sadcl
from sadcl_core.inference.embedding_index import EmbeddedRows, EmbeddingIndex, fingerprint, unit
from sadcl_core.runs.card import read_card

pytest.importorskip("uvicorn", reason="sadcl[serve] is not installed")

from starlette.testclient import TestClient

from sadcl_core.serving.application import build_application


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> sadcl.Model:
    """A model file of its own, which may be written."""
    file = tmp_path / "model.safetensors"
    shutil.copy(trained / "runs" / "coco" / "weights" / "best.safetensors", file)
    loaded = sadcl.load(file, device="cpu")
    assert isinstance(loaded, sadcl.Model)
    return loaded


@pytest.fixture
def images(trained: Path) -> list[Path]:
    return sorted((trained / "my-coco" / "val2017").iterdir())


@pytest.fixture
def client(model: sadcl.Model, images: list[Path]) -> Iterator[TestClient]:
    features = unit(model.embed(images).image_features)
    table = pa.table({"image": [p.name for p in images], "path": list(map(str, images)), "predicted": [["1"]] * len(images)})
    rows = EmbeddedRows(table, features)
    index = EmbeddingIndex(rows, rows, about={"fingerprint": fingerprint(model.classifier.state_dict())})
    with TestClient(build_application(model, demo=True, index=index), base_url="http://127.0.0.1") as client:
        yield client


def test_attention_and_alike_images(client: TestClient, model: sadcl.Model, images: list[Path]) -> None:
    answer = client.post("/details", files={"image": images[3].read_bytes()}).json()
    name, values = next(iter(answer["attention"].items()))
    expected = model.attention(images[3], [name])[0, 0]
    expected -= expected.min()
    np.testing.assert_allclose(np.array(values), expected / expected.max(), atol=1e-3)
    assert values == np.round(values, 3).tolist()  # short numbers
    first = answer["alike"][0]
    assert (first["image"], first["cosine"]) == (images[3].name, 1)
    assert client.get("/alike", params={"path": first["path"]}).content.startswith(b"\xff\xd8")
    assert client.get("/alike", params={"path": "/etc/passwd"}).status_code == 404
    assert client.post("/details", files={"image": b"broken"}).status_code == 422


def test_thresholds_are_kept_in_the_model(client: TestClient, model: sadcl.Model, images: list[Path]) -> None:
    name = model.classes[2]
    before = model.predict(images[0]).scores
    assert client.put("/thresholds", json={name: 0.25}).json()[name] == 0.25
    stored = sadcl.load(model.path, device="cpu")
    assert stored.thresholds.tolist() == [0.25 if k == name else 0.5 for k in model.classes]
    np.testing.assert_array_equal(stored.predict(images[0]).scores, before)
    assert client.get("/model").json()["thresholds"][name] == 0.25
    for values in ({name: 2}, {"no class": 0.5}, {name: "x"}, [1]):
        assert client.put("/thresholds", json=values).status_code == 422
    assert read_card(model.path).thresholds[2] == 0.25


def test_other_sites_cannot_write(client: TestClient, model: sadcl.Model) -> None:
    kind = {"Content-Type": "text/plain"}  # what a page of another site may send without asking
    assert client.put("/thresholds", content=f'{{"{model.classes[0]}": 0.1}}', headers=kind).status_code == 422
    assert client.get("/model", headers={"Host": "other.example"}).status_code == 400
    assert read_card(model.path).thresholds == ()


def test_an_index_of_another_model_is_no_obstacle(model: sadcl.Model, images: list[Path]) -> None:
    rows = EmbeddedRows(pa.table({"image": ["a"], "path": ["a"], "predicted": [["1"]]}), unit([[1.0, 0.0]]))
    application = build_application(model, demo=True, index=EmbeddingIndex(rows, rows, about={"fingerprint": "other"}))
    with TestClient(application, base_url="http://127.0.0.1") as client:
        answer = client.post("/details", files={"image": images[0].read_bytes()}).json()
    assert (answer["alike"], "another model" in answer["note"]) == ([], True)
