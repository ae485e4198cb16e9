"""Figures are looked at by people; here they only have to come out, from awkward numbers too, with something in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from PIL import Image

from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.rows import Record
from sadcl_core.data.split import Split
from sadcl_core.errors import UsageError
from sadcl_core.metrics.precision_recall_curve import precision_recall_curves
from sadcl_core.plots.attention import plot_attention
from sadcl_core.plots.co_occurrence import plot_co_occurrence
from sadcl_core.plots.comparison import plot_comparison
from sadcl_core.plots.contact_sheet import Tile, plot_contact_sheet
from sadcl_core.plots.curves import plot_curves
from sadcl_core.plots.embeddings import FeatureMap, plot_embeddings
from sadcl_core.plots.prototypes import plot_prototypes
from sadcl_core.plots.style import ESCAPE_NOTE, colour, families, font_with, marker
from sadcl_core.plots.thresholds import ThresholdCurves, plot_thresholds

RNG = np.random.default_rng(0)


def inked(path: Path) -> float:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 400
        assert image.height > 200
        return float((np.asarray(image.convert("L")) < 250).mean())


LONG = "a name that somebody found good, with $ and \n and 名字 "


@pytest.mark.parametrize(("classes", "groups"), [(2, 0), (80, 12)])
def test_prototypes(tmp_path: Path, classes: int, groups: int) -> None:
    superclasses = [f"group {k % groups}" for k in range(classes)] if groups else []
    names = [f"{LONG}{k}"[k % 40 :] for k in range(classes)]
    vectors = RNG.normal(size=(classes, 5))
    pairs = [(0, 1)] * min(classes, 15)
    points = RNG.normal(size=(classes, 2)) if classes > 2 else None
    path = plot_prototypes(
        points, vectors @ vectors.T, range(classes), pairs, names, superclasses, tmp_path / "p.png", title="a title"
    )
    assert inked(path) > 0.005


@pytest.mark.parametrize(("classes", "columns"), [(2, 1), (80, 3)])
def test_embeddings(tmp_path: Path, classes: int, columns: int) -> None:
    maps = [
        [
            FeatureMap(RNG.normal(size=(500, 2)), RNG.integers(0, classes, 500), f"run {k}", "silhouette 0.5")
            for k in range(columns)
        ]
        for _ in range(2)
    ]
    path = plot_embeddings(maps, [f"{LONG}{k}" for k in range(classes)], tmp_path / "e.png", title="a title")
    assert inked(path) > 0.01


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("size", [(64, 64), (300, 100)])
def test_attention(tmp_path: Path, count: int, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (30, 90, 160))
    labels = [(f"label {k}", 0.5, RNG.random((4, 5)).astype(np.float32)) for k in range(count)]
    assert inked(plot_attention(image, labels, tmp_path / "a.png", title="an image")) > 0.2


def test_a_long_note_under_attention_is_written_to_its_end(tmp_path: Path) -> None:
    note = "the best; none is above the model's own thresholds, 0.35 to 0.71; maps of the linear layer, which is trained alone"
    labels = [("cat", 0.5, np.ones((4, 4), np.float32))]
    path = plot_attention(Image.new("RGB", (40, 30)), labels, tmp_path / "a.svg", title="an image", note=note)
    assert "which is trained alone" in path.read_text()  # beside each text that is drawn as curves stands a comment with it


def test_curves_of_the_network_beside_its_ema(tmp_path: Path) -> None:
    rows = [{**row, "mAP_interpolated_network": "41"} for row in curve_rows({"a": 2, "b": 1})]
    plot_curves(rows, tmp_path / "c.svg", title="a run")
    assert "of the network itself, interpolated, best 41.00" in (tmp_path / "c.svg").read_text()


def curve_rows(stages: dict[str, int]) -> list[dict[str, str]]:
    rows = [(stage, epoch) for stage, count in stages.items() for epoch in range(1, count + 1)]
    maps = dict.fromkeys(("mAP_interpolated", "mAP_non_interpolated"), "40")
    return [{"stage": stage, "epoch": str(epoch), "lr": "1e-4", "loss": f"{1 / epoch}", **maps} for stage, epoch in rows]


def test_a_loss_has_an_axis_of_its_own_also_where_one_stage_alone_has_it(tmp_path: Path) -> None:
    rows = [
        {**row, "asymmetric": "0.1", "sample_to_sample": "" if row["stage"] == "a" else "3"}
        for row in curve_rows({"a": 3, "b": 2})
    ]
    plot_curves(rows, tmp_path / "c.svg", title="a run", split="val")
    text = (tmp_path / "c.svg").read_text()
    for heading in (
        "EMA mAP on split val, %",
        "total loss, weighted",
        "asymmetric loss, unweighted",
        "sample-to-sample loss, unweighted",
    ):
        assert f"<!-- {heading} -->" in text
    assert "prototype" not in text


def test_a_layer_that_was_fitted_without_an_epoch_has_no_ema(tmp_path: Path) -> None:
    (row,) = curve_rows({"linear": 1})
    plot_curves([{**row, "loss": ""}], tmp_path / "c.svg", title="a run", split="val")
    assert "<!-- mAP on split val, % -->" in (tmp_path / "c.svg").read_text()


def test_single_steps_are_behind_the_epochs_and_odd_ones_are_left_out(tmp_path: Path) -> None:
    good = [{"stage": "a", "epoch": 1.0, "step": float(step), "loss": 1 / step} for step in (10, 20)]
    odd = [{**good[0], "loss": value} for value in (None, "x", float("nan"), 1e300)] + [{"stage": "b"}, {}]
    paths = [
        plot_curves(curve_rows({"a": 1}), tmp_path / f"{name}.svg", title="a run", steps=steps)
        for name, steps in (("none", []), ("odd", odd), ("good", good), ("all", [*odd, *good]))
    ]
    none, only_odd, some, everything = (path.read_bytes() for path in paths)
    assert none == only_odd != some == everything


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_figure_is_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    files = [plot_curves(curve_rows({"a": 3}), tmp_path / f"{k}.{suffix}", title="a run") for k in (1, 2)]
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert first[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="png, svg, pdf"):
        plot_curves(curve_rows({"a": 1}), tmp_path / "c.jpg", title="")


def test_groups_stay_apart() -> None:
    assert len({(colour(k), marker(k)) for k in range(108)}) == 108


@pytest.mark.parametrize(
    "values", [{"one": [50.0]}, {"a": [50.0, 50.0], "b": [50.0, 50.0]}, {"a": [10.0], "b": [97.1], "c": [97.2]}]
)
def test_comparison(tmp_path: Path, values: dict[str, list[float]]) -> None:
    seeds = range(1, 1 + len(next(iter(values.values()))))
    path = plot_comparison(values, list(seeds), tmp_path / "c.png", title="a title")
    assert inked(path) > 0.005
    with Image.open(path) as image:
        assert (image.width > 1800) == ("c" in values)  # a second panel, only where some are far below


def labelled(classes: int, images: int, *, superclasses: bool = False) -> Split:
    names = tuple(f"{LONG}{k}" for k in range(classes))
    groups = tuple(f"group {k % 3}" for k in range(classes)) if superclasses else ()
    records = [Record(f"{i}.jpg", "train", tuple(sorted({i % classes, (i * i) % classes}))) for i in range(images)]
    return Manifest.from_records(Description("many photos", Path(), names, groups), records).split("train")


@pytest.mark.parametrize(("classes", "images"), [(2, 1), (80, 200), (100, 300)])
def test_co_occurrence(tmp_path: Path, classes: int, images: int) -> None:
    split = labelled(classes, images, superclasses=classes == 80)
    assert inked(plot_co_occurrence(split, tmp_path / "c.png")) > 0.05


@pytest.mark.parametrize(("classes", "images"), [(2, 1), (10, 50), (80, 100)])
def test_thresholds(tmp_path: Path, classes: int, images: int) -> None:
    scores, targets = RNG.random((images, classes)), RNG.integers(0, 2, (images, classes))
    curves = precision_recall_curves(scores, targets)
    (together,) = precision_recall_curves(scores.reshape(-1, 1), targets.reshape(-1, 1))
    steps = np.linspace(0.01, 0.99, 99)
    f1 = {"OF1": 1 - steps, "CF1": np.full(99, np.nan)}
    numbers = ThresholdCurves([LONG] * classes, curves, together, steps, f1, own=[0.3] * classes)
    assert inked(plot_thresholds(numbers, tmp_path / "t.png", title="a title")) > 0.005


@pytest.mark.parametrize("count", [1, 7])
def test_contact_sheet(tmp_path: Path, count: int) -> None:
    pictures = [Image.new("RGB", (300, 20 + 90 * k)) if k % 2 == 0 else None for k in range(count)]
    tiles = [Tile(picture, (LONG, "1.00"), framed=k == 0) for k, picture in enumerate(pictures)]
    assert inked(plot_contact_sheet(tiles, tmp_path / "s.png", title=LONG * 5)) > 0.02


def test_matplotlib_may_say_how_many_pixels_an_inch_has(tmp_path: Path) -> None:
    def width(name: str) -> int:
        with Image.open(plot_curves(curve_rows({"a": 1}), tmp_path / name, title="a run")) as figure:
            return figure.width

    fine = width("fine.png")
    with rc_context({"savefig.dpi": 50}):
        assert width("coarse.png") == pytest.approx(fine / 4, rel=0.02)


def test_letters_that_no_font_has_are_numbers_and_the_figure_says_so(tmp_path: Path) -> None:
    plain, escaped = (
        plot_curves(curve_rows({"a": 1}), tmp_path / f"{k}.svg", title=title).read_text()
        for k, title in enumerate(("größe", "\U000e0fff \x07"))
    )
    assert "<!-- \\U000e0fff \\u0007 -->" in escaped
    assert ESCAPE_NOTE in escaped
    assert ESCAPE_NOTE not in plain


def test_a_letter_of_another_font_is_drawn(tmp_path: Path) -> None:
    letter = next(chr(k) for k in range(0x20D0, 0x2A00) if font_with(chr(k)) not in (None, font_with("a")))  # STIX comes along
    assert len(families(f"a{letter}")) == 2
    assert inked(plot_curves(curve_rows({"a": 1}), tmp_path / "c.png", title=letter)) > 0.005


@pytest.mark.parametrize(("lowest", "expected"), [(0.96, True), (0.5, False)])
def test_prototypes_that_are_nearly_equal_are_said_to_be(tmp_path: Path, lowest: float, expected: bool) -> None:
    cosines = np.full((3, 3), lowest) + (1 - lowest) * np.eye(3)
    path = plot_prototypes(None, cosines, range(3), [(0, 1)], ["a", "b", "c"], [], tmp_path / "p.svg", title="a title")
    assert ("nearly equal" in path.read_text()) == expected


def test_what_is_left_out_of_the_co_occurrences_is_said(tmp_path: Path) -> None:
    text = plot_co_occurrence(labelled(100, 1200), tmp_path / "c.svg").read_text()
    assert "20 less frequent classes left out" in text
