from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.prepare import prepare
from tests.conftest import make_coco


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Data that no test changes: 24 images to train on, 12 held out."""
    folder = tmp_path_factory.mktemp("data")
    return prepare("coco", data=make_coco(folder / "coco"), output=folder / "prepared").manifest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
