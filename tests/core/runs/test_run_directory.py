from __future__ import annotations

import json
from pathlib import Path

import pytest

from sadcl_core.errors import DataError, UsageError
from sadcl_core.runs.run_directory import FINISHED, RunDirectory, find_model, last_finished_run, new_run_path, read_status


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_run(name: str, *, status: str = FINISHED, updated: str = "2026-01-01", weights: str | None = "best") -> RunDirectory:
    run = RunDirectory(Path("runs") / name)
    run.create(exist_ok=False)
    (run.path / "run.json").write_text(json.dumps({"status": status, "updated": updated}))
    if weights:
        (run.path / "weights").mkdir()
        (run.path / "weights" / f"{weights}.safetensors").write_text("")
    return run


def test_new_names_are_counted() -> None:
    assert new_run_path("digits") == Path("runs/digits")
    make_run("digits")
    make_run("digits-2")
    assert new_run_path("digits") == Path("runs/digits-3")


def test_an_existing_run_is_not_replaced_unasked() -> None:
    run = make_run("a")
    with pytest.raises(UsageError, match=r"runs/a exists.*--exist-ok"):
        RunDirectory(run.path).create(exist_ok=False)
    assert run.best.is_file()
    for folder in ("eval", "export"):  # what the other commands made of the earlier weights
        (run.path / folder).mkdir()
    (run.path / "my notes.txt").write_text("keep me")
    RunDirectory(run.path).create(exist_ok=True)
    assert sorted(path.name for path in run.path.iterdir()) == ["my notes.txt", "run.json"]


def test_a_folder_that_is_no_run_is_never_replaced() -> None:
    Path("mine").mkdir()
    (Path("mine") / "results.csv").write_text("mine")
    with pytest.raises(UsageError, match="holds other files and no run"):
        RunDirectory(Path("mine")).create(exist_ok=True)
    assert Path("mine/results.csv").read_text() == "mine"
    Path("empty").mkdir()
    RunDirectory(Path("empty")).create(exist_ok=True)
    assert Path("empty/run.json").is_file()  # a run from the first moment on, so that it can be replaced


def test_a_run_cannot_be_made_inside_a_file() -> None:
    Path("runs").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        RunDirectory(Path("runs/a")).create(exist_ok=False)
    with pytest.raises(UsageError, match="exists"):
        RunDirectory(Path("runs")).create(exist_ok=True)


def test_the_last_finished_run_is_the_one_that_finished_last() -> None:
    with pytest.raises(DataError, match=r"no finished run under runs/.*sadcl train digits"):
        last_finished_run()
    make_run("b", updated="2026-03-01")
    make_run("a", updated="2026-02-01")
    make_run("c", updated="2026-04-01", status="interrupted")
    Path("runs/d").mkdir()
    Path("runs/d/run.json").write_text("{")
    assert last_finished_run().path == Path("runs/b")


def test_a_model_is_found_from_a_run_or_a_file() -> None:
    run = make_run("a", status="interrupted", weights="last")
    model, owner = find_model(run.path)
    assert model == run.last
    assert owner is not None
    model, owner = find_model(run.last)
    assert owner is not None
    assert owner.path == run.path
    Path("alone.safetensors").write_text("")
    assert find_model(Path("alone.safetensors")) == (Path("alone.safetensors"), None)
    empty = make_run("b", weights=None)
    with pytest.raises(DataError, match="has no weights"):
        find_model(empty.path)


def test_status_is_added_to() -> None:
    run = RunDirectory(Path("runs/a"))
    run.create(exist_ok=False)
    run.write_status(status="running", seed=3)
    run.write_status(status=FINISHED)
    status = read_status(run.path)
    assert (status["status"], status["seed"], status["schema_version"]) == (FINISHED, 3, 1)
    Path("runs/a/run.json").write_text("[]")
    with pytest.raises(DataError, match="not a table"):
        read_status(run.path)
    with pytest.raises(DataError, match="is not a run"):
        read_status(Path("runs"))


def test_rows_are_appended() -> None:
    run = RunDirectory(Path("runs/a"))
    run.create(exist_ok=False)
    with pytest.raises(DataError, match="no epoch"):
        run.read_results()
    run.results.write_text("epoch,loss\n")
    with pytest.raises(DataError, match="has no row"):
        run.read_results()
    run.results.unlink()
    run.append_result({"stage": "first", "epoch": 1, "loss": 0.5})
    run.append_result({"stage": "first", "epoch": 2, "loss": ""})
    assert [(row["epoch"], row["loss"]) for row in run.read_results()] == [("1", "0.5"), ("2", "")]


def test_lines_of_metrics_that_break_off_are_left_out(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.read_metrics() == []
    run.append_metrics({"stage": "a", "step": 10})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(f'[1]\n{{"step": {"9" * 5000}}}\n{{"stage": "a", "st')
    assert run.read_metrics() == [{"stage": "a", "step": 10.0}, {"step": float("inf")}]
