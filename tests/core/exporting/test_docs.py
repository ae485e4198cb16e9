from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from sadcl_core.exporting.export import Export
from sadcl_core.inference.load import load
from sadcl_core.runs.onnx_file import read_metadata

PAGE = (Path(__file__).parents[3] / "docs" / "export.md").read_text(encoding="utf-8")


def test_the_program_of_the_page_finds_the_same_labels(
    exported: Export, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(exported.path, "coco.onnx")
    shutil.copy(trained / "my-coco" / "val2017" / "001.png", "img.jpg")
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    values: dict[str, Any] = {}
    exec(compile(program, "export.md", "exec"), values)
    prediction = load("coco.onnx").predict("img.jpg")
    assert set(values["labels"]) == {name for name, _ in prediction.labels}
    assert values["probabilities"][0] == pytest.approx(prediction.scores)


def test_every_key_of_the_metadata_is_in_the_table(exported: Export) -> None:
    table = PAGE.partition("## Metadata")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([^`]+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line))) == set(
        read_metadata(exported.path)
    )
