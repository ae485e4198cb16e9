from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sadcl_core.data.prepare.prepare import prepare


@pytest.fixture
def coco(tmp_path: Path, drawn_coco: Path) -> Path:
    """The small COCO data set, prepared, so that no command has to draw the page of it."""
    folder = Path(shutil.copytree(drawn_coco, tmp_path / "my-coco"))
    prepare("coco", data=folder, output=tmp_path / "prepared" / "coco")
    return folder
