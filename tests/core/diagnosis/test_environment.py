from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sadcl_core.diagnosis import environment
from sadcl_core.diagnosis.environment import look_around, reach_hub, within


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_everything_is_named(tmp_path: Path) -> None:
    found = look_around(tmp_path)
    assert list(found.sections) == ["software", "machine", "computing", "extras", "network"]
    assert found.sections["software"]["torch"] == metadata.version("torch")
    assert {"cores", "disk here"} <= set(found.sections["machine"])
    assert {"cpu", "several processes", "torch.compile", "loader workers"} <= set(found.sections["computing"])
    assert set(found.sections["extras"]) == {"tensorboard", "webdataset"}
    assert "HF_HUB_OFFLINE" in found.sections["network"]["Hugging Face hub"]
    assert f"torch {found.sections['software']['torch']}" in found.line
    json.dumps(found.as_json(), allow_nan=False)


def test_what_is_short_or_missing_is_said_with_one_action_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "space", lambda folder: (1.0, 0.1))
    monkeypatch.setattr(environment, "free_memory", lambda: (0.5, 8.0))
    monkeypatch.setattr(environment, "writable", lambda folder: False)
    monkeypatch.setattr(environment, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(environment, "import_error", lambda name: "OSError: libcudart" if name == "torchvision" else "")
    found = look_around(tmp_path, hub=False)
    said = [advice.said for advice in found.warnings]
    expected = (
        "torchvision cannot be imported: OSError",
        "GiB of memory",
        "free under",
        "can be written",
        "Shared memory is 102",
    )
    for words in (*expected, "sees no GPU"):
        assert sum(words in sentence for sentence in said) == 1
    assert all(advice.action for advice in found.warnings)
    assert f"{len(said)} warnings" in found.line
    assert "cannot be imported" in found.sections["software"]["torchvision"]


def test_it_works_where_torch_is_broken(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libtorch.so: cannot open shared object file')")
    code = (
        "from sadcl_core.diagnosis.environment import look_around; f = look_around(); print(f.warnings[0].said, list(f.sections))"
    )
    root = Path(environment.__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{root}", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert "torch cannot be imported: OSError: libtorch.so" in ran.stdout
    assert "computing" not in ran.stdout


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.installed("no-such-package") == "not installed"
    assert environment.import_error("no_such_package").startswith("ModuleNotFoundError")
    monkeypatch.setattr(environment, "EXTRAS", {"no-such-package": "nothing"})
    assert "pip install 'sadcl[no-such-package]'" in look_around(hub=False).sections["extras"]["no-such-package"]


def test_the_hub_is_asked_for_no_longer_than_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(endpoint: str, seconds: float) -> bool:
        time.sleep(5)
        return True

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(environment, "answers", slow)
    start = time.perf_counter()
    assert "not reachable" in reach_hub(0.1)
    assert time.perf_counter() - start < 2
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc/passwd")
    assert "not asked" in reach_hub(0.1)
    assert within(1, lambda: True)
    assert not within(1, lambda: False)


def test_a_hub_that_answers_with_an_error_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert "reachable at http" in reach_hub(5)
        assert "not" not in reach_hub(5).split(" at ")[0]
        server.shutdown()
    assert "not reachable" in reach_hub(5)


def test_a_gpu_says_its_memory_and_whether_it_computes_in_bf16() -> None:
    class Cuda:
        mem_get_info = staticmethod(lambda number: (10 * environment.GIB, 16 * environment.GIB))

        def __init__(self, major: int) -> None:
            self.get_device_properties = lambda number: SimpleNamespace(name="GPU", major=major)

    assert environment._gpu(SimpleNamespace(cuda=Cuda(9)), 0) == "GPU, 10.0 of 16.0 GiB free, bf16 fast"
    assert environment._gpu(SimpleNamespace(cuda=Cuda(7)), 0).endswith("bf16 slow")


def test_memory_is_that_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = environment.free_memory()
    if whole is None:
        pytest.skip("this system does not tell")
    sizes = {"memory.max": 2 * environment.GIB, "memory.current": environment.GIB}
    monkeypatch.setattr(environment, "_number", lambda path: sizes[path.name])
    assert environment.free_memory() == (1.0, 2.0)
    monkeypatch.setattr(environment, "_number", lambda path: None)
    assert environment.free_memory() == pytest.approx(whole, rel=0.2)


def test_a_folder_that_cannot_be_written_to_or_is_gone(tmp_path: Path) -> None:
    assert environment.writable(tmp_path)
    assert not environment.writable(tmp_path / "gone")
    assert environment.space(tmp_path / "gone") is None
