"""The same image has the same labels and scores, whichever way it is given."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sadcl_core.data.image_stream import open_images
from sadcl_core.data.images import read_image
from sadcl_core.exporting.export import Export
from sadcl_core.inference.load import Model, load, load_trained
from sadcl_core.inference.predict import Prediction
from tests.conftest import run_sadcl

Outcomes = dict[str, str | npt.NDArray[np.float32]]  # by name: the scores, or why it cannot be read
THRESHOLD = 0.3


def scene(seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((90, 60), Image.Resampling.BICUBIC)


def bomb() -> bytes:
    """A PNG whose header speaks of 3,600 million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, data, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def write_images(folder: Path) -> None:
    """Write an image of every kind that decoders differ on, and what is none."""
    picture = scene()
    for orientation in (3, 6, 7):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(folder / f"turned-{orientation}.jpg", exif=exif)
    for mode, name in (("L", "grey.jpg"), ("CMYK", "cmyk.jpg"), ("P", "palette.png"), ("1", "two-colours.png"), ("LA", "la.png")):
        picture.convert(mode).save(folder / name)
    faded = picture.convert("RGBA")
    faded.putalpha(Image.linear_gradient("L").resize(picture.size))
    faded.save(folder / "alpha.png")
    faded.save(folder / "alpha.webp", lossless=True)
    picture.convert("P").save(folder / "palette-transparent.png", transparency=3)
    for name in ("animated.gif", "animated.webp", "animated.png"):
        picture.save(folder / name, save_all=True, append_images=[scene(1), scene(2)], duration=50)
    deep = np.asarray(picture.convert("L"), np.uint16) * 257
    Image.fromarray(deep).save(folder / "16-bit.png")
    Image.fromarray(deep).save(folder / "16-bit.tif")
    Image.fromarray(deep // 300).save(folder / "12-bit-and-dark.tif")
    Image.fromarray(np.asarray(picture.convert("F")) / 255).save(folder / "float.tif")
    picture.save(folder / "new\nline, 😀 'quoted\".jpg")
    picture.save(folder / "upper.JPG")
    Image.new("RGB", (1, 1), (9, 90, 200)).save(folder / "one-pixel.png")
    picture.save(folder / "whole.jpg")
    (folder / "cut-short.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:700])
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "text.jpg").write_text("a text")
    (folder / "empty.jpg").write_bytes(b"")


BROKEN = {"cut-short.jpg", "bomb.png", "text.jpg", "empty.jpg"}


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return load_trained(trained / "runs" / "coco", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


@pytest.fixture(scope="module")
def reference(model: Model, folder: Path) -> Outcomes:
    """Each image alone through the network; what cannot be read, by its message in Python."""
    outcomes: Outcomes = {}
    for path in sorted(folder.iterdir()):
        if path.name in BROKEN:
            outcomes[path.name] = model.predict(path).error
            continue
        pixels = model.preprocessing.resize(read_image(path))[None]
        with torch.inference_mode():
            logits = model.classifier(model.preprocessing.normalise(pixels)).logits
        outcomes[path.name] = logits.sigmoid()[0].numpy()
    return outcomes


def outcome(prediction: Prediction) -> str | npt.NDArray[np.float32]:
    return prediction.error or prediction.scores


def by_command(model: Model, folder: Path) -> Outcomes:
    ran = run_sadcl(
        "predict", folder, "-w", model.path, "--json", "--all-scores", "--threshold", str(THRESHOLD), "--device", "cpu", code=3
    )
    assert f"{len(BROKEN)} of " in ran.stderr
    documents = [json.loads(line) for line in ran.stdout.splitlines()]
    for document in documents:
        scores = document.get("scores", {})
        expected = sorted((name for name, score in scores.items() if score > THRESHOLD), key=lambda name: -scores[name])
        assert [label["name"] for label in document["labels"]] == expected
    return {
        Path(document["image"]).name: document.get("error") or np.array([*document["scores"].values()], np.float32)
        for document in documents
    }


def by_table(model: Model, folder: Path, *options: str) -> Outcomes:
    output = folder.with_name(f"{folder.name}{len(options)}.parquet")
    fixed = ("--all-scores", "--device", "cpu", "--exist-ok")
    run_sadcl("predict", folder, "-w", model.path, "-o", output, *fixed, *options, code=3)
    rows = pq.read_table(output).to_pylist()
    return {Path(row["image"]).name: row["error"] or np.array(row["scores"], np.float32) for row in rows}


def by_embedded_images(model: Model, folder: Path) -> Outcomes:
    """Parquet with the images in it, as the Hugging Face hub has them."""
    paths = sorted(folder.iterdir())
    table = folder.with_name("embedded.parquet")
    pq.write_table(pa.table({"image": [{"bytes": path.read_bytes(), "path": str(path)} for path in paths]}), table)
    return {Path(str(p.image)).name: outcome(p) for p in model.iter_predict(open_images([table]))}


def by_columns(model: Model, folder: Path) -> Outcomes:
    """The form of Ray Data, Daft and Spark."""
    paths = sorted(folder.iterdir())
    columns: dict[str, Any] = model({"image": [str(path) for path in paths], "name": [path.name for path in paths]}, batch_size=7)
    rows = zip(columns["name"], columns["scores"], columns["error"], strict=True)
    return {name: error or scores for name, scores, error in rows}


WAYS: dict[str, Callable[[Model, Path], Outcomes]] = {
    "command": by_command,
    "table": by_table,
    "table, small batches and two workers": lambda model, folder: by_table(model, folder, "-b", "5", "-j", "2"),
    "table, no worker": lambda model, folder: by_table(model, folder, "-j", "0"),
    "one after the other": lambda model, folder: {path.name: outcome(model.predict(path)) for path in folder.iterdir()},
    "a list": lambda model, folder: {Path(str(p.image)).name: outcome(p) for p in model.predict(sorted(folder.iterdir()))},
    "two workers": lambda model, folder: {
        Path(str(p.image)).name: outcome(p) for p in model.predict(sorted(folder.iterdir()), batch_size=3, workers=2)
    },
    "two parts": lambda model, folder: {
        Path(str(p.image)).name: outcome(p) for k in (1, 2) for p in model.iter_predict(open_images([folder], part=(k, 2)))
    },
    "embedded images": by_embedded_images,
    "columns": by_columns,
}


@pytest.mark.parametrize("way", WAYS)
def test_same_image_same_scores(model: Model, folder: Path, reference: Outcomes, way: str) -> None:
    outcomes = WAYS[way](model, folder)
    assert outcomes.keys() == reference.keys()
    for name, expected in reference.items():
        found = outcomes[name]
        if isinstance(expected, str):
            assert name in BROKEN
            assert isinstance(found, str)
            assert found.partition(": ")[2] == expected.partition(": ")[2], name
        else:
            assert not isinstance(found, str), found
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)


def test_the_exported_model_has_them_within_a_thousandth(exported: Export, folder: Path, reference: Outcomes) -> None:
    model = load(exported.path)
    for prediction in model.iter_predict(open_images([folder]), batch_size=3, workers=2):
        name = Path(str(prediction.image)).name
        assert bool(prediction.error) == (name in BROKEN)
        if not prediction.error:
            np.testing.assert_allclose(prediction.scores, reference[name], atol=1e-3, err_msg=name)  # type: ignore[arg-type]


def test_the_kinds_are_read_as_people_see_them(reference: Outcomes) -> None:
    """An image on its side is turned, alpha is left out, and the first picture of several counts."""
    for name in ("alpha.png", "alpha.webp", "animated.png"):
        np.testing.assert_allclose(reference[name], reference["animated.webp"], atol=0.02, err_msg=name)  # type: ignore[arg-type]
    for name in ("la.png", "16-bit.png", "16-bit.tif", "float.tif"):
        np.testing.assert_allclose(reference[name], reference["grey.jpg"], atol=0.02, err_msg=name)  # type: ignore[arg-type]
