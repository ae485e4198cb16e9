from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadcl_core.errors import MachineError, UsageError
from sadcl_core.runtime.files import from_cell, regular, replacing, safe_name, to_cell, write_json, write_text

HOSTILE = (
    "../../../X",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/../b",
    "a\\b",
    "C:x",
    "a\0b",
    "\udcff",
    ".hidden",
    "~",
    "x" * 999,
    "é" * 200,
)


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


@given(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=300)))
def test_a_name_from_a_file_is_one_part_of_a_path(text: str) -> None:
    name = safe_name(text)
    assert name == os.path.basename(name)  # noqa: PTH119
    assert not name.startswith(".")
    assert len(name.encode()) <= 100
    assert safe_name(name) == name


def test_long_names_that_end_differently_stay_apart() -> None:
    assert safe_name("x" * 300 + "a") != safe_name("x" * 300 + "b")


@given(st.one_of(st.sampled_from(("=1+1", "+1", "-x", "@SUM(A1)", "'=x", "''", "\t=x")), st.text()))
def test_no_cell_is_computed_and_each_is_read_back(text: str) -> None:
    assert not to_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_cell(to_cell(text)) == text


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    file, link, pipe, ring = (tmp_path / name for name in ("file", "link", "pipe", "ring"))
    file.write_text("")
    link.symlink_to(file)
    os.mkfifo(pipe)
    ring.symlink_to(ring)
    assert [regular(path) for path in (file, link)] == [file, link]
    for path in (pipe, ring, Path("/dev/zero"), tmp_path, tmp_path / "nothing"):
        with pytest.raises(OSError, match=path.name):
            regular(path)


def test_a_name_that_is_too_long_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_text(tmp_path / ("x" * 300), "")


def test_a_place_that_a_library_cannot_name_is_the_users_mistake(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"\xff") / "x.parquet"
    with pytest.raises(UsageError, match="its name is no UTF-8"), replacing(place) as temporary:
        pq.write_table(pa.table({"a": [1]}), temporary)
    assert not any(place.parent.iterdir())
    with pytest.raises(UnicodeEncodeError), replacing(tmp_path / "x.txt"):  # of a content
        "\udcff".encode()


def test_json_holds_paths_that_are_no_utf8(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": "b\udcff.png"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"path": "b\udcff.png"}


KILLED = """
import os, signal, sys
from pathlib import Path
from sadcl_core.runtime.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.with_name(".tmpA1b2C3").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""

LIVING = """
import sys
from pathlib import Path
from sadcl_core.runtime.files import write_text
write_text(Path(sys.argv[1]), "a")
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.txt")], check=False)
    left = list(tmp_path.rglob(".tmp*"))
    assert len(left) == 1
    with replacing(tmp_path / "b.txt") as temporary:
        temporary.write_text("b")
        assert not left[0].parent.exists()
        subprocess.run([sys.executable, "-c", LIVING, str(tmp_path / "a.txt")], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]
