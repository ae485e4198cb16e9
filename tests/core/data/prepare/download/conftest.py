from __future__ import annotations

from collections.abc import Iterator

import pytest

from sadcl_core.data.prepare.download import web
from sadcl_core.data.prepare.download.archives import ARCHIVES
from tests.core.data.prepare.download.samples import COCO_FILES, VOC_FILES, Offer, tarred, zipped
from tests.core.data.prepare.download.server import Site, serving


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on this machine; attempts follow each other without a wait."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(web, "WAITS", (0.0, 0.0, 0.0))
    with serving() as site:
        yield site


@pytest.fixture
def coco(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site offers a data set of three zips by the name of coco."""
    archives = tuple(
        site.offer(real.name, zipped(COCO_FILES[real.name]), *real.makes, roots=real.roots) for real in ARCHIVES["coco"]
    )
    monkeypatch.setitem(ARCHIVES, "coco", archives)
    return site


@pytest.fixture
def voc(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site offers a data set of two tars that unpack into the same folders, by the name of voc2007."""
    rows = [(name, tarred(files), name[3 : name.index("_")]) for name, files in VOC_FILES.items()]
    archives = tuple(
        site.offer(name, content, f"ImageSets/Main/{part}.txt", roots=("VOCdevkit/VOC2007", "VOC2007", ""))
        for name, content, part in rows
    )
    monkeypatch.setitem(ARCHIVES, "voc2007", archives)
    return site


@pytest.fixture
def single(site: Site, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Offer a data set of one archive; returns its name in the downloads."""

    def offer(content: bytes, name: str = "train.zip") -> str:
        monkeypatch.setitem(ARCHIVES, "coco", (site.offer(name, content, "train"),))
        return name

    return offer
