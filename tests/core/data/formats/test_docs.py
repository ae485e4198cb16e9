"""What the documentation says of label files is what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sadcl_core.data.formats import DATASETS, FORMATS
from sadcl_core.data.prepare.export import EXPORTS
from tests.conftest import Sadcl
from tests.core.data.formats.samples import draw_all, load, put

ROOT = Path(__file__).parents[4]
DOCS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "digits"])
def test_every_format_has_an_example(name: str) -> None:
    assert any(line.startswith(f"| `{name}`") and "<br>" in line for line in DOCS.splitlines())


FILES = {  # in which the documents of an example stand, where any name will not do
    "coco": ["annotations/instances_train2017.json"],
    "datumaro": ["annotations/train.json"],
    "fiftyone": ["labels.json", "samples.json"],
    "sagemaker": ["output.manifest"],
    "labelme": ["a.json"],
    "supervisely": ["train/ann/a.jpg.json"],
}


def documents(name: str) -> Iterator[str]:
    """Yield the JSON documents of the example of a format, as it stands in the table."""
    cell = next(line for line in DOCS.splitlines() if line.startswith(f"| `{name}` |")).split(" | ")[1]
    text = ""
    for span in re.findall(r"`([^`]*)`", cell):
        text = text + span if text or span[0] in "{[" else ""
        with suppress(ValueError):
            json.loads(text)
            yield text
            text = ""


@pytest.mark.parametrize("name", ["openmmlab", "labelstudio", "jsonl", "via", *FILES])
def test_every_example_in_json_is_read(tmp_path: Path, name: str) -> None:
    examples = list(documents(name))
    assert examples
    for number, text in enumerate(examples):
        folder = tmp_path / str(number)
        draw_all(folder, ["a.jpg", "b.jpg"])
        if name in ("datumaro", "supervisely"):
            draw_all(folder, ["images/train/a.jpg" if name == "datumaro" else "train/img/a.jpg"])
        put(folder / FILES.get(name, ["mine.jsonl" if name == "jsonl" else "mine.json"] * 3)[number], text)
        manifest = load(folder)
        assert manifest.description.source["format"] == name
        assert any(row["active"] for row in manifest.rows.to_pylist())


@pytest.mark.parametrize("name", [*DATASETS, *(f"--export {name}" for name in EXPORTS)])
def test_every_data_set_and_export_is_named(name: str) -> None:
    assert name in DOCS + (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_option_that_is_named_is_there(sadcl: Sadcl) -> None:
    shown = sadcl("prepare-data", "--help").stdout + sadcl("eval", "--help").stdout
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", DOCS))
    assert "--split" in named
    assert named <= set(re.findall(r"--[a-z][a-z-]*", shown))
