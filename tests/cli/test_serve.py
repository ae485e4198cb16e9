from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import requests

from tests.conftest import Sadcl
from tests.processes import end, start, wait_until

pytest.importorskip("uvicorn", reason="sadcl[serve] is not installed")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_answers_as_predict_does_and_ends_in_order(
    trained: Path, in_trained: Sadcl, number: signal.Signals, code: int
) -> None:
    process = start(trained, "serve", "--port", "0", "--device", "cpu")
    stdout = process.outputs[0]
    wait_until(lambda: stdout.exists() and stdout.read_text().endswith("\n"), process)
    address = stdout.read_text().strip()
    image = trained / "my-coco" / "val2017" / "001.png"
    with image.open("rb") as file:
        answer = requests.post(f"{address}/predict?all_scores=true", files={"images": file}, timeout=600)
    document = json.loads(in_trained("predict", image, "--json", "--all-scores").stdout)
    assert answer.json()["predictions"][0]["scores"] == pytest.approx(document["scores"], abs=1e-5)
    os.kill(process.pid, number)
    assert end(process)[0] == code


def test_mistakes(in_trained: Sadcl, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ran = in_trained("serve", "--port", str(other.getsockname()[1]), code=5)
    assert "cannot be listened on" in ran.stderr
    for host in ("no.such.host.invalid", "::::", "x" * 300):
        ran = in_trained("serve", "--host", host, "--port", "0", code=2)
        assert "--host" in ran.stderr or "There is no host" in ran.stderr
    in_trained("serve", "-w", tmp_path / "none", "--port", "0", code=3)


def test_mistakes_of_demo(in_trained: Sadcl, tmp_path: Path) -> None:
    in_trained("demo", "-w", tmp_path / "none", "--port", "0", code=3)
    assert "no embeddings" in in_trained("demo", "--index", tmp_path, "--port", "0", code=3).stderr
