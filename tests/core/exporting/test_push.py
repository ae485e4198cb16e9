from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

import sadcl_core as sadcl
from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.exporting.export import Export
from sadcl_core.exporting.push import push, write_folder
from sadcl_core.runs.hub import check_repository, repository_of

COMMIT = "a" * 40


@dataclass
class Hub:
    """A stand-in of the hub: what was committed to a repository is there to be fetched."""

    files: dict[str, bytes] = field(default_factory=dict)
    refuse: int = 0


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        document: dict[str, object] = {"url": f"http://{self.headers['Host']}/anna/pets", "name": "anna/pets"}
        if self.hub.refuse:
            self.answer(self.hub.refuse, b"{}")
            return
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            document = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            document = {"commitUrl": f"http://{self.headers['Host']}/anna/pets/commit/{COMMIT}", "commitOid": COMMIT}
        self.answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/"):
            self.answer(200, json.dumps({"id": "anna/pets", "sha": COMMIT, "siblings": []}).encode())
            return
        name = path.partition("/resolve/main/")[2] or path.partition(f"/resolve/{COMMIT}/")[2]
        if not path.startswith("/anna/pets/") or name not in self.hub.files:
            kind = "EntryNotFound" if path.startswith("/anna/pets/") else "RepoNotFound"
            self.answer(404, b"", {"X-Error-Code": kind})
            return
        self.answer(200, self.hub.files[name], {"ETag": f'"{hash(self.hub.files[name]) & 0xFFFF:040x}"'})

    def do_HEAD(self) -> None:
        self.do_GET()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(huggingface_hub.constants.ENDPOINT, address)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run of its own, evaluated."""
    copy = Path(shutil.copytree(trained / "runs" / "coco", tmp_path / "runs" / "coco"))
    sadcl.evaluate(trained / "runs" / "coco", output=copy / "eval", bootstrap=0, workers=0, device="cpu")
    (file,) = (copy / "eval").glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "mAP_interpolated_interval": [12.25, 98.5]}))
    return copy


def test_a_model_that_is_pushed_comes_back_the_same(hub: Hub, run: Path, exported: Export, trained: Path) -> None:
    (run / "export").mkdir(exist_ok=True)
    shutil.copy(exported.path, run / "export" / "model.onnx")
    assert push(run, "hf://anna/pets").address.endswith("/anna/pets")
    assert set(hub.files) == {"README.md", "model.onnx", "sadcl.safetensors", "thresholds.json"}
    image = trained / "my-coco" / "val2017" / "001.png"
    fetched, own = sadcl.load("hf://anna/pets", device="cpu"), sadcl.load(run, device="cpu")
    assert fetched.predict(image).scores.tolist() == own.predict(image).scores.tolist()
    page = hub.files["README.md"].decode()
    assert page.startswith("---\nlibrary_name: sadcl\n")
    assert " &#91;12.2, 98.5&#93; |" in page
    assert all(f"\n| {name} | " in page for name in own.classes)
    assert json.loads(hub.files["thresholds.json"])["thresholds"] == dict.fromkeys(own.classes, 0.5)


def test_timm_opens_a_baseline_from_the_hub(hub: Hub, coco: Path, tmp_path: Path) -> None:
    flags: dict[str, Any] = {"epochs": "1,0", "img_size": 64, "workers": 0, "device": "cpu", "no_pretrained": True}
    flags |= {"backbone": "test_resnet", "set": {"model.stride": 32}}
    result = sadcl.train("coco", data=coco, method="baseline", output=tmp_path / "run", **flags)
    sadcl.evaluate(tmp_path / "run", bootstrap=0, workers=0, device="cpu")
    pushed = push(tmp_path / "run", "anna/pets")
    assert pushed.without_timm == ""
    assert {"config.json", "model.safetensors"} <= set(pushed.files) == set(hub.files)
    assert 'timm.create_model("hf-hub:anna/pets", pretrained=True)' in hub.files["README.md"].decode()
    network: Any = timm.create_model("hf-hub:anna/pets", pretrained=True).eval()
    model: Any = sadcl.load(result.model, device="cpu")
    transform: Any = create_transform(**resolve_data_config(model=network))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    with torch.inference_mode():
        scores = network(transform(image)[None]).sigmoid()[0]
    np.testing.assert_allclose(scores, model.predict(image).scores, atol=1e-5)
    assert network.pretrained_cfg["label_names"] == list(model.classes)


def test_the_page_shows_the_evaluation_in_one_view(run: Path, trained: Path, tmp_path: Path) -> None:
    (plain,) = (run / "eval").glob("*.json")
    sadcl.evaluate(trained / "runs" / "coco", output=run / "eval", bootstrap=0, workers=0, device="cpu", tta="flip")
    (flipped,) = set((run / "eval").glob("*.json")) - {plain}
    os.utime(plain, (1, 1))
    write_folder(run, tmp_path / "out", repository="hf://anna/pets")
    page = (tmp_path / "out" / "README.md").read_text()
    assert " &#91;12.2, 98.5&#93; |" in page
    assert "-w hf://anna/pets\n" in page
    flipped.replace(plain)
    with pytest.raises(DataError, match="sadcl eval"):
        write_folder(run, tmp_path / "other", repository="anna/pets")


def test_a_calibration_after_the_evaluation_is_none_itself(run: Path, tmp_path: Path) -> None:
    sadcl.calibrate(run, workers=0, device="cpu")
    write_folder(run, tmp_path / "out", repository="anna/pets")
    assert " &#91;12.2, 98.5&#93; |" in (tmp_path / "out" / "README.md").read_text()


def test_the_page_shows_no_evaluation_of_other_weights(run: Path, tmp_path: Path) -> None:
    weights = load_file(run / "weights" / "best.safetensors")
    with safe_open(run / "weights" / "best.safetensors", "pt") as file:
        card = file.metadata()
    save_file({name: values + 1 for name, values in weights.items()}, run / "weights" / "best.safetensors", card)
    with pytest.raises(DataError, match="no evaluation of its weights"):
        write_folder(run, tmp_path / "out", repository="anna/pets")


def test_the_page_shows_no_evaluation_on_training_images(run: Path, trained: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "eval")
    sadcl.evaluate(trained / "runs" / "coco", output=run / "eval", split="train", bootstrap=0, workers=0, device="cpu")
    with pytest.raises(DataError, match="held-out images"):
        write_folder(run, tmp_path / "out", repository="anna/pets")


def test_mistakes(hub: Hub, run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no sadcl\.safetensors"):
        sadcl.load("hf://anna/pets")
    with pytest.raises(DataError, match="not there, or it is private"):
        sadcl.load("hf://anna/other")
    for name in ("hf://anna", "hf://", "hf://a/b/c", "hf://../etc", "hf://a/b--c"):
        with pytest.raises(UsageError, match="USER/NAME"):
            push(run, name)
    hub.refuse = 403
    with pytest.raises(UsageError, match="hf auth login"):
        push(run, "anna/pets")
    with pytest.raises(UsageError, match="there already"):
        write_folder(run, run, repository="anna/pets")
    shutil.rmtree(run / "eval")
    with pytest.raises(DataError, match="sadcl eval"):
        write_folder(run, tmp_path / "out", repository="anna/pets")
    assert not (tmp_path / "out").exists()


def test_without_a_network_one_sentence_says_what_to_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MachineError, match="name the file with -w"):
        sadcl.load("hf://anna/pets")


def test_addresses() -> None:
    assert repository_of(Path("hf://anna/pets")) == check_repository("anna/pets") == "anna/pets"
    assert repository_of("hf") == repository_of(None) == ""
