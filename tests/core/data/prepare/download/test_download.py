from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sadcl_core.data.prepare.download import download
from sadcl_core.data.prepare.download.place import DOWNLOADS, RECORD
from sadcl_core.errors import DataError
from tests.core.data.prepare.download.samples import COCO_FILES, VOC_FILES, Files, all_of, fails, tree, write, zipped
from tests.core.data.prepare.download.server import Site


@pytest.mark.parametrize(("name", "archives"), [("coco", COCO_FILES), ("voc2007", VOC_FILES)])
def test_everything_is_in_place_and_nothing_is_fetched_twice(
    coco: Site, voc: Site, tmp_path: Path, name: str, archives: dict[str, Files]
) -> None:
    calls: list[tuple[str, int, int]] = []
    folder = tmp_path / "new" / "data"
    download(name, folder, progress=lambda *call: calls.append(call))
    assert tree(folder) == all_of(archives)
    assert sorted(path.name for path in folder.glob(".*")) == [RECORD]
    for archive in archives:
        for what in ("fetching", "unpacking"):
            done = [call[1:] for call in calls if call[0] == f"{what} {archive}"]
            assert done == sorted(done)
            assert done[-1][0] == done[-1][1] > 0
    asked = len(coco.requests)
    download(name, folder)
    assert len(coco.requests) == asked == 2 * len(archives)


def test_what_was_deleted_is_fetched_again(coco: Site, tmp_path: Path) -> None:
    download("coco", tmp_path)
    shutil.rmtree(tmp_path / "val2014")
    (tmp_path / "val2014").mkdir()
    download("coco", tmp_path)
    assert tree(tmp_path) == all_of(COCO_FILES)
    assert len(coco.gets()) == 4


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_data_put_there_by_hand_is_taken_as_it_is(coco: Site, tmp_path: Path, prefix: str) -> None:
    for path in ("annotations/instances_train2014.json", "annotations/instances_val2014.json"):
        write(tmp_path / path, b"by hand")
    write(tmp_path / f"{prefix}train2014/a.jpg", b"by hand")
    download("coco", tmp_path)
    assert [request.path for request in coco.gets()] == ["/val2014.zip"]
    assert (tmp_path / "annotations" / "instances_val2014.json").read_bytes() == b"by hand"


@pytest.mark.parametrize("root", ["VOCdevkit/VOC2007", "VOC2007", "."])
def test_each_archive_of_shared_folders_is_known_by_its_own_files(voc: Site, tmp_path: Path, root: str) -> None:
    write(tmp_path / root / "ImageSets" / "Main" / "trainval.txt", b"by hand")
    write(tmp_path / root / "JPEGImages" / "a.jpg", b"by hand")
    download("voc2007", tmp_path)
    assert [request.path for request in voc.gets()] == ["/VOCtest_06-Nov-2007.tar"]


def test_an_archive_put_there_by_hand_needs_no_network(coco: Site, tmp_path: Path) -> None:
    for name, files in COCO_FILES.items():
        write(tmp_path / DOWNLOADS / name, zipped(files))
    download("coco", tmp_path)
    assert tree(tmp_path) == all_of(COCO_FILES)
    assert coco.requests == []


def test_a_wrong_archive_put_there_by_hand_is_not_used_and_not_deleted(coco: Site, tmp_path: Path) -> None:
    path = write(tmp_path / DOWNLOADS / "annotations_trainval2014.zip", b"half of it")
    fails(DataError, tmp_path, f"{path} is not the whole of {coco.url}/annotations_trainval2014.zip", "Delete it")
    assert path.read_bytes() == b"half of it"


def test_the_module_needs_no_torch() -> None:
    code = "import sys, sadcl_core.data.prepare.download; sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
