"""The page in a real browser, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sadcl_core.evaluation.report.page import page_text
from tests.core.evaluation.report.test_page import full_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARK = 'document.documentElement.setAttribute("data-broken","1")'
NAMES = (
    f"<script>{MARK}</script>",
    f"\"><img src=x onerror='{MARK}'>",
    f"</script></style></svg><script>{MARK}</script>",
    f"'><svg onload='{MARK}'>",
    f'" autofocus onfocus="{MARK}',
    f'<iframe srcdoc="<script>parent.{MARK}</script>">',
)


def executed(path: Path) -> bool:
    """Whether a script of the names was run."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom")
    done = subprocess.run([str(BROWSER), *options, path.as_uri()], capture_output=True, text=True, errors="replace", check=True)
    assert len(done.stdout) > 300
    return re.search(r"<html[^>]*data-broken", done.stdout) is not None


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser is installed: chromium")
def test_names_are_never_run(tmp_path: Path) -> None:
    text = page_text(full_page(NAMES))
    names = "".join(f"<p>{name}</p>" for name in NAMES)
    pages = {
        "escaped": text,
        "only-policy": text.replace("</body>", f"{names}</body>"),
        "neither": f"<html><body>{names}</body></html>",
    }
    ran = {}
    for name, content in pages.items():
        path = tmp_path / f"{name}.html"
        path.write_text(content)
        ran[name] = executed(path)
    assert ran == {"escaped": False, "only-policy": False, "neither": True}
