"""Which device computes, and in which precision."""

from __future__ import annotations

import ctypes
import re
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from sadcl_core.errors import MachineError, UsageError

if TYPE_CHECKING:
    import torch

DEVICE = r"cpu|mps|cuda(:[0-9]{1,3})?"
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DTYPES = {"bf16": "bfloat16", "fp16": "float16"}  # names in torch


def check_device_and_precision(device: str, precision: str) -> None:
    """Raise a UsageError if one of them does not exist anywhere; imports no torch.

    Example:
        >>> check_device_and_precision("cuda:1", "bf16")
    """
    if not re.fullmatch(f"auto|{DEVICE}", device):
        raise UsageError(f"--device {device}: no such kind of device. Use auto, cpu, cuda or mps.")
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: choose from {', '.join(PRECISIONS)}.")


def choose_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA, then Apple's MPS, then the CPU, where freed memory is kept.

    Raises:
        UsageError: there is no such kind of device.
        MachineError: the device is not on this machine.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    check_device_and_precision(name, "auto")
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise MachineError(f"There is no device {name} on this machine. Use --device auto or --device cpu.")
    if device.type == "cpu":
        keep_freed_memory()
    return device


def keep_freed_memory() -> bool:
    """Let glibc keep large blocks for the next batch instead of handing them back to the system after every layer.

    Fetching and clearing those pages again costs more than many a layer computes. Returns True if it was done; with another C
    library nothing happens.
    """
    library = _glibc()
    trim_threshold, mmap_max = -1, -4  # names of glibc's malloc.h
    return library is not None and bool(library.mallopt(mmap_max, 0) and library.mallopt(trim_threshold, 2**31 - 1))


def _glibc() -> ctypes.CDLL | None:
    """Return glibc where this process has it."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return library if hasattr(library, "gnu_get_libc_version") else None


class PeakMemory:
    """The most memory held since this was made; freed memory is handed back to the system first.

    Example:
        >>> PeakMemory().mebibytes("cpu") >= 0
        True
    """

    def __init__(self) -> None:
        """Count from here on."""
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        library = _glibc()
        if library is not None:
            library.malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM becomes what is held now
            self.counts = True
        except OSError:
            self.counts = False

    def mebibytes(self, device: str) -> int:
        """Return what torch held on a GPU, or elsewhere this process in memory, in MiB; 0 where Linux does not tell."""
        if device.startswith("cuda"):
            import torch

            return int(torch.cuda.max_memory_allocated() // 2**20)
        if not self.counts:
            return 0
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def system_memory(control_group: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Return the bytes of memory that are free, and all that there are, for this process: a container may have fewer, or ulimit.

    Example:
        >>> free, total = system_memory()
        >>> 0 < free <= total
        True
    """
    memory = psutil.virtual_memory()
    free, total = memory.available, memory.total
    for limit, used in _limits():
        free, total = min(free, max(limit - used, 0)), min(total, limit)
    try:
        limit, used = (int((control_group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no container, or one without a limit
        return free, total
    return min(free, max(limit - used, 0)), min(total, limit)


def _limits() -> list[tuple[int, int]]:
    """Return the bytes that this process may take, and has taken, by each limit that was set (ulimit -v and -d)."""
    if not hasattr(psutil, "RLIMIT_AS"):  # of Linux
        return []
    process = psutil.Process()
    about = process.memory_info()
    limits = [(process.rlimit(psutil.RLIMIT_AS)[0], about.vms), (process.rlimit(psutil.RLIMIT_DATA)[0], about.data)]
    return [(limit, used) for limit, used in limits if limit != psutil.RLIM_INFINITY]


def choose_precision(name: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16; `auto` is bf16 where CUDA has it, fp16 on other CUDA devices, fp32 elsewhere.

    Raises:
        UsageError: there is no such precision.
        MachineError: the device cannot compute in it.

    Example:
        >>> choose_precision("auto", choose_device("cpu"))
        'fp32'
    """
    check_device_and_precision("auto", name)
    if name == "auto":
        if device.type != "cuda":
            return "fp32"
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if name == "fp16" and device.type == "cpu":
        raise MachineError("fp16 does not work on the CPU. Use --precision bf16 or fp32.")
    return name


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context of a forward pass in mixed precision; it does nothing for fp32."""
    import torch

    dtype = getattr(torch, DTYPES[precision]) if precision in DTYPES else None
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
