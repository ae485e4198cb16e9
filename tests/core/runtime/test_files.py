from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sadcl_core.errors import MachineError, UsageError
from sadcl_core.runtime.files import replacing, write_json, write_text


def write_half(path: Path, error: Exception) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "first")
    with pytest.raises(RuntimeError, match="half-way"):
        write_half(path, RuntimeError("half-way"))
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_to_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "inside"):
        with pytest.raises(UsageError, match="cannot be written"):
            write_text(path, "")


def test_a_full_disk_is_the_machines_fault(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"a\.txt cannot be written \(No space left"):
        write_half(tmp_path / "a.txt", OSError(errno.ENOSPC, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
