from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Ran, Sadcl, run_sadcl

IMAGE = "my-coco/val2017/001.png"


@pytest.fixture(scope="module")
def index(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        run_sadcl("embed", "-o", folder, "--every-label", "-j", "0", "--coordinates", "tsne")
    return folder


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        ((IMAGE, "--label", "two"), "two most like the two of 001.png"),
        ((IMAGE,), "most like 001.png"),
        (("--label", "two"), "two as in most images with it"),
        (("--label", "two", "--prototype"), "nearest to the prototype of two"),
        (("--label", "two", "--outliers"), "least like two in the other images"),
    ],
)
def test_every_way_to_search(in_trained: Sadcl, index: Path, tmp_path: Path, arguments: tuple[str, ...], title: str) -> None:
    ran = in_trained("search", *arguments, "--index", index, "-n", "4", "--json", "-o", tmp_path / "sheet.png")
    document = json.loads(ran.stdout)
    assert document["search"] == title
    cosines = [match["cosine"] for match in document["matches"]]
    assert len(cosines) == 4
    assert cosines == sorted(cosines, reverse="--outliers" not in arguments)
    assert all(match["label"] == ("two" if "--label" in arguments else "") for match in document["matches"])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_tables_for_people(in_trained: Sadcl, index: Path) -> None:
    ran = in_trained("search", "--label", "two", "--index", index, "--no-sheet")
    assert len(ran.stdout.splitlines()) == 12 + 4
    assert "12 images, 120 labels of coco, split val" in ran.stderr
    assert "score" in ran.stdout.splitlines()[1]
    assert "score" not in in_trained("search", IMAGE, "--index", index, "--no-sheet").stdout  # whole images have none
    assert not (index / "search.png").exists()
    pairs: Ran = in_trained("search", "--duplicates", "--min-cosine", "-1", "--index", index, "-n", "5")
    assert len(pairs.stdout.splitlines()) == 5 + 4
    assert "contact sheet saved" in pairs.stderr
    assert (index / "search.png").is_file()
    none = in_trained("search", "--duplicates", "--min-cosine", "1", "--index", index)
    assert none.stdout == "no two images at cosine 1 or above\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "Nothing to search for"),
        ((IMAGE, "--outliers"), 2, "IMAGE and --outliers exclude each other"),
        (("--label", "two", "--duplicates"), 2, "--label and --duplicates exclude each other"),
        ((IMAGE, "--label", "two", "--prototype"), 2, "IMAGE and --prototype exclude each other"),
        (("--prototype",), 2, "Give --label CLASS as well"),
        (("--label", "tow"), 2, "Did you mean 'two'"),
        (("--label", "\udcff"), 2, "No image of the index has the label '\\udcff'"),
        (("none.jpg",), 3, "no such file"),
        (("--label", "two", "--index", "my-coco"), 3, "Make them first: sadcl embed."),
        (("--label", "two", "-w", "runs/coco", "--index", "my-coco"), 3, "Make them first: sadcl embed -w runs/coco."),
    ],
)
def test_mistakes(in_trained: Sadcl, index: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    ran = in_trained("search", *arguments, *(() if "--index" in arguments else ("--index", index)), code=code)
    assert words in ran.stderr
    assert ran.stdout == ""


def test_an_image_is_compared_at_the_size_of_the_index(in_trained: Sadcl, tmp_path: Path) -> None:
    folder, copy = tmp_path / "index", tmp_path / "copy.png"
    in_trained("embed", "-o", folder, "--img-size", "48", "-j", "0")
    copy.write_bytes(Path(IMAGE).read_bytes())
    ran = in_trained("search", copy, "--index", folder, "-n", "1", "--no-sheet", "--json")
    (match,) = json.loads(ran.stdout)["matches"]
    assert (Path(match["image"]).name, match["cosine"]) == ("001.png", pytest.approx(1, abs=1e-4))
