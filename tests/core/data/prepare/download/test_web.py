from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.data.prepare.download import download
from sadcl_core.errors import MachineError
from tests.core.data.prepare.download.samples import COCO_FILES, LARGE, Offer, all_of, fails, tree, zipped
from tests.core.data.prepare.download.server import Request, Site


def test_a_passing_error_is_waited_for(coco: Site, tmp_path: Path) -> None:
    coco.errors = [503, 429, 500]
    download("coco", tmp_path)
    assert tree(tmp_path) == all_of(COCO_FILES)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.zip", "data:,a"])
def test_a_redirect_to_another_scheme_is_refused(site: Site, single: Offer, tmp_path: Path, target: str) -> None:
    name = single(b"")
    del site.files[f"/{name}"]
    site.redirects[f"/{name}"] = target
    fails(MachineError, tmp_path, f"{site.url}/{name} cannot be fetched (HTTP 302", target)
    assert tree(tmp_path) == {}


def test_a_redirect_on_the_web_is_followed(site: Site, single: Offer, tmp_path: Path) -> None:
    content = zipped(LARGE)
    name = single(content)
    site.files = {"/elsewhere": content}
    site.redirects[f"/{name}"] = "/elsewhere"
    site.cuts = [1000]
    download("coco", tmp_path)
    assert tree(tmp_path) == LARGE
    assert [request.method for request in site.requests[:2]] == ["HEAD", "HEAD"]
    assert site.gets()[-1] == Request("GET", "/elsewhere", "bytes=1000-", site.version(content))
