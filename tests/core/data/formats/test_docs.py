"""What the documentation says of label files is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sadcl_core.data.formats import DATASETS, FORMATS
from sadcl_core.data.prepare.export import EXPORTS
from tests.conftest import Sadcl

ROOT = Path(__file__).parents[4]
DOCS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "digits"])
def test_every_format_has_an_example(name: str) -> None:
    assert any(line.startswith(f"| `{name}`") and "<br>" in line for line in DOCS.splitlines())


@pytest.mark.parametrize("name", [*DATASETS, *(f"--export {name}" for name in EXPORTS)])
def test_every_data_set_and_export_is_named(name: str) -> None:
    assert name in DOCS + (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_option_that_is_named_is_there(sadcl: Sadcl) -> None:
    shown = sadcl("prepare-data", "--help").stdout + sadcl("eval", "--help").stdout
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", DOCS))
    assert "--split" in named
    assert named <= set(re.findall(r"--[a-z][a-z-]*", shown))
