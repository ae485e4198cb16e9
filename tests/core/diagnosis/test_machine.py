from __future__ import annotations

import socket
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest
import torch

import sadcl_core
from sadcl_core.diagnosis.machine import (
    GIB,
    Resources,
    fitting_torch,
    import_error,
    inspect_machine,
    inspect_torch,
    installed,
    reach_hub,
    read_resources,
    resource_warnings,
)

ENOUGH = Resources(cores=8, memory_free=8, memory_total=16, disk_free=50, shared_memory=8, writable=True)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_everything_is_named(tmp_path: Path) -> None:
    machine = inspect_machine(tmp_path)
    assert list(machine.sections) == ["software", "machine", "computing", "extras", "network"]
    assert machine.sections["software"]["torch"] == metadata.version("torch")
    assert {"cores", "memory", "disk here"} <= set(machine.sections["machine"])
    assert {"cpu", "several processes", "torch.compile", "loader workers"} <= set(machine.sections["computing"])
    assert set(machine.sections["extras"]) == {"tensorboard", "webdataset"}
    assert "HF_HUB_OFFLINE" in machine.sections["network"]["Hugging Face hub"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"memory_free": 0.5}, "Only 0.5 GiB of memory"),
        ({"disk_free": 1.0}, "Only 1.0 GiB are free under"),
        ({"writable": False}, "Nothing can be written in"),
        ({"shared_memory": 0.1}, "Shared memory is 102 MiB"),
        ({"disk_free": None, "shared_memory": None}, ""),
    ],
)
def test_what_is_scarce_has_one_action(tmp_path: Path, change: dict[str, float], words: str) -> None:
    assert resource_warnings(ENOUGH, tmp_path) == []
    warnings = resource_warnings(replace(ENOUGH, **change), tmp_path)  # type: ignore[arg-type] # of several types
    assert [words in warning.message and bool(warning.action) for warning in warnings] == [True] * bool(words)


def test_memory_is_that_of_the_container(tmp_path: Path) -> None:
    whole = read_resources(tmp_path, control_group=tmp_path)
    for name, size in (("memory.max", GIB // 2), ("memory.current", GIB // 4)):
        (tmp_path / name).write_text(f"{size}\n")
    limited = read_resources(tmp_path, control_group=tmp_path)
    assert (limited.memory_free, limited.memory_total) == (0.25, 0.5)
    (tmp_path / "memory.max").write_text("max\n")
    assert read_resources(tmp_path, control_group=tmp_path).memory_total == whole.memory_total > 0.5


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    assert read_resources(tmp_path).writable
    gone = read_resources(tmp_path / "gone", shared=tmp_path / "gone")
    assert (gone.writable, gone.disk_free, gone.shared_memory) == (False, None, None)


def test_a_driver_without_a_gpu_in_torch(tmp_path: Path) -> None:
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    (tmp_path / "driver/nvidia/version").touch()
    (tmp_path / "cpuinfo").write_text("flags : avx512_bf16 sse\n")
    values, warnings = inspect_torch(tmp_path)
    assert "bf16 fast" in values["cpu"]
    assert any("sees no GPU" in warning.message for warning in warnings) == (not torch.cuda.is_available())
    assert "bf16 slow" in inspect_torch(tmp_path / "gone")[0]["cpu"]


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "CUDA 12"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", "CUDA 13"),
        ("NVRM version: something else", "the one for its driver"),
    ],
)
def test_the_driver_says_which_torch_fits(tmp_path: Path, version: str, fits: str) -> None:
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    (tmp_path / "driver/nvidia/version").write_text(version)
    value, warning = fitting_torch("", False, tmp_path)
    assert fits in value
    assert warning is not None
    assert fits in warning.action
    assert fitting_torch("for CUDA 12.6", True, tmp_path) == ("for CUDA 12.6, which fits", None)


def test_the_smaller_torch_fits_where_there_is_no_gpu(tmp_path: Path) -> None:
    value, warning = fitting_torch("for CUDA 13.2", False, tmp_path, tmp_path / "none")
    assert "the one for the CPU alone does the same" in value
    assert warning is None
    value, warning = fitting_torch("for CUDA 13.2", False, tmp_path, tmp_path)
    assert warning is not None
    assert "ROCm" in warning.action


def test_it_works_where_torch_is_broken(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libtorch.so: cannot open shared object file')")
    code = (
        "from sadcl_core.diagnosis.machine import inspect_machine; m = inspect_machine();"
        "print(m.warnings[0].message, m.warnings[0].action, m.sections['software']['torch'], list(m.sections))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{Path(sadcl_core.__file__).parents[1]}", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert "torch cannot be imported: OSError: libtorch.so" in ran.stdout
    assert "--force-reinstall torch torchvision" in ran.stdout
    assert ", cannot be imported" in ran.stdout
    assert "computing" not in ran.stdout


def test_a_package_that_is_missing() -> None:
    assert installed("no-such-package") == "not installed"
    assert import_error("no_such_package").startswith("ModuleNotFoundError")
    assert import_error("json") == ""


def test_a_hub_that_does_not_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections and says nothing
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert reach_hub(0.1).startswith("not reachable")
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc/passwd")
    assert reach_hub(0.1).startswith("not tried")


def test_a_hub_that_answers_with_an_error_is_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        thread.start()
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert reach_hub(5).startswith("reachable at http")
        server.shutdown()
    assert reach_hub(5).startswith("not reachable")
