"""The recipes of docs/python.md, run from top to bottom as in a notebook."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sadcl_core.config.methods import METHODS
from sadcl_core.evaluation.published.tables import CLASSES, published_table
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


def test_every_method_and_every_row_of_the_published_tables_has_a_section() -> None:
    pages = PAGE.parent
    text = (pages / "methods.md").read_text(encoding="utf-8")
    entries = runpy.run_path(str(pages / "methods.py"))["ENTRIES"]
    assert {name for entry in entries for name in entry.rows} == set(METHODS)
    tables = [published_table(classes) for classes in CLASSES.values()]
    printed = {str(row["method"]) for table in tables if table is not None for row in table.rows}
    assert printed <= {name for entry in entries for name in entry.published}
    sections = re.findall(r"^## (.+)\n\n!\[.+\]\((.+)\)$", text, re.MULTILINE)
    assert [title for title, _ in sections] == [entry.title for entry in entries]
    assert all((pages / figure).is_file() for _, figure in sections)


def test_the_table_of_heads_has_each_of_them_with_its_methods() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (`.+?`) \|", (PAGE.parent / "heads.md").read_text(encoding="utf-8"), re.MULTILINE)
    methods = {head: [name for name, method in METHODS.items() if method.head == head] for head in HEADS}
    assert {head: sorted(re.findall(r"`(.+?)`", names)) for head, names in rows if head in methods} == {
        head: sorted(names) for head, names in methods.items()
    }
