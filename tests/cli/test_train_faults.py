"""Processes that train are stopped, killed, starved and cut off, and the run goes on afterwards."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from sadcl_core.data.manifest import load_manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import MachineError
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.runs.run_directory import read_status
from sadcl_core.training.listeners.events import Event, MemoryRanOut
from sadcl_core.training.recipe import TrainingRecipe
from tests.conftest import QUICK, Once, make_coco, run_sadcl
from tests.core.training.resumable import configured, differences
from tests.core.training.resumable import start as start_training
from tests.processes import DEADLINE, Program, end, lines, start, start_interpreter, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
LONG = (*QUICK, "--img-size", "32", "--epochs", "4,1", "--set", "stages.classification.augment=flip-and-crop")
RUN = Path("runs/coco")


@pytest.fixture(scope="module")
def whole(once: Once) -> Path:
    """A folder with prepared data, and a run in it that nothing disturbed."""

    def fill(folder: Path) -> None:
        prepare("coco", data=make_coco(folder / "my-coco"), output=folder / "prepared" / "coco")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            run_sadcl("train", "coco", *LONG, "-o", "undisturbed")

    return once("undisturbed", fill)


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with the same data."""
    shutil.copytree(whole / "prepared", tmp_path / "prepared")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def goes_on_as_if_nothing_had_been(folder: Path, whole: Path, *arguments: str) -> None:
    assert "resumes runs/coco at stage" in run_sadcl("train", "--resume", *arguments).stderr
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
    ran = run_sadcl("eval", "-w", RUN, "--json", "-q")
    assert json.loads(ran.stdout)["images"] == 12
    goes_on_as_if_nothing_had_been(folder, whole, "-j", "0")


def test_a_reader_of_the_output_that_goes_away(folder: Path, whole: Path) -> None:
    process = start_interpreter(folder, "train", "coco", *LONG)
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()  # as `2>&1 | head -1` does
    assert process.wait(DEADLINE) == 0
    assert read_status(folder / RUN)["status"] == "finished"
    assert differences(whole / "undisturbed", folder / RUN) == []
    assert process.stdout is not None
    process.stdout.close()


def test_two_runs_in_one_directory(folder: Path) -> None:
    first = start(folder, "train", "coco", *LONG, "--epochs", "500", "--set", "optim.patience=999", "-o", "run")
    wait_until(lambda: (folder / "run" / "state" / "last.safetensors").is_file(), first)
    for arguments in (("coco", *LONG, "-o", "run", "--exist-ok"), ("--resume", "run")):
        ran = run_sadcl("train", *arguments, code=2)
        says(ran.stderr, f"run is in use by process {first.pid} on ")
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    run_sadcl("train", "--resume", "run", "--set", "optim.patience=1")  # nobody holds it


class Starved(TrainingRecipe):
    """Trains each epoch with little room in memory."""

    room: int  # in MiB

    def train_epoch(self) -> dict[str, float]:
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 + self.room * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            return super().train_epoch()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def train_starved(size: int, batch: int, room: int) -> None:
    """Train in this process, and write down what becomes of it."""
    torch.backends.mkldnn.set_flags(False)  # it does not always say so when it has too little memory
    Starved.room = room
    made = configured((1, 0), {"model": {"backbone": "resnet18"}, "data": {"img_size": size, "batch_size": batch}})

    def listen(event: Event) -> None:
        if isinstance(event, MemoryRanOut):
            sys.stdout.write(f"{event}\n")

    try:
        start_training(made, load_manifest(Path("prepared/coco")), Path("run"), listen, Starved)
    except MachineError as error:
        sys.stdout.write(f"{error}\n")


def starved(folder: Path, **sizes: int) -> str:
    """Stdout of a training that has little room in MiB for batches of images of a size."""
    code, stdout, stderr = end(Program(folder, partial(train_starved, **sizes)))
    assert code == 0, stderr
    return stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is Linux's")
def test_memory_that_runs_out_is_answered_with_smaller_micro_batches(folder: Path) -> None:
    stdout = starved(folder, size=256, batch=24, room=700)
    assert "MemoryRanOut(device='cpu', micro_batches=2)" in stdout
    assert read_status(folder / "run")["status"] == "finished", stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is Linux's")
def test_memory_that_is_not_enough_for_one_image(folder: Path) -> None:
    assert "Memory ran out on cpu with one image at a time" in starved(folder, size=512, batch=2, room=10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_memory_of_a_gpu_that_runs_out(folder: Path) -> None:
    big = ("--img-size", "512", "--batch-size", "24", "--backbone", "resnet50", "--epochs", "1,0", "--device", "cuda")
    limit = (
        "import torch; torch.cuda.set_per_process_memory_fraction(3 * 2**30 / torch.cuda.get_device_properties(0).total_memory)"
    )
    program = (sys.executable, "-c", f"{limit}\nfrom sadcl_cli.app import main; main()")
    code, _, stderr = end(start_interpreter(folder, "train", "coco", *QUICK, *big, program=program))
    assert "memory ran out on cuda" in stderr, stderr
    assert code == 0, stderr
