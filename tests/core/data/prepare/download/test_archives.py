from __future__ import annotations

import re
from pathlib import Path

import pytest

from sadcl_core.data.prepare.download import downloadable
from sadcl_core.data.prepare.download.archives import ARCHIVES, archives_of
from sadcl_core.errors import UsageError
from tests.core.data.prepare.download.samples import fails


@pytest.mark.parametrize("name", ["digits", "nuswide", "vg500", "voc2007-test"])
def test_other_names_cannot_be_downloaded(tmp_path: Path, name: str) -> None:
    fails(UsageError, tmp_path, f"{name} cannot be downloaded", ", ".join(downloadable()), name=name)
    assert downloadable() == ["coco", "coco2014", "coco2017", "voc2007", "voc2012"]


@pytest.mark.parametrize("name", ["voc2007", "voc2012"])
def test_torchvision_knows_where_voc_is(name: str) -> None:
    for archive in archives_of(name):
        assert archive.url.startswith("https://")
        assert archive.name.endswith(".tar")
        assert re.fullmatch("[0-9a-f]{32}", archive.md5)
        assert archive.roots[0] == f"VOCdevkit/{name.upper()}"


def test_coco_is_that_of_2014() -> None:
    assert ARCHIVES["coco"] == ARCHIVES["coco2014"] != ARCHIVES["coco2017"]
    for year in ("2014", "2017"):
        for archive in ARCHIVES[f"coco{year}"]:
            assert archive.name.endswith(f"{year}.zip")
            assert re.fullmatch("[0-9a-f]{32}", archive.md5)
            assert all(year in path for path in archive.makes)
