"""Whatever is missing or damaged costs the checks that need it, and no others."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from sadcl_core.config.yaml import format_yaml, read_table
from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.rows import Record
from sadcl_core.data.split import spaced
from sadcl_core.diagnosis.checks_run import model_file
from sadcl_core.diagnosis.diagnose import find_run
from sadcl_core.diagnosis.evidence import gather, spaced_split
from sadcl_core.diagnosis.history import read_config, read_history, read_state
from sadcl_core.errors import DataError, SadclError, UsageError
from sadcl_core.runs.lock import this_process
from sadcl_core.runs.run_directory import RunDirectory
from tests.core.diagnosis.patches import copied, findings, wrong

NEEDS_SCORES = {"swapped-labels", "collapsed", "saturated", "at-chance", "never-predicted"}
NEEDS_ROWS = {"ema", "rate-too-high", "rate-too-low", "learned-nothing", "overfitting", "best-and-last"}
NEEDS_LABELS = {"label-names", "same-images", "few-positives", "data-changed", "learned-nothing"}


@pytest.fixture
def run(healthy: Path, tmp_path: Path) -> Path:
    return copied(healthy, tmp_path / "run")


def changed(run: Path, **values: Any) -> Path:
    path = run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return run


def not_checked(run: Path) -> set[str]:
    results = findings(run)
    for finding in results.values():
        assert finding.message
        assert bool(finding.action) == (finding.status == "found") == (finding.severity is not None)
    return {name for name, finding in results.items() if finding.status == "not checked"}


@pytest.mark.parametrize(
    ("files", "lost"),
    [
        (("weights/best.safetensors", "weights/last.safetensors"), {*NEEDS_SCORES, "model-file", "label-names"}),
        (("results.csv",), NEEDS_ROWS),
        (("metrics.jsonl",), set()),
        (("config.yaml",), {"frozen", "pretrained", "ema", "learned-nothing", "images-of-init"}),
        (("run.json",), {"ended", "rate-too-low", "data-changed"}),
        (("run.json", "config.yaml"), {"ended", "frozen", "pretrained", *NEEDS_SCORES, *NEEDS_LABELS}),
    ],
)
def test_missing_files(run: Path, files: tuple[str, ...], lost: set[str]) -> None:
    for name in files:
        (run / name).unlink()
    found = not_checked(run)
    assert lost <= found
    if len(files) == 1:
        assert found == lost


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"{" * 5000, b"stage,epoch\n", b"[1, 2]", b"null", b'{"status": ["x"]}']
)
@pytest.mark.parametrize("name", ["run.json", "config.yaml", "results.csv", "metrics.jsonl"])
def test_damaged_files(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    for read in (read_state, read_config, read_history):
        with suppress(SadclError):
            read(RunDirectory(run))


def test_a_damaged_run_is_diagnosed_all_the_same(run: Path) -> None:
    for name in ("run.json", "results.csv", "metrics.jsonl"):
        (run / name).write_bytes((run / name).read_bytes()[:-40] + b"\0\xff")
    assert {"ended", "data-changed"} <= not_checked(run)


@given(content=st.binary(max_size=300) | st.text(alphabet='stage,epoch\n1"\0.\r', max_size=200).map(str.encode))
def test_any_bytes_are_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-bytes"
    folder.mkdir(exist_ok=True)
    for name in ("run.json", "config.yaml", "results.csv", "metrics.jsonl"):
        (folder / name).write_bytes(content)
    directory = RunDirectory(folder)
    for read in (read_state, read_config, read_history):
        with suppress(SadclError):
            read(directory)


def test_a_run_killed_half_way_through_a_line_keeps_its_whole_rows(healthy: Path, tmp_path: Path) -> None:
    shutil.copytree(healthy, tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    rows, lines = (tmp_path / "run" / name for name in ("results.csv", "metrics.jsonl"))
    whole, text = read_history(directory), rows.read_text()
    start = text.rstrip().rindex("\n") + 1
    for end in range(start, start + 60, 7):
        rows.write_text(text[:end])
        lines.write_text(lines.read_text()[:-3])
        found = read_history(directory)
        assert found.epochs == whole.epochs[:-1]
        assert len(found.steps) < len(whole.steps)


def test_an_epoch_trained_twice_counts_as_it_was_last(run: Path) -> None:
    rows = run / "results.csv"
    last = rows.read_text().splitlines()[-1].split(",")
    with rows.open("a") as file:
        file.write(",".join([*last[:-2], "12.5", "12.0"]) + "\n")
    history = read_history(RunDirectory(run))
    assert len(history.epochs) == 10
    assert history.epochs[-1].held_out_map == 12.5


def test_settings_of_other_versions(run: Path) -> None:
    path = run / "config.yaml"
    values = read_table(path)
    del values["optim"], values["model"]["freeze_stride"]
    values["optim"] = {"ema_decay": 0.95, "of_tomorrow": 3}
    values["new_section"] = {"a": 1}
    path.write_text(format_yaml(values, {}))
    config = read_config(RunDirectory(run))
    assert config.optim.ema_decay == 0.95
    assert config.model.freeze_stride == 4
    values["optim"]["ema_decay"] = 7
    path.write_text(format_yaml(values, {}))
    with pytest.raises(DataError, match=r"optim\.ema_decay"):
        read_config(RunDirectory(run))


def test_data_that_are_gone(run: Path, tmp_path: Path) -> None:
    changed(run, manifest=str(tmp_path / "nowhere"))
    assert not_checked(run) == NEEDS_SCORES | NEEDS_LABELS | {"images-of-init"}


def test_images_that_moved(run: Path, healthy: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(json.loads((run / "run.json").read_text())["manifest"], data)
    description = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**description, "root": str(tmp_path / "nowhere")}))
    changed(run, manifest=str(data))
    assert not_checked(run) == NEEDS_SCORES
    found = findings(run, data=healthy.parent / "patches")
    assert {finding.status for finding in found.values()} == {"passed"}


def test_a_damaged_model(run: Path) -> None:
    best = run / "weights" / "best.safetensors"
    best.write_bytes(best.read_bytes()[:1000])
    found = findings(run)
    assert found["model-file"].severity == "serious"
    assert {name for name in found if found[name].status == "not checked"} == {*NEEDS_SCORES, "label-names"}


def test_a_model_that_holds_no_numbers(run: Path) -> None:
    best = run / "weights" / "best.safetensors"
    with safe_open(best, framework="pt") as stored:
        header, tensors = stored.metadata(), {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    broken = next(name for name in tensors if name.startswith("head"))
    tensors[broken] = torch.full_like(tensors[broken], torch.nan)
    safetensors.torch.save_file(tensors, best, metadata=header)
    found = findings(run)
    assert found["model-file"].numbers == {"tensors": 1}
    assert broken in found["model-file"].message
    assert "NaN" in found["collapsed"].message


@pytest.mark.parametrize(
    ("values", "severity", "words"),
    [
        ({"status": "interrupted", "ended": "stopped by the user"}, "doubtful", "stopped by the user."),
        ({"status": "failed", "ended": "No space."}, "serious", "No space."),
        ({"status": "diverged", "ended": "The loss is not finite."}, "serious", "diverged: The loss is not finite."),
        ({"status": "running", "process": {"host": "elsewhere", "pid": 1}}, "serious", "elsewhere, where it may still work"),
        ({"status": "starting"}, "serious", "its process is gone"),
        ({"status": ""}, "serious", "is unknown"),
    ],
)
def test_how_it_ended(run: Path, values: dict[str, Any], severity: str, words: str) -> None:
    found = wrong(changed(run, **values))["ended"]
    assert found.severity == severity
    assert words in found.message
    if values["status"] == "diverged":
        assert found.action.endswith("--lr 0.0003")
    else:
        assert found.action.endswith(f"sadcl train --resume {run}")
    shutil.rmtree(run / "state")
    assert "--resume" not in wrong(run)["ended"].action


def test_a_run_that_still_works(run: Path) -> None:
    process = {**this_process(), "pid": os.getppid()}
    process["since"] = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
    found = wrong(changed(run, status="running", process=process))
    assert found["ended"].severity == "minor"
    assert f"sadcl doctor {run}" in found["ended"].action


def test_what_is_no_run(tmp_path: Path, healthy: Path) -> None:
    with pytest.raises(DataError, match="is not a run"):
        find_run(tmp_path)
    with pytest.raises(DataError, match="is not a run"):
        find_run(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="outside a run"):
        find_run(tmp_path / "file")
    assert find_run(healthy / "weights" / "last.safetensors").path == healthy


def test_a_device_that_is_none_is_refused_and_a_missing_one_only_costs_the_scores(healthy: Path) -> None:
    with pytest.raises(UsageError, match="no such kind of device"):
        gather(find_run(healthy), device="abacus")
    evidence = gather(find_run(healthy), device="cuda:99")
    assert evidence.scored is None
    assert "cuda:99" in evidence.reasons["scored"]
    assert evidence.history is not None
    assert model_file(evidence).status == "passed"


def test_the_images_that_are_scored_are_taken_at_equal_distances(healthy: Path) -> None:
    assert spaced([str(number) for number in range(10)], 4) == ["0", "3", "6", "9"]
    records = [Record(f"{number}.png", split, (number % 2,)) for split in ("train", "val") for number in range(10)]
    manifest = Manifest.from_records(Description("x", Path("/"), ("a", "b")), records)
    sample = spaced_split(manifest.split("val"), 4)
    assert list(sample) == ["0.png", "3.png", "6.png", "9.png"]
    assert np.array_equal(sample.all_targets().argmax(axis=1), [0, 1, 0, 1])
    evidence = gather(find_run(healthy), device="cpu", workers=0, limit=7)
    assert evidence.scored is not None
    assert evidence.scored.scores.shape == (7, 5)
    assert evidence.scored.total == 60
