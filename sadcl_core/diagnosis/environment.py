"""What the machine and its Python have for this program, and what of it is wrong.

Nothing of weight is imported before it is looked at: a broken package is what this is to find.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from sadcl_core import __version__

PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "scipy", "pyarrow", "pillow", "pydantic", "safetensors")
NEEDED = ("torch", "torchvision", "timm", "numpy", "pyarrow", "PIL", "pydantic", "safetensors")  # what is imported to see
EXTRAS = {"tensorboard": "curves in TensorBoard", "webdataset": "data sets in shards"}
HUB_SECONDS = 3.0  # that the hub may take to answer
GIB = 2**30
LEAST_DISK, LEAST_MEMORY, LEAST_SHARED = 5.0, 4.0, 0.25  # GiB
MANY_IMAGES = 1_000_000  # for which as many loader workers are started as there ever are


@dataclass(frozen=True)
class Advice:
    """Something that is wrong, and one thing to do."""

    said: str
    action: str


@dataclass
class Environment:
    """Sections of named values, and what is wrong."""

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[Advice] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The most important of it in one line."""
        software, computing, machine = (self.sections.get(name, {}) for name in ("software", "computing", "machine"))
        memory = machine.get("memory", "")
        parts = [
            f"Python {software.get('python')}",
            f"sadcl {software.get('sadcl')}",
            f"torch {software.get('torch')}",
            *[f"{name}: {value}" for name, value in computing.items() if name == "mps" or name.startswith("cuda:")],
            f"{machine.get('cores')} CPU cores",
            *([str(memory)] if memory else []),
            *([f"{len(self.warnings)} warnings"] if self.warnings else []),
        ]
        return " · ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """For one document."""
        return {**self.sections, "warnings": [vars(advice) for advice in self.warnings]}


def look_around(folder: Path | None = None, *, hub: bool = True) -> Environment:
    """Everything that can be known of this machine within a few seconds.

    Args:
        folder: where work is to be done; here unless given.
        hub: also try to reach the Hugging Face hub, which takes HUB_SECONDS at most.
    """
    found = Environment()
    folder = folder or Path()
    _software(found)
    _machine(found, folder)
    if not any(name in str(found.sections["software"].get("torch", "")) for name in ("cannot", "not installed")):
        _computing(found)
    _extras(found)
    if hub:
        found.sections["network"] = {"Hugging Face hub": reach_hub()}
    return found


def _software(found: Environment) -> None:
    values: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform(), "sadcl": __version__}
    for name in PACKAGES:
        values[name] = installed(name)
    for name in NEEDED:
        error = import_error(name)
        if error:
            values[name] = f"{values.get(name, installed(name))}, cannot be imported"
            found.warnings.append(Advice(f"{name} cannot be imported: {error}.", _how_to_mend(name)))
    found.sections["software"] = values


def _how_to_mend(name: str) -> str:
    together = "torch torchvision" if name in ("torch", "torchvision") else {"PIL": "pillow"}.get(name, name)
    return f"Install it again: {Path(sys.executable).name} -m pip install --force-reinstall {together}"


def installed(name: str) -> str:
    """The version of a package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def import_error(name: str) -> str:
    """Why a package cannot be imported; empty when it can."""
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a broken package raises
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")
    return ""


def _machine(found: Environment, folder: Path) -> None:
    values: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1}
    memory = free_memory()
    if memory is not None:
        values["memory"] = f"{memory[0]:.1f} of {memory[1]:.1f} GiB free"
        if memory[0] < LEAST_MEMORY:
            found.warnings.append(
                Advice(
                    f"Only {memory[0]:.1f} GiB of memory are free.", "Read images with fewer processes, -j 0, or close programs"
                )
            )
    _disk(found, values, folder)
    found.sections["machine"] = values


def _disk(found: Environment, values: dict[str, Any], folder: Path) -> None:
    """Room for runs, and for images on their way from loader workers."""
    free, shared = space(folder), space(Path("/dev/shm"))
    if free is not None:
        values["disk here"] = f"{free[0]:.1f} GiB free"
        if free[0] < LEAST_DISK:
            found.warnings.append(
                Advice(f"Only {free[0]:.1f} GiB are free under {folder.resolve()}.", "Make room, or work elsewhere")
            )
    if not writable(folder):
        said = f"Nothing can be written in {folder.absolute()}, where runs go."
        found.warnings.append(Advice(said, "Work in another folder, or choose one with -o"))
    if shared is not None:
        values["shared memory"] = f"{shared[1]:.1f} GiB"
        if shared[1] < LEAST_SHARED:
            said = f"Shared memory is {shared[1] * 1024:.0f} MiB, through which loader workers hand over images."
            found.warnings.append(Advice(said, "Start the container with --shm-size 8g, or read images with -j 0"))


def space(folder: Path) -> tuple[float, float] | None:
    """Free and total space in GiB; None where there is no such folder."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free / GIB, usage.total / GIB


def writable(folder: Path) -> bool:
    """Whether a file can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def free_memory() -> tuple[float, float] | None:
    """Free and total memory in GiB, within the limit of a container where there is one; None where that cannot be known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        entries = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1}
        free, total = entries["MemAvailable"], entries["MemTotal"]
    except (OSError, ValueError, KeyError):
        return None
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None and limit < total:
        free, total = min(free, max(limit - used, 0)), limit
    return free / GIB, total / GIB


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _computing(found: Environment) -> None:
    """What torch can do here."""
    import torch
    import torch.distributed as dist

    capability = torch.backends.cpu.get_cpu_capability()
    threads = f"threads of torch: {torch.get_num_threads()}"
    values: dict[str, Any] = {"cpu": f"{capability}, bf16 {'fast' if fast_bf16() else 'slow'}, {threads}"}
    try:
        values.update({f"cuda:{number}": _gpu(torch, number) for number in range(torch.cuda.device_count())})
    except RuntimeError as error:
        found.warnings.append(
            Advice(f"A GPU does not answer: {str(error).splitlines()[0]}.", "Restart its driver, or use --device cpu")
        )
    if torch.backends.mps.is_available():
        values["mps"] = "available"
    if not torch.cuda.is_available() and has_nvidia_driver():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        said = f"There is an NVIDIA driver, but torch {torch.__version__}, built {built}, sees no GPU."
        found.warnings.append(Advice(said, "Install the torch that fits the driver: see pytorch.org/get-started"))
    backends = ("gloo", dist.is_gloo_available), ("nccl", dist.is_nccl_available)
    usable = [name for name, available in backends if dist.is_available() and available()]
    values["several processes"] = ", ".join(usable) or "not available in this torch"
    values["torch.compile"] = compiler()
    values["loader workers"] = _loader_workers()
    found.sections["computing"] = values


def fast_bf16() -> bool:
    """Whether the processor computes in bf16 by itself."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def _gpu(torch: Any, number: int) -> str:
    """Name, memory and precision of a GPU."""
    properties = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    bf16 = "bf16 fast" if properties.major >= 8 else "bf16 slow"
    return f"{properties.name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free, {bf16}"


def has_nvidia_driver() -> bool:
    """Whether the system has an NVIDIA GPU that it knows how to talk to."""
    return Path("/proc/driver/nvidia/version").exists() or any(Path("/dev").glob("nvidia[0-9]*"))


def compiler() -> str:
    """Whether torch.compile finds what it needs on the CPU."""
    names = (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    path = next((path for name in names if name and (path := shutil.which(name))), None)
    return f"usable, with {path}" if path else "not usable on the CPU: there is no C++ compiler"


def _loader_workers() -> Any:
    try:
        from sadcl_core.data.loader import loader_workers
    except Exception as error:  # a package it needs is broken, which is said elsewhere
        return f"not known ({type(error).__name__})"
    return loader_workers(None, MANY_IMAGES)


def _extras(found: Environment) -> None:
    found.sections["extras"] = {
        name: version
        if (version := installed(name)) != "not installed"
        else f"not installed; for {use}: pip install 'sadcl[{name}]'"
        for name, use in EXTRAS.items()
    }


def reach_hub(seconds: float = HUB_SECONDS) -> str:
    """Whether the Hugging Face hub answers; looking names up may block for long, so it is done aside."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "not asked, as HF_HUB_OFFLINE is set; pretrained weights come from the cache or --pretrained FILE"
    if not endpoint.startswith(("https://", "http://")):
        return f"not asked: HF_ENDPOINT is {endpoint!r}"
    if within(seconds, lambda: answers(endpoint, seconds)):
        return f"reachable at {endpoint}"
    return f"not reachable at {endpoint} within {seconds:g} s; pretrained weights come from the cache or --pretrained FILE"


def answers(endpoint: str, seconds: float) -> bool:
    """Whether a server says anything at all."""
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=seconds).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except (OSError, ValueError):
        return False
    return True


def within(seconds: float, ask: Callable[[], bool]) -> bool:
    """The answer to a question, or no when it takes too long; the thread that asks is left behind then."""
    answer: list[bool] = []
    thread = threading.Thread(target=lambda: answer.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answer and answer[0])
