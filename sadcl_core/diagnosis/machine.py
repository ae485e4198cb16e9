"""Look at what the machine and its Python have for this program, and what of it is wrong.

No large package is imported before it is tried: a broken package is what this is to find.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from sadcl_core import __version__
from sadcl_core.runtime.device import system_memory
from sadcl_core.runtime.threads import count_processors

PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "scipy", "pyarrow", "pillow", "pydantic", "safetensors")
IMPORTED = ("torch", "torchvision", "timm", "numpy", "pyarrow", "PIL", "pydantic", "safetensors")
EXTRAS = {"tensorboard": "curves in TensorBoard", "webdataset": "data sets in shards"}
MISSING = "not installed"
DRIVERS = {580: 13, 525: 12, 450: 11}  # least NVIDIA driver of each CUDA, by NVIDIA's table of compatibility
WHERE = "see pytorch.org/get-started and sadcl docs install"
HUB_SECONDS = 3.0  # that the hub may take to answer
GIB = 2**30
LEAST_DISK, LEAST_MEMORY, LEAST_SHARED = 5.0, 4.0, 0.25  # GiB
MANY_IMAGES = 1_000_000  # for which as many loader workers are started as there ever are


@dataclass(frozen=True)
class MachineWarning:
    """Something that is wrong, and the one thing to do."""

    message: str
    action: str


@dataclass
class Machine:
    """Named values by section (software, machine, computing, extras, network), and faults."""

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[MachineWarning] = field(default_factory=list)


@dataclass(frozen=True)
class Resources:
    """Memory and disk; sizes in GiB, None where they are unknown."""

    cores: int
    memory_free: float
    memory_total: float
    disk_free: float | None
    shared_memory: float | None
    writable: bool


def inspect_machine(folder: Path | None = None, *, hub: bool = True) -> Machine:
    """Return all that can be known of this machine within a few seconds, for work in a folder, by default the current one.

    To reach the Hugging Face hub takes `HUB_SECONDS` at most.

    Example:
        >>> machine = inspect_machine(hub=False)
        >>> sorted(machine.sections["extras"])
        ['tensorboard', 'webdataset']
    """
    folder = folder or Path()
    machine, resources = Machine(), read_resources(folder)
    versions = {name: installed(name) for name in PACKAGES}
    software = {"python": platform.python_version(), "system": platform.platform(), "sadcl": __version__, **versions}
    for name in IMPORTED:
        if error := import_error(name):
            package = "torch torchvision" if name in ("torch", "torchvision") else {"PIL": "pillow"}.get(name, name)
            action = f"Install it again: {Path(sys.executable).name} -m pip install --force-reinstall {package}"
            software[name] = f"{software.get(name, installed(name))}, cannot be imported"
            machine.warnings.append(MachineWarning(f"{name} cannot be imported: {error}.", action))
    machine.sections["software"] = software
    machine.sections["machine"] = {
        "cores": resources.cores,
        "memory": f"{resources.memory_free:.1f} of {resources.memory_total:.1f} GiB free",
        **({} if resources.disk_free is None else {"disk here": f"{resources.disk_free:.1f} GiB free"}),
        **({} if resources.shared_memory is None else {"shared memory": f"{resources.shared_memory:.1f} GiB"}),
    }
    machine.warnings += resource_warnings(resources, folder)
    if "torch" in sys.modules and "cannot" not in software["torch"]:
        machine.sections["computing"], warnings = inspect_torch()
        machine.warnings += warnings
    machine.sections["extras"] = {
        name: f"not installed; for {use}: pip install 'sadcl[{name}]'" if (version := installed(name)) == MISSING else version
        for name, use in EXTRAS.items()
    }
    if hub:
        machine.sections["network"] = {"Hugging Face hub": reach_hub()}
    return machine


def installed(name: str) -> str:
    """Return the version of a package, or that it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return MISSING


def import_error(name: str) -> str:
    """Return why a package cannot be imported; an empty text if it can."""
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a broken package raises
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")
    return ""


def read_resources(folder: Path, *, shared: Path = Path("/dev/shm"), control_group: Path = Path("/sys/fs/cgroup")) -> Resources:
    """Return what there is of memory, of shared memory, and of the disk of a folder; a control group may limit the memory."""
    free, total = system_memory(control_group)
    try:
        with tempfile.TemporaryFile(dir=folder):
            writable = True
    except OSError:
        writable = False
    return Resources(
        cores=count_processors(),
        memory_free=free / GIB,
        memory_total=total / GIB,
        disk_free=shutil.disk_usage(folder).free / GIB if folder.is_dir() else None,
        shared_memory=shutil.disk_usage(shared).total / GIB if shared.is_dir() else None,
        writable=writable,
    )


def resource_warnings(resources: Resources, folder: Path) -> list[MachineWarning]:
    """Return what is scarce for runs in a folder, and for images on their way from loader workers.

    Example:
        >>> short = Resources(8, memory_free=1, memory_total=8, disk_free=50, shared_memory=8, writable=True)
        >>> [warning.message for warning in resource_warnings(short, Path("."))]
        ['Only 1.0 GiB of memory are free.']
    """
    warnings = []
    if resources.memory_free < LEAST_MEMORY:
        message = f"Only {resources.memory_free:.1f} GiB of memory are free."
        warnings.append(MachineWarning(message, "Read images with fewer processes, -j 0, or close programs"))
    if resources.disk_free is not None and resources.disk_free < LEAST_DISK:
        message = f"Only {resources.disk_free:.1f} GiB are free under {folder.resolve()}."
        warnings.append(MachineWarning(message, "Make room, or work elsewhere"))
    if not resources.writable:
        message = f"Nothing can be written in {folder.absolute()}, where runs go."
        warnings.append(MachineWarning(message, "Work in another folder, or choose one with -o"))
    if resources.shared_memory is not None and resources.shared_memory < LEAST_SHARED:
        message = f"Shared memory is {resources.shared_memory * 1024:.0f} MiB, through which loader workers hand over images."
        warnings.append(MachineWarning(message, "Start the container with --shm-size 8g, or read images with -j 0"))
    return warnings


def inspect_torch(proc: Path = Path("/proc")) -> tuple[dict[str, Any], list[MachineWarning]]:
    """Return the means of torch on this machine, and its faults; `proc` describes the processor and the driver of a GPU."""
    import torch
    import torch.distributed as dist

    warnings: list[MachineWarning] = []
    flags = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace").split() if (proc / "cpuinfo").is_file() else []
    bf16 = "fast" if {"avx512_bf16", "amx_bf16", "bf16"} & set(flags) else "slow"
    capability = torch.backends.cpu.get_cpu_capability()
    values: dict[str, Any] = {"cpu": f"{capability}, bf16 {bf16}, threads of torch: {torch.get_num_threads()}"}
    try:
        for number in range(torch.cuda.device_count()):
            properties, (free, total) = torch.cuda.get_device_properties(number), torch.cuda.mem_get_info(number)
            bf16 = "fast" if properties.major >= 8 else "slow"
            values[f"cuda:{number}"] = f"{properties.name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free, bf16 {bf16}"
    except RuntimeError as error:
        message = f"A GPU does not answer: {str(error).splitlines()[0]}."
        warnings.append(MachineWarning(message, "Restart its driver, or use --device cpu"))
    if torch.backends.mps.is_available():
        values["mps"] = "available"
    build = (
        f"for CUDA {torch.version.cuda}" if torch.version.cuda else f"for ROCm {torch.version.hip}" if torch.version.hip else ""
    )
    values["torch"], warning = fitting_torch(build, torch.cuda.is_available() or torch.backends.mps.is_available(), proc)
    warnings += [] if warning is None else [warning]
    backends = {"gloo": dist.is_gloo_available, "nccl": dist.is_nccl_available} if dist.is_available() else {}
    usable = [name for name, is_available in backends.items() if is_available()]
    values["several processes"] = ", ".join(usable) or "not available in this torch"
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++", "cl"))), None)
    values["torch.compile"] = f"usable, with {compiler}" if compiler else "not usable on the CPU: there is no C++ compiler"
    try:
        from sadcl_core.data.loader import loader_workers

        values["loader workers"] = loader_workers(None, MANY_IMAGES)
    except Exception as error:  # a broken package, which has a warning already
        values["loader workers"] = f"unknown ({type(error).__name__})"
    return values, warnings


def fitting_torch(build: str, usable: bool, proc: Path, amd: Path = Path("/dev/kfd")) -> tuple[str, MachineWarning | None]:
    """Return which torch fits this machine, beside the one it has, and a warning where a GPU lies idle.

    `build` is of torch, such as `for CUDA 13.2`, or empty for the CPU alone; `usable`: it sees a GPU. `proc` describes the driver
    of an NVIDIA GPU, and `amd` is there with that of an AMD GPU.

    Example:
        >>> fitting_torch("", False, Path("no-driver"), Path("no-driver"))
        ('for the CPU alone, which fits: there is no GPU', None)
    """
    driver = proc / "driver/nvidia/version"
    has = build or "for the CPU alone"
    if usable:
        return f"{has}, which fits", None
    if driver.exists():
        text = driver.read_text(encoding="utf-8", errors="replace")
        number = int(match[1]) if (match := re.search(r"\s(\d{3})\.\d", text)) else 0
        cuda = next((version for least, version in DRIVERS.items() if number >= least), 0)
        fits = f"one for CUDA {cuda}, which driver {number} takes" if cuda else "the one for its driver"
        message = f"There is an NVIDIA driver, but torch, built {has}, sees no GPU."
        return f"{has}; {fits} would fit", MachineWarning(message, f"Install {fits}: {WHERE}")
    if amd.exists():
        message = f"There is the driver of an AMD GPU, but torch, built {has}, sees no GPU."
        return f"{has}; one for ROCm would fit", MachineWarning(message, f"Install one for ROCm: {WHERE}")
    if not build:
        return "for the CPU alone, which fits: there is no GPU", None
    files = [
        Path(str(file.locate()))
        for package in metadata.distributions()
        if package.name.startswith(("nvidia-", "triton", "pytorch-triton"))
        for file in package.files or ()
    ]
    size = sum(path.stat().st_size for path in files if path.is_file())
    return f"{has}, and there is no GPU: the one for the CPU alone does the same without {size / GIB:.1f} GiB of libraries", None


def reach_hub(seconds: float = HUB_SECONDS) -> str:
    """Return whether the Hugging Face hub answers; a thread asks, since looking up its name may take long."""
    import requests

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "not tried, as HF_HUB_OFFLINE is set; pretrained weights come from the cache or --pretrained FILE"
    if not endpoint.startswith(("https://", "http://")):
        return f"not tried: HF_ENDPOINT is {endpoint!r}"
    answers: list[bool] = []

    def ask() -> None:
        try:
            answers.append(requests.head(endpoint, timeout=seconds).status_code > 0)
        except requests.RequestException:
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if any(answers):
        return f"reachable at {endpoint}"
    return f"not reachable at {endpoint} within {seconds:g} s; pretrained weights come from the cache or --pretrained FILE"
