"""Runs in the trackers that are installed; the others are skipped by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import MachineError
from sadcl_core.runs.run_directory import RunDirectory, read_status
from sadcl_core.runtime.packages import is_installed
from sadcl_core.training.listeners.events import EpochDone, Event, Problem, StageStarted, StepDone
from sadcl_core.training.listeners.standard import standard_listeners
from sadcl_core.training.listeners.trackers import refuse_missing_trackers

STEPS = 3


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory(tmp_path / "run")
    directory.create(exist_ok=False)
    return directory


def tell(run: RunDirectory, tracker: str, epoch: int) -> list[Event]:
    """Tell of the training of one epoch, as a run that goes on with it does; returns what its listener heard."""
    heard: list[Event] = []
    run.append_result({"stage": "classification", "epoch": epoch, "mAP_interpolated": 50.0})
    with standard_listeners(RunConfig(track=tracker), run, heard.append) as listen:
        listen(StageStarted("classification", 1, 1, 2, STEPS, {"asymmetric": 1.0}, done=(epoch - 1) * STEPS))
        for step in range(1, STEPS + 1):
            listen(StepDone(epoch, step, 8, {"loss": 0.5}, 1e-3))
        listen(EpochDone({"stage": "classification", "epoch": epoch, "mAP_interpolated": 49.0 + epoch}, best=True))
    return [event for event in heard if isinstance(event, Problem)]


@pytest.mark.filterwarnings("default")  # of packages that are not ours
def test_a_resumed_run_is_one_run_of_mlflow(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="sadcl[mlflow] is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///tracked.db")
    assert [tell(run, "mlflow", epoch) for epoch in (1, 2)] == [[], []]
    client = mlflow.MlflowClient("sqlite:///tracked.db")
    (there,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert read_status(run.path)["tracked"] == {"mlflow": there.info.run_id}
    points = client.get_metric_history(there.info.run_id, "held-out/mAP_interpolated")
    assert [(point.step, point.value) for point in points] == [(3, 50.0), (6, 51.0)]
    assert there.info.run_name == "run"
    assert there.data.params["optim.patience"] == "8"


@pytest.mark.filterwarnings("default")  # of packages that are not ours
def test_a_resumed_run_has_one_name_in_wandb(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="sadcl[wandb] is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tell(run, "wandb", 1) == []
    tracked = read_status(run.path)["tracked"]
    assert tell(run, "wandb", 2) == []
    assert read_status(run.path)["tracked"] == tracked
    folders = list((run.path / "wandb").glob(f"offline-run-*-{tracked['wandb']}"))
    assert folders
    assert any(path.stat().st_size for folder in folders for path in folder.glob("*.wandb"))


@pytest.mark.filterwarnings("default")  # of packages that are not ours
def test_a_tracker_that_does_not_answer_is_one_warning(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="sadcl[mlflow] is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-store://x")
    (problem,) = tell(run, "mlflow", 1)
    assert isinstance(problem, Problem)
    assert problem.message.startswith("mlflow cannot be written (")


@pytest.mark.parametrize("name", ["mlflow", "wandb", "trackio"])
def test_a_folder_of_the_same_name_is_no_tracker(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_installed(name):
        pytest.skip(f"{name} is installed")
    (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MachineError, match=f"pip install 'sadcl\\[{name}\\]'"):
        refuse_missing_trackers(f"tensorboard,{name}")
