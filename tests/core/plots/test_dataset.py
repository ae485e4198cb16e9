"""The page of a data set, from awkward data too: it has to come out, with everything on it, and without a warning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.prepare.checks import ImageChecks
from sadcl_core.data.prepare.report import make_report
from sadcl_core.data.rows import Record
from sadcl_core.plots.dataset import plot_dataset
from tests.core.data.test_images import claim
from tests.core.plots.test_plots import inked

LONG = "a very long name of a class that somebody wrote down as a whole sentence, with commas and all"
AWKWARD = (
    *(
        "traffic_light",
        "$5",
        "$x_1^2$",
        "$\\frac{",
        "a^b",
        "50 %",
        "#1",
        "\\alpha",
        "{x}",
        "_hidden",
        "__all__",
        "a\nb",
        "tab\tx",
    ),
    *(
        "犬",
        "кошка",
        "größe",
        "🐈",
        "\U0001d4b3",
        "عربي",
        "हिन्दी",
        "\u200b",
        "\x07",
        "<b>",
        "&amp;",
        "~",
        "none",
        "x" * 200,
        LONG,
    ),
)


def draw(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        size = ((64, 48), (48, 64), (200, 20), (20, 200), (8, 8))[number % 5]
        Image.new("RGB", size, tuple(int(c) for c in np.random.default_rng(number).integers(0, 200, 3))).save(
            folder / f"{number}.png"
        )
    return [f"{number}.png" for number in range(count)]


def page(folder: Path, names: Sequence[str], labels: Sequence[Sequence[int]], *, title: str = "some", images: int = 0) -> float:
    """Draw the page of images with these labels, a fifth of them in val; returns how much of it is ink."""
    files = draw(folder / "images", images or min(len(labels), 20))
    records = [
        Record(files[i] if i < len(files) else f"gone {i}.png", "val" if i % 5 == 4 else "train", tuple(sorted(set(active))))
        for i, active in enumerate(labels)
    ]
    manifest = Manifest.from_records(Description(title, folder / "images", tuple(names)), records)
    report = make_report(manifest, ImageChecks(groups=np.full(len(records), -1)), left_out=False)
    path = plot_dataset(manifest, report, folder / "report.png")
    with Image.open(path) as picture:  # nothing sticks out of the page
        assert picture.width < 1.05 * 14 * 200
        assert picture.height < 1.05 * 13 * 200
    return inked(path)


def drawn_labels(classes: int, images: int, mean: float = 2.5) -> list[list[int]]:
    """Frequent classes and rare ones."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, classes + 1)
    sizes = rng.poisson(mean, images).clip(0, classes)
    return [rng.choice(classes, size, replace=False, p=share / share.sum()).tolist() for size in sizes]


@pytest.mark.parametrize("classes", [1, 2, 10, 40, 41, 100])
def test_few_and_many_classes(tmp_path: Path, classes: int) -> None:
    assert page(tmp_path, [f"class {k}" for k in range(classes)], drawn_labels(classes, 300)) > 0.05


def test_a_thousand_classes(tmp_path: Path) -> None:
    assert page(tmp_path, [f"class {k}" for k in range(1000)], drawn_labels(1000, 5000, 8)) > 0.05


@pytest.mark.parametrize("labels", [[[0]], [[]], [[0, 1]], [[], []], [[0], [1]]])
def test_next_to_nothing(tmp_path: Path, labels: list[list[int]]) -> None:
    assert page(tmp_path, ["cat", "dog"], labels) > 0.005


def test_names_that_are_long_or_not_of_letters(tmp_path: Path) -> None:
    assert page(tmp_path, AWKWARD, drawn_labels(len(AWKWARD), 60, 5), title="$my_data$ 犬 " + "x" * 300) > 0.05


@pytest.mark.parametrize("rare", [0, 1])
def test_one_class_that_is_nearly_everything(tmp_path: Path, rare: int) -> None:
    assert page(tmp_path, ["most", "rare", "never"], [[0]] * 20_000 + [[1]] * rare) > 0.01


def test_images_of_very_many_labels(tmp_path: Path) -> None:
    assert page(tmp_path, [f"class {k}" for k in range(60)], [list(range(60))] * 30 + [[]]) > 0.05


def test_images_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    labels = drawn_labels(5, 20)
    (tmp_path / "images").mkdir()
    names = ["a", "b", "c", "d", "e"]
    some = page(tmp_path, names, labels)
    (tmp_path / "images" / "3.png").write_text("no image")
    claim(tmp_path / "images" / "4.png", 30_000, 30_000)
    manifest = Manifest.from_records(
        Description("some", tmp_path / "images", tuple(names)),
        [Record(f"{i}.png" if i < 6 else f"gone {i}.png", "train", tuple(active)) for i, active in enumerate(labels)],
    )
    report = make_report(manifest, ImageChecks(groups=np.full(20, -1)), left_out=False)
    assert 0.01 < inked(plot_dataset(manifest, report, tmp_path / "again.png")) < some


def test_the_same_data_give_the_same_page(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        page(tmp_path / folder, ["a", "b", "c"], drawn_labels(3, 30))
    pages = [np.asarray(Image.open(tmp_path / folder / "report.png")) for folder in ("one", "two")]
    assert (pages[0] == pages[1]).all()
