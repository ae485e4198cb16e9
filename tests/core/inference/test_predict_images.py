from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sadcl_core.data.image_stream import ImageStream, open_images
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.load import Model, load_trained
from sadcl_core.inference.predict import Prediction
from sadcl_core.inference.predict_images import PredictedImages, predict_images
from sadcl_core.inference.sinks import Tags

ROWS = 13  # 12 images and a broken one


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_trained(trained / "runs" / "coco", device="cpu")


@pytest.fixture
def photos(coco: Path) -> Path:
    (coco / "val2017" / "005b.jpg").write_bytes(b"no image")
    return coco / "val2017"


def stopped_after(count: int) -> Any:
    """What ends the process after so many predictions."""

    seen = itertools.count(1)

    def each(prediction: Prediction) -> None:
        if next(seen) == count:
            raise KeyboardInterrupt

    return each


def run(model: Model, images: ImageStream, output: Path, **options: Any) -> PredictedImages:
    return predict_images(model, images, output=output, **{"threshold": 0.2, "batch_size": 2, "chunk": 3, **options})


@pytest.mark.parametrize(("stops", "options"), [((12,), {}), ((1, 7, 3), {"all_scores": True, "embed": True})])
def test_stopped_and_started_again_it_is_the_same_file(
    model: Model, photos: Path, tmp_path: Path, stops: tuple[int, ...], options: Any
) -> None:
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    images = open_images([photos])
    assert run(model, images, whole, **options) == PredictedImages(ROWS, 1, 0)
    for count in stops:
        with pytest.raises(KeyboardInterrupt):
            run(model, images, parts, each=stopped_after(count), **options)
        assert not parts.exists()
    done = run(model, images, parts, **options)
    finished = sum((count - 1) // 4 * 4 for count in stops)  # chunks of 3 images are rounded up to two batches of 2
    assert done == PredictedImages(ROWS, 1, finished)
    assert parts.read_bytes() == whole.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".parquet" and path.is_file()] == []
    assert not list(tmp_path.glob(".*"))


def test_rows_of_every_form(model: Model, photos: Path, tmp_path: Path) -> None:
    images = open_images([photos])
    expected = list(model.iter_predict(images, threshold=0.2))
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        run(model, images, tmp_path / name, all_scores=True)
    table = pq.read_table(tmp_path / "a.parquet")
    assert json.loads(table.schema.metadata[b"sadcl"])["classes"] == list(model.classes)
    documents = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    for prediction, row, document, line in zip(expected, table.to_pylist(), documents, cells, strict=True):
        assert row["image"] == document["image"] == line["image"] == prediction.image
        assert row["error"] == document.get("error") == (prediction.error or None)
        assert line["error"] == prediction.error
        assert row["labels"] == [name for name, _ in prediction.labels]
        assert line["labels"] == "|".join(row["labels"])
        if prediction.error:
            assert row["scores"] is None
            assert line["zero"] == ""
            continue
        np.testing.assert_allclose(row["scores"], prediction.scores, atol=1e-5)
        np.testing.assert_allclose(row["probabilities"], [score for _, score in prediction.labels], atol=1e-5)
        np.testing.assert_allclose(list(document["scores"].values()), prediction.scores, atol=1e-5)
        assert float(line["zero"]) == pytest.approx(prediction.scores[0], abs=1e-5)


def test_features_are_those_of_embed(model: Model, photos: Path, tmp_path: Path) -> None:
    (photos / "005b.jpg").unlink()
    images = open_images([photos])
    run(model, images, tmp_path / "a.parquet", embed=True)
    table, features = pq.read_table(tmp_path / "a.parquet"), model.embed(images)
    np.testing.assert_allclose(np.stack(table["feature"].to_numpy()), features.image_features, atol=1e-5)
    for row, embeddings in zip(table.to_pylist(), features.embeddings, strict=True):
        expected = embeddings[[model.classes.index(name) for name in row["labels"]]]
        np.testing.assert_allclose(np.reshape(row["embeddings"], expected.shape), expected, atol=1e-5)


def test_no_image_can_be_read(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    done = run(model, open_images([tmp_path / "a.jpg"]), tmp_path / "a.parquet", embed=True, all_scores=True)
    assert done == PredictedImages(1, 1, 0)
    assert pq.read_table(tmp_path / "a.parquet")["error"].to_pylist() == [f"{tmp_path}/a.jpg: not an image."]


def test_a_folder_without_a_finished_chunk_blocks_nothing(model: Model, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / ".a.csv.parts"
    folder.mkdir()
    (folder / "job.json").write_text('{"images": ["others"]}')
    with pytest.raises(KeyboardInterrupt) as stopped:
        run(model, open_images([photos]), tmp_path / "a.csv", each=stopped_after(1))
    assert not folder.exists()
    assert stopped.value.__notes__ == ["No prediction is kept yet."]


def test_an_array_of_texts_is_many_paths(model: Model, photos: Path) -> None:
    paths = sorted(map(str, photos.glob("*.png")))[:2]
    assert [prediction.name for prediction in model.predict(np.array(paths))] == paths


def test_parts_are_the_whole(model: Model, photos: Path, tmp_path: Path) -> None:
    run(model, open_images([photos]), tmp_path / "all.parquet")
    rows = pq.read_table(tmp_path / "all.parquet").to_pylist()
    for number in (1, 2, 3):
        run(model, open_images([photos], part=(number, 3)), tmp_path / f"{number}.parquet")
        part = pq.read_table(tmp_path / f"{number}.parquet").to_pylist()
        assert [row["image"] for row in part] == [row["image"] for row in rows[number - 1 :: 3]]


def test_a_file_goes_on_with_the_same_images_and_options_alone(model: Model, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.parquet"
    with pytest.raises(KeyboardInterrupt) as stopped:
        run(model, open_images([photos]), output, each=stopped_after(9))
    assert stopped.value.__notes__ == ["8 images kept; the same command goes on."]
    for options in ({"threshold": 0.3}, {"batch_size": 4}, {"topk": 1}, {"all_scores": True}, {"exclude": ["one"]}, {"chunk": 9}):
        with pytest.raises(UsageError, match=r"^\.a\.parquet\.parts was begun with other options\. "):
            run(model, open_images([photos]), output, **options)
    with pytest.raises(UsageError, match="was begun with other places for labels"):  # which the first images would lack
        run(model, open_images([photos]), output, sinks=[Tags(tmp_path / "tags")])
    with pytest.raises(UsageError, match=r"was begun with other images\. Give the command that began it to go on, or remove "):
        run(model, open_images([photos], part=(1, 2)), output)
    (photos / "000a.png").write_bytes((photos / "000.png").read_bytes())
    with pytest.raises(DataError, match=r"Image 2 is .*000a\.png and was .*001\.png"):
        run(model, open_images([photos]), output)
    (photos / "000a.png").unlink()
    for path in photos.glob("00[2-9]*"):
        path.unlink()
    with pytest.raises(DataError, match=r"Image 3 is .*010"):
        run(model, open_images([photos]), output)


def test_a_damaged_source_keeps_what_is_done(model: Model, photos: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_bytes("x.png".encode("utf-16"))
    images = open_images([photos, more])
    with pytest.raises(DataError, match=r"more\.txt"):
        run(model, images, tmp_path / "a.parquet")
    more.write_text("my-coco/val2017/000.png")
    assert run(model, images, tmp_path / "a.parquet") == PredictedImages(ROWS + 1, 1, 8)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.json", {}, "does not end in .parquet, .jsonl, .csv"),
        ("a.csv", {"embed": True}, "cannot hold features"),
        ("s3://bucket/a.parquet", {}, "is an address"),
        ("there.csv", {}, "--exist-ok"),
        ("folder.csv", {}, "is a folder"),
        ("there.csv/a.csv", {}, "cannot be written"),
    ],
)
def test_files_that_cannot_be_written(
    model: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.csv").write_text("mine")
    Path("folder.csv").mkdir()
    with pytest.raises(UsageError, match=words):
        run(model, open_images([photos]), Path(name), **options)
    assert Path("there.csv").read_text() == "mine"
    run(model, open_images([photos]), Path("there.csv"), exist_ok=True)
    assert Path("there.csv").read_text() != "mine"


def test_excluded_classes_are_no_labels(model: Model, photos: Path) -> None:
    images = open_images([photos / "000.png"])
    (first,) = model.iter_predict(images, topk=3)
    best = first.labels[0][0]
    (other,) = model.iter_predict(images, topk=3, exclude=[best])
    assert len(other.labels) == 3
    assert [name for name, _ in other.labels][:2] == [name for name, _ in first.labels][1:]
    with pytest.raises(UsageError, match="no class 'cat'"):
        model.iter_predict(images, exclude=["cat"])


def test_spreadsheets_compute_no_cell(model: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    for name in ("=1+1.jpg", "@a.png"):
        Path(name).write_bytes(Path("000.png").read_bytes())
    run(model, open_images(["=1+1.jpg", "@a.png"]), tmp_path / "a.csv")
    assert [line.split(",")[0] for line in (tmp_path / "a.csv").read_text().splitlines()] == ["image", "'=1+1.jpg", "'@a.png"]


def test_nothing_to_do(model: Model, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(DataError, match="There is no image in"):
        run(model, open_images([tmp_path / "none.txt"]), tmp_path / "a.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["none.txt"]
