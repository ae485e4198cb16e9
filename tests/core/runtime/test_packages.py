from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.runtime.packages import is_installed


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_such_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed("no_such_package")
    assert is_installed("numpy")
