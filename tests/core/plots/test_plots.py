"""Figures are looked at by people; here they only have to come out, from awkward numbers too, with something in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.plots.attention import plot_attention
from sadcl_core.plots.comparison import plot_comparison
from sadcl_core.plots.curves import plot_curves
from sadcl_core.plots.embeddings import plot_embeddings
from sadcl_core.plots.prototypes import plot_prototypes
from sadcl_core.plots.style import colour, marker

RNG = np.random.default_rng(0)


def inked(path: Path) -> float:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 400
        assert image.height > 200
        return float((np.asarray(image.convert("L")) < 250).mean())


@pytest.mark.parametrize(("classes", "groups"), [(3, 0), (10, 3), (80, 12)])
def test_prototypes(tmp_path: Path, classes: int, groups: int) -> None:
    superclasses = [f"group {k % groups}" for k in range(classes)] if groups else []
    names = [f"class {k}" for k in range(classes)]
    path = plot_prototypes(RNG.normal(size=(classes, 2)), names, superclasses, tmp_path / "p.png", title="a title")
    assert inked(path) > 0.005


@pytest.mark.parametrize("classes", [2, 80])
def test_embeddings(tmp_path: Path, classes: int) -> None:
    labels = RNG.integers(0, classes, 500)
    path = plot_embeddings(
        RNG.normal(size=(500, 2)), labels, [f"class {k}" for k in range(classes)], tmp_path / "e.png", title="a title"
    )
    assert inked(path) > 0.01


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("size", [(64, 64), (300, 100)])
def test_attention(tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (30, 90, 160))
    labels = [(f"label {k}", 0.5, RNG.random((4, 5)).astype(np.float32)) for k in range(count)]
    assert inked(plot_attention(image, labels, tmp_path / "a.png", title="an image")) > 0.2


def test_attention_shows_where_it_is_high(tmp_path: Path) -> None:
    attention = np.zeros((4, 4), np.float32)
    attention[0, 3] = 1
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    path = plot_attention(grey, [("x", 1.0, attention)], tmp_path / "a.png", title="")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    panel = pixels[:, pixels.shape[1] // 2 :]
    red = (panel[..., 0] - panel[..., 2]) > 80
    ys, xs = np.nonzero(red)
    assert ys.mean() < panel.shape[0] / 2
    assert xs.mean() > panel.shape[1] / 2


def test_curves_with_a_term_of_one_stage_only(tmp_path: Path) -> None:
    rows = [
        {
            "stage": "classification",
            "epoch": "1",
            "loss": "0.5",
            "sample_to_sample": "",
            "mAP_interpolated": "40",
            "mAP_non_interpolated": "39",
        },
        {
            "stage": "contrastive",
            "epoch": "1",
            "loss": "0.4",
            "sample_to_sample": "3.1",
            "mAP_interpolated": "45",
            "mAP_non_interpolated": "44",
        },
    ]
    assert inked(plot_curves(rows, tmp_path / "c.png", title="a run")) > 0.005


def test_groups_stay_apart() -> None:
    assert len({(colour(k), marker(k)) for k in range(144)}) == 144


@pytest.mark.parametrize(
    "values", [{"one": [50.0]}, {"a": [50.0, 50.0], "b": [50.0, 50.0]}, {"a": [10.0], "b": [97.1], "c": [97.2]}]
)
def test_comparison(tmp_path: Path, values: dict[str, list[float]]) -> None:
    seeds = range(1, 1 + len(next(iter(values.values()))))
    path = plot_comparison(values, list(seeds), tmp_path / "c.png", title="a title")
    assert inked(path) > 0.005
    with Image.open(path) as image:
        assert (image.width > 1800) == ("c" in values)  # a second panel, only where some are far below
