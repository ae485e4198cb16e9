"""The recipes of docs/python.md, run from top to bottom as in a notebook."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sadcl_core.registry import HEADS

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCK = re.compile(r"^(<!-- not run -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_blocks() -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 12
    for block in blocks:
        if not block[1]:
            first_line = text[: block.start(2)].count("\n")
            exec(compile("\n" * first_line + block[2], PAGE, "exec"), sys.modules["notebook"].__dict__)


def test_every_recipe_runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    shutil.copytree(trained / "my-coco", tmp_path / "my-coco")
    shutil.copytree(trained / "my-coco" / "val2017", tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "notebook", ModuleType("notebook"))  # classes of the page are found in it by name
    before = dict(HEADS)
    try:
        run_blocks()
    finally:  # the page adds a head
        HEADS.clear()
        HEADS.update(before)
    assert (tmp_path / "labels.jsonl").read_text().count("\n") == 12
    assert (tmp_path / "attention.png").is_file()


def test_ten_recipes_of_which_two_need_another_program() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [int(number) for number in re.findall(r"^## (\d+)\.", text, re.MULTILINE)] == list(range(1, 11))
    assert [block[2].split()[1] for block in BLOCK.finditer(text) if block[1]] == ["ray", "pandas"]
