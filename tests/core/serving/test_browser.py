"""The page of the server and the demo in a real browser, where one is installed, under what a stranger may send."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sadcl_core as sadcl
from sadcl_core.inference.embedding_index import EmbeddedRows, EmbeddingIndex, fingerprint, unit
from sadcl_core.runs.card import read_card
from sadcl_core.runtime.files import STEERING
from tests.browser import NAMES, needs_browser, opened
from tests.core.inference.test_same_scores import bomb
from tests.hostile.inputs import edit_header

uvicorn = pytest.importorskip("uvicorn", reason="sadcl[serve] is not installed")

from fastapi import FastAPI, Request  # noqa: E402
from fastapi.responses import HTMLResponse  # noqa: E402

from sadcl_core.serving.application import build_application  # noqa: E402
from sadcl_core.serving.serve import address_of, listen  # noqa: E402

# asks in the page as a person does who drops the files, touches every label and keeps the thresholds
DRIVE = """<!doctype html><link rel="icon" href="data:,"><iframe src="/" width="900" height="900"></iframe><script>
document.querySelector("iframe").onload = async (event) => {
  const page = event.target.contentWindow, body = page.document.body;
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const files = (await (await fetch("/files")).json()).map(([name, text]) => new page.File([bytes(text)], name));
  await page.ask(files);
  const message = body.querySelector("#message").textContent;
  for (const row of body.querySelectorAll("tr[data-name]")) row.onfocus?.();
  const slider = body.querySelector("input[type=range]");
  slider.value = 0.25;
  slider.oninput();
  if (body.querySelector("button")) await page.keep();
  await Promise.all([...page.document.images].map((image) => image.decode().catch(() => 0)));
  const seen = {
    message, kept: body.querySelector("#message").textContent, text: body.innerText,
    executed: page.document.documentElement.hasAttribute("data-broken"),
    elements: [...body.querySelectorAll("script, iframe, svg, [onerror], [onload], [autofocus]")].length,
    wide: page.document.documentElement.scrollWidth > page.innerWidth,
    results: body.querySelectorAll("#results table").length, errors: body.querySelectorAll("#results .error").length,
    alike: [...body.querySelectorAll(".alike img")].filter((image) => image.naturalWidth).length,
  };
  await fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
};
</script><img src="/wait">"""


def add_driver(app: FastAPI, files: list[tuple[str, bytes]]) -> dict[str, Any]:
    """Add to an application a page that drives its page, and which the browser waits for; return what it will have seen."""
    seen: dict[str, Any] = {}
    finished = asyncio.Event()

    @app.get("/drive")
    async def drive() -> HTMLResponse:
        return HTMLResponse(DRIVE)

    @app.get("/files")
    async def files_of() -> list[tuple[str, str]]:
        return [(name, base64.b64encode(content).decode()) for name, content in files]

    @app.post("/seen")
    async def take(request: Request) -> None:
        seen.update(await request.json())
        finished.set()

    @app.get("/wait")
    async def wait() -> None:
        await finished.wait()

    return seen


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("demo", [False, True], ids=["serve", "demo"])
def test_nothing_from_a_stranger_runs_or_is_fetched(demo: bool, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes((trained / "runs" / "coco" / "weights" / "best.safetensors").read_bytes())
    edit_header(file, {"classes": list(NAMES)})
    model = sadcl.load(file, device="cpu")
    assert isinstance(model, sadcl.Model)
    images = sorted((trained / "my-coco" / "val2017").iterdir())[:6]
    content = images[0].read_bytes()
    labels = [[name] for name in NAMES[:6]]
    table = pa.table({"image": NAMES[:6], "path": [str(path) for path in images], "predicted": labels})
    rows = EmbeddedRows(table, unit(model.embed(images).image_features))
    index = EmbeddingIndex(rows, rows, about={"fingerprint": fingerprint(model.classifier.state_dict())})
    application = build_application(model, demo=demo, index=index if demo else None)
    good = [(f"{name[:200]}.png", content) for name in NAMES[:4]]
    bad = [b"", b"text", content[:200], bomb(), b"<svg onload='alert(1)'/>", NAMES[0].encode()]
    seen = add_driver(application, [*good, *((f"{NAMES[k]}", data) for k, data in enumerate(bad))])
    with listen(port=0) as listening:
        server = uvicorn.Server(uvicorn.Config(application, log_config=None, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            page = opened(f"{address_of(listening)}/drive", tmp_path)
        finally:
            server.should_exit = True
            thread.join()
    assert page.complaints == ()
    assert (page.executed, page.fetched, seen["executed"], seen["wide"]) == (False,) * 4
    assert seen["message"] == ""
    assert (seen["results"], seen["errors"], seen["alike"]) == (len(good), len(bad), 6 * len(good) * demo)
    assert seen["elements"] == 1  # the script of the page
    assert not STEERING.search(seen["text"])
    assert ("in the model file" in seen["kept"]) == demo
    assert (0.25 in read_card(file).thresholds) == demo
