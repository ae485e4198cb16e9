from __future__ import annotations

import platform
import resource
import sys

import pytest
import torch

from sadcl_core.errors import MachineError, UsageError
from sadcl_core.runtime.device import PeakMemory, autocast, choose_device, choose_precision, keep_freed_memory, system_memory

CPU = torch.device("cpu")


def test_auto_without_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux: what a process takes beside a limit")
def test_memory_ends_where_a_limit_of_the_process_ends() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (2**34, before[1]))
        free, total = system_memory()
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    assert free < total <= 2**34


def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda:0").index == 0
    with pytest.raises(MachineError, match="no device cuda:1"):
        choose_device("cuda:1")
    for nonsense in ("gpu9", "meta", "cuda:x", "cuda:", "cpu:"):
        with pytest.raises(UsageError, match="no such kind of device"):
            choose_device(nonsense)


def test_precision() -> None:
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"
    with pytest.raises(MachineError, match="fp16 does not work on the CPU"):
        choose_precision("fp16", CPU)
    with pytest.raises(UsageError, match="choose from"):
        choose_precision("fp8", CPU)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_freed_memory_is_kept_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc":
        assert keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is counted from the start of a process elsewhere")
def test_the_most_memory_is_counted_from_the_start_of_what_is_measured() -> None:
    before = PeakMemory()
    held = torch.ones(2**26)  # 256 MiB
    del held
    most = before.mebibytes("cpu")
    assert most - PeakMemory().mebibytes("cpu") > 200
    assert before.mebibytes("cpu") < most
