from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sadcl_core.data.prepare.download import download
from sadcl_core.data.prepare.download.place import RECORD
from sadcl_core.errors import MachineError, UsageError
from tests.core.data.prepare.download.samples import COCO_FILES, all_of, fails, tree, write
from tests.core.data.prepare.download.server import Site


@pytest.mark.parametrize("record", ["", "[1]", '{"train2014.zip": 3}'])
def test_a_damaged_record_does_not_matter(coco: Site, tmp_path: Path, record: str) -> None:
    write(tmp_path / RECORD, record.encode())
    download("coco", tmp_path)
    assert tree(tmp_path) == all_of(COCO_FILES)


def test_a_folder_that_cannot_be(coco: Site, tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"")
    fails(UsageError, path, "cannot be written", "another place with --data")
    fails(UsageError, path / "inside", "cannot be written")


def test_a_folder_by_the_name_of_the_record(coco: Site, tmp_path: Path) -> None:
    (tmp_path / RECORD).mkdir()
    text = fails(UsageError, tmp_path, "another place with --data")
    assert text.startswith(f"{tmp_path / RECORD} cannot be written (Is a directory)")


def test_no_room_for_what_is_stored_beside_a_part(coco: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_text(path: Path, *args: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_text)
    fails(MachineError, tmp_path, "cannot be written (No space left on device)", "another place with --data")
