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
OUTSIDE = "outside.invalid"
NAMES = (
    f"<script>{MARK}</script>",
    f"\"><img src=http://{OUTSIDE}/x.png onerror='{MARK}'>",
    f"</script></style></svg><script>{MARK}</script>",
    f"'><svg onload='{MARK}'>",
    f'" autofocus onfocus="{MARK}',
    f'<iframe srcdoc="<script>parent.{MARK}</script>">',
)


def opened(path: Path) -> tuple[bool, bool, bool]:
    """Open a page; return whether a script of the names was run, the browser complained, and something was asked for outside."""
    log = path.with_suffix(".json")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom")
    words = (str(BROWSER), *options, "--enable-logging=stderr", f"--log-net-log={log}", path.as_uri())
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=True)
    assert len(done.stdout) > 300
    executed = re.search(r"<html[^>]*data-broken", done.stdout) is not None
    return executed, "CONSOLE" in done.stderr, OUTSIDE in log.read_text(encoding="utf-8", errors="replace")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser is installed: chromium")
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
        path = tmp_path / f"{name}.html"
        path.write_text(content)
        seen[name] = opened(path)
    assert seen == {"escaped": (False, False, False), "only-policy": (False, True, False), "neither": (True, False, True)}
