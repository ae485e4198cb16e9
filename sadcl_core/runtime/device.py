"""Which device computes, and in which precision."""

from __future__ import annotations

import ctypes
import re
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

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


def choose_device(asked: str) -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU, for which freed memory is kept; see `keep_freed_memory`.

    Raises:
        UsageError: this is no device.
        MachineError: the device asked for is not on this machine.
    """
    check_device_and_precision(asked, "auto")
    import torch

    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(asked)
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise MachineError(f"There is no device {asked} on this machine. Use --device auto or --device cpu.")
    if device.type == "cpu":
        keep_freed_memory()
    return device


def keep_freed_memory() -> bool:
    """Let glibc keep large blocks for the next batch instead of handing them back to the system after every layer.

    Fetching and clearing those pages again costs more than many a layer computes. Returns whether it could be done; with another
    C library nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    trim_threshold, mmap_max = -1, -4  # names of glibc's malloc.h
    return bool(library.mallopt(mmap_max, 0) and library.mallopt(trim_threshold, 2**31 - 1))


def choose_precision(asked: str, device: torch.device) -> str:
    """`auto` takes bf16 where CUDA has it, fp16 on other CUDA devices, fp32 elsewhere.

    Raises:
        UsageError: this is no precision.
        MachineError: the device cannot compute in the precision asked for.
    """
    check_device_and_precision("auto", asked)
    if asked == "auto":
        if device.type != "cuda":
            return "fp32"
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if asked == "fp16" and device.type == "cpu":
        raise MachineError("fp16 does not work on the CPU. Use --precision bf16 or fp32.")
    return asked


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Mixed precision around a forward pass; nothing for fp32."""
    import torch

    dtype = getattr(torch, DTYPES[precision]) if precision in DTYPES else None
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
