"""The page in a real browser, where one is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.evaluation.report.page import page_text
from tests.browser import NAMES, needs_browser, opened
from tests.core.evaluation.report.test_page import full_page


@pytest.mark.slow
@needs_browser
def test_names_are_never_run_and_fetch_nothing(tmp_path: Path) -> None:
    text = page_text(full_page(NAMES))
    names = "".join(f"<p>{name}</p>" for name in NAMES)
    pages = {
        "escaped": text,
        "only-policy": text.replace("</body>", f"{names}</body>"),
        "neither": f"<html><body>{names}</body></html>",
    }
    seen = {}
    for name, content in pages.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "page.html").write_text(content)
        page = opened((folder / "page.html").as_uri(), folder)
        seen[name] = (page.executed, bool(page.complaints), page.fetched)
    assert seen == {"escaped": (False, False, False), "only-policy": (False, True, False), "neither": (True, False, True)}
