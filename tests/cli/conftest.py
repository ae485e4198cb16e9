from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sadcl_core.data.prepare.prepare import prepare


@pytest.fixture
def coco(tmp_path: Path, drawn_coco: Path) -> Path:
    """The small COCO data set, prepared, so that no command has to draw the page of it."""
    folder = Path(shutil.copytree(drawn_coco, tmp_path / "my-coco"))
    prepare("coco", data=folder, output=tmp_path / "prepared" / "coco")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute here as the processes that tests start do, whose environment says so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
