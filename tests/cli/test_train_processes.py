"""sadcl train as two processes that torchrun starts."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.runs.checkpoint import load_model
from sadcl_core.runs.run_directory import RunDirectory, read_status
from sadcl_core.runs.state import read_state_card
from tests.conftest import QUICK, Once, make_coco, run_sadcl
from tests.core.training.resumable import differences, numbers
from tests.processes import TORCHRUN, end, lines, start, start_interpreter, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
PLAIN = (
    *QUICK,
    "--img-size",
    "32",
    "--set",
    "model.heads.sarl.dropout=0",
    "--set",
    "model.freeze_batchnorm=true",
    "--save-every",
    "2",
)
LONG = (*PLAIN, "--epochs", "4,1", "--save-every", "2")
RUN = Path("runs/coco")


@pytest.fixture(scope="module")
def whole(once: Once) -> Path:
    """A folder with prepared data, and a run of two processes that nothing disturbed."""

    def fill(folder: Path) -> None:
        prepare("coco", data=make_coco(folder / "my-coco"), output=folder / "prepared" / "coco")
        code, _, stderr = end(start(folder, "train", "coco", *LONG, "-o", "two", ranks=2))
        assert code == 0, stderr

    return once("two-processes", fill)


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(whole / "my-coco", tmp_path / "my-coco")
    prepare("coco", data=tmp_path / "my-coco", output=tmp_path / "prepared" / "coco")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_process_comes_to_the_same(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen statistics and no dropout: only the order of additions differs."""
    monkeypatch.chdir(whole)
    run_sadcl("train", "coco", *LONG, "-o", "one")
    for one, two in zip(numbers(whole / "one"), numbers(whole / "two"), strict=True):
        assert (one["stage"], one["epoch"], one["lr"]) == (two["stage"], two["epoch"], two["lr"])
        for name in ("loss", "asymmetric", "sample_to_sample", "prototype_to_sample"):
            if one[name]:
                assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3)
        assert float(two["mAP_interpolated"]) == pytest.approx(float(one["mAP_interpolated"]), abs=1.0)
    assert len((whole / "two" / "metrics.jsonl").read_text().splitlines()) == len(
        (whole / "one" / "metrics.jsonl").read_text().splitlines()
    )
    assert read_state_card(RunDirectory(whole / "two")).processes == 2
    assert not list((whole / "runs").glob("*")) if (whole / "runs").is_dir() else True


def test_evaluation_of_its_model_is_the_same_for_one_and_two(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole)
    arguments = ("eval", "-w", "two", "-q", "-o", tmp_path / "eval", "--save-scores")
    run_sadcl(*arguments, tmp_path / "one.csv")
    code, _, stderr = end(start(whole, *arguments, tmp_path / "two.csv", ranks=2))
    assert code == 0, stderr
    one, two = (list(csv.reader((tmp_path / f"{name}.csv").read_text().splitlines())) for name in ("one", "two"))
    assert one == two


def test_ended_by_sigterm_then_by_the_death_of_one_the_rest_is_the_same(folder: Path, whole: Path) -> None:
    process = start(folder, "train", "coco", *LONG, ranks=2)
    wait_until(lambda: lines(folder / RUN / "results.csv") > 1, process)
    for one in psutil.Process(process.pid).children(recursive=True):
        one.terminate()
    code, _, stderr = end(process)
    assert code != 0
    assert read_status(folder / RUN)["status"] == "interrupted", stderr

    before = lines(folder / RUN / "results.csv")
    process = start(folder, "train", "--resume", ranks=2)
    wait_until(lambda: lines(folder / RUN / "results.csv") > before, process)
    os.kill(max(worker.pid for worker in psutil.Process(process.pid).children()), signal.SIGKILL)
    assert end(process)[0] == 1

    code, _, stderr = end(start(folder, "train", "--resume", ranks=2))
    assert code == 0, stderr
    assert differences(whole / "two", folder / RUN) == []


def test_two_processes_train_on_features_that_one_computes(folder: Path) -> None:
    frozen = ("train", "coco", *PLAIN, "--frozen", "--cache", "cache")
    code, _, stderr = end(start(folder, *frozen, "-o", "two", ranks=2))
    assert code == 0, stderr
    assert stderr.count("60 of them are computed now") == 1  # 24 images in two views, and 12 as they are
    assert "all are there" in run_sadcl(*frozen, "-o", "one").stderr
    for one, two in zip(numbers(folder / "one"), numbers(folder / "two"), strict=True):
        for name in ("loss", "asymmetric"):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3)


def test_a_process_that_fails_ends_the_others(folder: Path) -> None:
    process = start(folder, "train", "coco", *LONG, "--epochs", "200", "--set", "optim.patience=999", ranks=2)
    wait_until(lambda: lines(folder / RUN / "results.csv") > 1, process)
    (folder / "my-coco" / "train2017" / "005.png").unlink()
    code, _, stderr = end(process)
    assert code == 1
    assert "train2017/005.png: no such file." in stderr
    assert read_status(folder / RUN)["status"] == "failed"


def test_weights_in_shards_come_to_the_same_and_go_on_whole(folder: Path, whole: Path) -> None:
    sharded = (*LONG, "--set", "compute.shard=true")  # its threads of autograd do not stand a fork
    code, stdout, stderr = end(start_interpreter(folder, "train", "coco", *sharded, program=TORCHRUN))
    assert code == 0, stderr
    assert stdout.count("results saved to runs/coco") == 1  # one of them writes
    assert "2 processes" in stderr
    for one, two in zip(numbers(folder / RUN), numbers(whole / "two"), strict=True):
        assert float(one["loss"]) == pytest.approx(float(two["loss"]), rel=1e-3)
    load_model(folder / RUN / "weights" / "best.safetensors")
    # in one process and whole, from shards
    ran = run_sadcl("train", "--resume", RUN, "--epochs", "2", "--set", "compute.shard=false", "--json")
    assert json.loads(ran.stdout)["run"] == "runs/coco"
    assert len(numbers(folder / RUN)) == 4 + 2
