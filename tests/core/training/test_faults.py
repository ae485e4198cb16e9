"""What can go wrong while training, really caused in this process, and how the run goes on afterwards."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DataError, DivergedError, MachineError, UsageError
from sadcl_core.runs.run_directory import RunDirectory, read_status
from sadcl_core.runs.state import read_state, read_state_card
from sadcl_core.training.listeners.events import EpochDone, Event
from sadcl_core.training.train import train
from tests.conftest import make_coco
from tests.core.training.resumable import differences

pytestmark = pytest.mark.usefixtures("here")
RUN = Path("runs/coco")
FLAGS: dict[str, Any] = {
    "backbone": "test_resnet",
    "no_pretrained": True,
    "img_size": 32,
    "batch_size": 8,
    "epochs": "3,1",
    "device": "cpu",
    "workers": 0,
    "lr": 1e-3,
    "set": ["model.stride=16", "model.heads.sarl.width=16", "model.heads.sarl.feedforward=16", "model.projection_width=8"],
}


@pytest.fixture(scope="module")
def undisturbed(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    return train(manifest, output=tmp_path_factory.mktemp("undisturbed") / "run", **FLAGS).run


def after_the_first_epoch(act: Any) -> Any:
    def listen(event: Event) -> None:
        if isinstance(event, EpochDone) and event.row["epoch"] == 1:
            act()

    return listen


def test_an_image_that_vanishes(undisturbed: Path, tmp_path: Path) -> None:
    own = prepare("coco", data=make_coco(tmp_path / "own"), output=tmp_path / "prepared").manifest
    image, away = tmp_path / "own" / "train2017" / "005.png", tmp_path / "away.png"
    with pytest.raises(DataError, match=r"train2017/005\.png: no such file\."):
        train(own, listen=after_the_first_epoch(lambda: image.rename(away)), **FLAGS)
    assert read_status(RUN)["status"] == "failed"
    away.rename(image)
    train(resume=True)
    assert differences(undisturbed, RUN) == []


def test_a_worker_that_dies(manifest: Manifest, undisturbed: Path) -> None:
    killed = []

    def kill() -> None:
        for worker in active_children():
            killed.append(worker.pid)
            worker.kill()

    with pytest.raises(MachineError, match=r"often because memory ran out\. Use fewer of them with -j"):
        train(manifest, listen=after_the_first_epoch(kill), **{**FLAGS, "workers": 1})
    assert killed
    train(resume=RUN, workers=0)
    assert differences(undisturbed, RUN) == []


def test_a_loss_that_is_not_finite(manifest: Manifest) -> None:
    with pytest.raises(DivergedError, match=r"asymmetric is not a finite number \(stage classification, epoch 1, step 2\)"):
        train(manifest, **{**FLAGS, "lr": 1e30, "set": [*FLAGS["set"], "optim.warmup=0"]})
    assert read_status(RUN)["status"] == "diverged"
    _, tensors = read_state(RunDirectory(RUN))
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values() if tensor.is_floating_point())
    assert train(resume=RUN, lr=1e-3, epochs="1,1").stage in ("classification", "contrastive")


def test_a_full_disk(manifest: Manifest, tmp_path: Path) -> None:
    """A file system of 1 MB, where the kernel lets one be made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(MachineError, match=r"cannot be written .*(No space left on device|Make room on the disk)"):
            train(manifest, output=disk / "run", **FLAGS)
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        assert read_state_card(RunDirectory(disk / "run")).progress.stage
        train(resume=disk / "run")
        assert read_status(disk / "run")["status"] == "finished"
        assert not list(disk.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_files_that_may_not_grow(manifest: Manifest) -> None:
    """As on a disk whose quota is used up."""
    limits, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(MachineError, match=r"state/last\.safetensors cannot be written"):
            train(manifest, **FLAGS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert read_status(RUN)["status"] == "failed"


def test_a_directory_that_cannot_be_made(manifest: Manifest) -> None:
    with pytest.raises(UsageError, match="The run directory /proc/1/run cannot be made"):
        train(manifest, output="/proc/1/run", **FLAGS)


def test_a_directory_that_is_in_use(manifest: Manifest) -> None:
    with RunDirectory(Path("run")).held(), pytest.raises(UsageError, match="run is in use by another process"):
        train(manifest, output="run", **FLAGS)


def test_images_that_are_gone_when_the_run_goes_on(tmp_path: Path) -> None:
    own = prepare("coco", data=make_coco(tmp_path / "own"), output=tmp_path / "prepared").manifest
    train(own, **{**FLAGS, "epochs": "1,0"})
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(DataError, match="own"):
        train(resume=RUN, epochs="2,0")
