"""A real browser, where one is installed, and names that would run something in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no browser is installed: chromium")
MARK = 'document.documentElement.setAttribute("data-broken","1")'
OUTSIDE = "outside.invalid"
NAMES = (
    f"<script>{MARK}</script>",
    f"\"><img src=http://{OUTSIDE}/x.png onerror='{MARK}'>",
    f"</script></style></svg><script>{MARK}</script>",
    f"'><svg onload='{MARK}'>",
    f'" autofocus onfocus="{MARK}',
    f'<iframe srcdoc="<script>parent.{MARK}</script>">',
    "\u202egnp.x\u2066",
    "a\nb\tc\x1b[2J\x07\x85",
    "__proto__",
    "x" * 10_000,
)


@dataclass(frozen=True)
class Opened:
    """What a browser did with a page.

    Attributes:
        document: as it stood in the end.
        complaints: of the browser's console.
        executed: a script of NAMES ran.
        fetched: something was asked for outside.
    """

    document: str
    complaints: tuple[str, ...]
    executed: bool
    fetched: bool


def opened(address: str, folder: Path) -> Opened:
    """Open a page until it and its scripts have nothing more to do; the browser keeps its files in a folder."""
    log = folder / "network.json"
    words = (
        *(str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}"),
        *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr", f"--log-net-log={log}"),
        *("--virtual-time-budget=2000", "--dump-dom", address),
    )
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=True, timeout=600)
    return Opened(
        done.stdout,
        tuple(line for line in done.stderr.splitlines() if "CONSOLE" in line),
        re.search(r"<html[^>]*data-broken", done.stdout) is not None,
        OUTSIDE in log.read_text(encoding="utf-8", errors="replace"),
    )
