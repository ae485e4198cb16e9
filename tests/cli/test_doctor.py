from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sadcl_cli.display.doctor import show_diagnosis
from sadcl_core.diagnosis.checks import CHECKS
from sadcl_core.diagnosis.diagnose import Diagnosis
from sadcl_core.diagnosis.machine import Machine, MachineWarning
from tests.conftest import QUICK, Sadcl, make_coco
from tests.processes import lines, start, wait_until


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_without_a_run_it_is_about_the_machine(sadcl: Sadcl) -> None:
    ran = sadcl("doctor")
    for words in ("python", "torch", "timm", "cores", "disk here", "loader workers", "webdataset", "HF_HUB_OFFLINE"):
        assert words in ran.stdout
    document = json.loads(sadcl("doctor", "--json", "-q").stdout)
    assert document["schema_version"] == 1
    assert document["environment"]["software"]["timm"] in ran.stdout
    assert isinstance(document["environment"]["warnings"], list)


def test_what_is_wrong_with_the_machine_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine({"software": {"python": "3"}}, [MachineWarning("The roof is leaking.", "Mend it")])
    show_diagnosis(Diagnosis(machine), json=False)
    assert "1. The roof is leaking.\n   Do this: Mend it." in capsys.readouterr().out
    show_diagnosis(Diagnosis(machine), json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["environment"]["warnings"] == [{"said": "The roof is leaking.", "action": "Mend it"}]


def test_checks_that_lack_the_same_stand_on_one_line(in_trained: Sadcl, tmp_path: Path) -> None:
    run = Path(shutil.copytree("runs/coco", tmp_path / "run"))
    (run / "results.csv").unlink()
    shown = in_trained("doctor", run, "--device", "cpu").stdout.splitlines()
    (line,) = [line for line in shown if line.startswith("not checked: ") and "results.csv" in line]
    assert {"overfitting", "best-and-last"} <= set(line.split(": ")[1].split(", "))


def test_a_run_that_is_too_short_is_told_so(in_trained: Sadcl) -> None:
    ran = in_trained("doctor", "runs/coco", "--device", "cpu")
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("Python ")
    assert lines[1].startswith("run runs/coco · finished · best EMA mAP ")
    assert "12 of 12 held-out images scored" in lines[1]
    assert "1. " in ran.stdout
    assert "steps are few" in ran.stdout
    assert ran.stdout.count("Do this: ") == sum(line[:1].isdigit() for line in lines)
    assert "\npassed: ended, model-file" in ran.stdout
    assert "not checked: rate-too-low" in ran.stdout or "rate-too-low (" in ran.stdout
    assert "scoring held-out images" in ran.stderr
    quiet = in_trained("doctor", "runs/coco", "-q")
    assert quiet.stderr == ""
    assert quiet.stdout.splitlines()[1:] == lines[1:]  # the first line says how much memory is free
    assert "passed: ended: all stages were trained" in in_trained("doctor", "runs/coco", "-v").stdout


def test_one_document(in_trained: Sadcl) -> None:
    ran = in_trained("doctor", "runs/coco", "--json", "-q", "--limit", "5")
    document = json.loads(ran.stdout)
    assert (document["schema_version"], document["run"], document["status"]) == (1, "runs/coco", "finished")
    assert document["images_scored"] == 5
    assert {entry["name"] for entry in document["checks"]} == {check.name for check in CHECKS}
    for entry in document["checks"]:
        assert entry["status"] in ("found", "passed", "not checked")
        assert (entry["action"] is not None) == (entry["status"] == "found") == (entry["severity"] is not None)
    severities = [entry["severity"] for entry in document["checks"] if entry["severity"]]
    assert severities == sorted(severities, key=["serious", "doubtful", "minor"].index)
    assert document["environment"]["software"]["sadcl"]


def test_what_is_no_run(sadcl: Sadcl, tmp_path: Path) -> None:
    ran = sadcl("doctor", "nowhere", code=3)
    assert ran.stdout == ""
    assert "nowhere is not a run" in ran.stderr
    (tmp_path / "some.txt").touch()
    sadcl("doctor", "some.txt", code=2)
    assert "sadcl doctor RUN --data DIR" in sadcl("doctor", "--data", ".", code=2).stderr


def test_a_device_that_is_none(in_trained: Sadcl) -> None:
    in_trained("doctor", "runs/coco", "--device", "abacus", code=2)


def test_runs_are_completed(trained: Path) -> None:
    environment = {**os.environ, "_SADCL_COMPLETE": "complete_bash", "COMP_WORDS": "sadcl doctor r", "COMP_CWORD": "2"}
    command = [sys.executable, "-c", "from sadcl_cli.app import main; main()"]
    ran = subprocess.run(command, cwd=trained, env=environment, capture_output=True, text=True, check=False)
    assert "runs/coco" in ran.stdout


@pytest.mark.slow
def test_a_run_that_was_killed_names_the_command_to_go_on(sadcl: Sadcl, tmp_path: Path) -> None:
    make_coco(tmp_path / "my-coco")
    process = start(tmp_path, "train", "coco", "--data", "my-coco", *QUICK, "--epochs", "500,0", "-o", "runs/my coco")
    wait_until(lambda: lines(tmp_path / "runs" / "my coco" / "results.csv") > 2, process)
    alive = sadcl("doctor", "runs/my coco")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "The run is still training" in alive.stdout
    ran = sadcl("doctor", "runs/my coco")
    assert ran.stdout.splitlines()[3].startswith("1. ended (serious): The run never said that it ended")
    assert "sadcl train --resume 'runs/my coco'" in ran.stdout
    shutil.rmtree("runs/my coco/state")
    assert "--resume" not in sadcl("doctor", "runs/my coco").stdout
