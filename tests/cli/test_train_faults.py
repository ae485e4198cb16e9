"""What can go wrong while training, really caused, and how the run goes on afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.runs.run_directory import RunDirectory, read_status
from sadcl_core.runs.state import read_state
from tests.conftest import QUICK, Sadcl, make_coco
from tests.core.training.resumable import differences
from tests.processes import DEADLINE, end, lines, start, wait_until

pytestmark = pytest.mark.slow
LONG = (*QUICK, "--epochs", "6,3", "--set", "stages.classification.augment=flip-and-crop")
RUN = Path("runs/coco")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared data, and a run in it that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    prepare("coco", data=make_coco(folder / "my-coco"), output=folder / "prepared" / "coco")
    code, _, stderr = end(start(folder, "train", "coco", *LONG, "-o", "undisturbed"))
    assert code == 0, stderr
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A folder of its own with the same data."""
    shutil.copytree(whole / "my-coco", tmp_path / "my-coco")
    prepare("coco", data=tmp_path / "my-coco", output=tmp_path / "prepared" / "coco")
    return tmp_path


def goes_on_as_if_nothing_had_been(folder: Path, whole: Path, *arguments: str) -> None:
    code, _, stderr = end(start(folder, "train", "--resume", *arguments))
    assert code == 0, stderr
    assert "resumes runs/coco at stage" in stderr
    assert differences(whole / "undisturbed", folder / RUN) == []


def says(stderr: str, words: str) -> None:
    assert words in stderr, stderr
    assert "Traceback" not in stderr, stderr
    assert stderr.count("Error: ") == 1, stderr


def test_killed_in_the_middle_of_an_epoch(folder: Path, whole: Path) -> None:
    process = start(folder, "train", "coco", *LONG, "--save-every", "1")
    wait_until(lambda: lines(folder / RUN / "results.csv") > 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert read_status(folder / RUN)["status"] == "running"
    goes_on_as_if_nothing_had_been(folder, whole, "--save-every", "0")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_sigterm_finishes_the_step_and_keeps_the_state(folder: Path, whole: Path, workers: str) -> None:
    process = start(folder, "train", "coco", *LONG, "-j", workers)
    wait_until(lambda: lines(folder / RUN / "results.csv") > 1, process)
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        one.terminate()  # as a scheduler does: the workers get it too
    code, stdout, stderr = end(process)
    assert code == 143
    assert stdout == ""
    says(stderr, "ended by SIGTERM")
    says(stderr, "the state of the run is kept in runs/coco. Go on from there: sadcl train --resume runs/coco")
    status = read_status(folder / RUN)
    assert (status["status"], status["ended"]) == ("interrupted", "SIGTERM")
    goes_on_as_if_nothing_had_been(folder, whole, "-j", "0")


def test_ctrl_c_keeps_what_was_learned(folder: Path, whole: Path) -> None:
    process = start(folder, "train", "coco", *LONG, "-j", "1")
    wait_until(lambda: lines(folder / RUN / "results.csv") > 1, process)
    os.killpg(process.pid, signal.SIGINT)
    code, stdout, stderr = end(process)
    assert code == 130
    assert stdout == ""
    says(stderr, "interrupted.")
    assert read_status(folder / RUN)["status"] == "interrupted"
    for name in ("best", "last"):
        load_model(folder / RUN / "weights" / f"{name}.safetensors")
    code, stdout, stderr = end(start(folder, "eval", "-w", RUN, "--json", "-q"))
    assert code == 0, stderr
    assert json.loads(stdout)["images"] == 12
    goes_on_as_if_nothing_had_been(folder, whole, "-j", "0")


def test_a_reader_of_the_output_that_goes_away(folder: Path, whole: Path) -> None:
    process = start(folder, "train", "coco", *LONG)
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()  # as `2>&1 | head -1` does
    assert process.wait(DEADLINE) == 0
    assert read_status(folder / RUN)["status"] == "finished"
    assert differences(whole / "undisturbed", folder / RUN) == []
    assert process.stdout is not None
    process.stdout.close()


def test_an_image_that_vanishes(folder: Path, whole: Path) -> None:
    process = start(folder, "train", "coco", *LONG)
    wait_until(lambda: lines(folder / RUN / "results.csv") > 1, process)
    image = folder / "my-coco" / "train2017" / "005.png"
    image.rename(folder / "away.png")
    code, _, stderr = end(process)
    assert code == 3
    says(stderr, "train2017/005.png: no such file.")
    assert read_status(folder / RUN)["status"] == "failed"
    (folder / "away.png").rename(image)
    goes_on_as_if_nothing_had_been(folder, whole)


def test_a_worker_that_dies(folder: Path, whole: Path) -> None:
    process = start(folder, "train", "coco", *LONG, "-j", "1")
    wait_until(lambda: lines(folder / RUN / "results.csv") > 1, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    for worker in workers:
        worker.kill()
    code, _, stderr = end(process)
    assert workers
    assert code == 5
    says(stderr, "A process that reads images has ended, often because memory ran out. Use fewer of them with -j")
    goes_on_as_if_nothing_had_been(folder, whole, "-j", "0")


def test_a_loss_that_is_no_number(folder: Path) -> None:
    process = start(folder, "train", "coco", *LONG, "--lr", "1e30", "--set", "optim.warmup=0")
    code, _, stderr = end(process)
    assert code == 4
    says(stderr, "The loss term asymmetric is not a finite number (stage classification, epoch 1, step 2)")
    assert read_status(folder / RUN)["status"] == "diverged"
    _, tensors = read_state(RunDirectory(folder / RUN))
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values() if tensor.is_floating_point())
    assert "Go on from there: sadcl train --resume runs/coco --lr RATE" in stderr
    code, _, stderr = end(start(folder, "train", "--resume", "--lr", "1e-3"))
    assert code == 0, stderr
    assert "stages.classification.lr 1e+30 -> 0.001" in stderr


def test_a_full_disk(folder: Path) -> None:
    """A file system of 3 MB, where the kernel lets one be made."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        code, _, stderr = end(start(folder, "train", "coco", *LONG, "-o", disk / "run"))
        assert code == 5
        says(stderr, "cannot be written")
        assert "No space left on device" in stderr or "Make room on the disk" in stderr
        kept = read_state(RunDirectory(disk / "run"))[0].progress
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        code, _, stderr = end(start(folder, "train", "--resume", disk / "run"))
        assert code == 0, stderr
        assert f"at stage {kept.stage}, epoch {kept.epoch}" in stderr
        assert not list(disk.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_files_that_may_not_grow(folder: Path) -> None:
    """As on a disk whose quota is used up: the limit is set by the process itself."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))"
    code, _, stderr = end(start(folder, "train", "coco", *LONG, before=limit))
    assert code == 5
    says(stderr, "state/last.safetensors cannot be written")
    assert read_status(folder / RUN)["status"] == "failed"


def test_a_directory_that_cannot_be_written_to(folder: Path) -> None:
    code, _, stderr = end(start(folder, "train", "coco", *QUICK, "-o", "/proc/1/run"))
    assert code == 2
    says(stderr, "The run directory /proc/1/run cannot be made")
    if os.geteuid() == 0:
        return  # who may write everywhere
    (folder / "closed").mkdir(mode=0o500)
    code, _, stderr = end(start(folder, "train", "coco", *QUICK, "-o", "closed/run"))
    assert code == 2
    says(stderr, "cannot be made (Permission denied)")


def test_two_runs_in_one_directory(folder: Path) -> None:
    first = start(folder, "train", "coco", *LONG, "--epochs", "500", "--set", "optim.patience=999", "-o", "run")
    wait_until(lambda: (folder / "run" / "state" / "last.safetensors").is_file(), first)
    for arguments in (("coco", *LONG, "-o", "run", "--exist-ok"), ("--resume", "run")):
        code, _, stderr = end(start(folder, "train", *arguments))
        assert code == 2
        says(stderr, f"run is in use by process {first.pid} on ")
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    code, _, stderr = end(start(folder, "train", "--resume", "run", "--set", "optim.patience=1"))  # nobody holds it
    assert code == 0, stderr


STARVED = """
import resource, torch
from pathlib import Path
from sadcl_core.data.manifest import load_manifest
from sadcl_core.errors import MachineError
from sadcl_core.training.listeners.events import MemoryRanOut
from sadcl_core.training.recipe import TrainingRecipe
from tests.core.training.resumable import configured, start

class Starved(TrainingRecipe):
    def train_epoch(self):
        limit = int(open("/proc/self/statm").read().split()[0]) * 4096 + {room} * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            return super().train_epoch()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

torch.backends.mkldnn.set_flags(False)  # it does not always say so when it has too little memory
made = configured((1, 0), {{"model": {{"backbone": "resnet18"}}, "data": {{"img_size": {size}, "batch_size": {batch}}}}})
def listen(event):
    if isinstance(event, MemoryRanOut):
        print(event)

try:
    start(made, load_manifest(Path("prepared/coco")), Path("run"), listen, Starved)
except MachineError as error:
    print(error)
"""


def starved(folder: Path, **sizes: int) -> str:
    """Stdout of a training that has little room in MiB for batches of images of a size."""
    root = str(Path(__file__).parents[2])
    program = (sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{STARVED.format(**sizes)}")
    code, stdout, stderr = end(start(folder, program=program))
    assert code == 0, stderr
    return stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is Linux's")
def test_memory_that_runs_out_is_answered_with_smaller_micro_batches(folder: Path) -> None:
    assert "MemoryRanOut(device='cpu', micro_batches=2)" in starved(folder, size=256, batch=24, room=700)
    assert read_status(folder / "run")["status"] == "finished"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is Linux's")
def test_memory_that_is_not_enough_for_one_image(folder: Path) -> None:
    assert "Memory ran out on cpu with one image at a time" in starved(folder, size=512, batch=2, room=10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_memory_of_a_gpu_that_runs_out(folder: Path) -> None:
    big = ("--img-size", "512", "--batch-size", "24", "--backbone", "resnet50", "--epochs", "1,0", "--device", "cuda")
    limit = (
        "import torch; torch.cuda.set_per_process_memory_fraction(3 * 2**30 / torch.cuda.get_device_properties(0).total_memory)"
    )
    code, _, stderr = end(start(folder, "train", "coco", *QUICK, *big, before=limit))
    assert "memory ran out on cuda" in stderr, stderr
    assert code == 0, stderr


def test_a_busy_directory_is_found_in_this_process_too(sadcl: Sadcl, coco: Path) -> None:
    with RunDirectory(Path("run")).held():
        ran = sadcl("train", "coco", "--data", coco, *QUICK, "-o", "run")
    assert ran.exit_code == 2
    assert "run is in use by another process" in ran.stderr
