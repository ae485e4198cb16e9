"""Trials on a part of the training images, stopped and gone on with, on a small network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="sadcl[sweep] is not installed")

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

import sadcl_core as sadcl
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.errors import DataError, UsageError
from sadcl_core.experiments.part import FIT, JUDGE, part_of_training
from sadcl_core.experiments.sweep import Sweep
from sadcl_core.experiments.trials import Judge, Study
from sadcl_core.training.listeners.events import (
    ComparedRunStarted,
    EpochDone,
    Event,
    FeaturesComputed,
    HeldOutScored,
    SweepPlanned,
    TrialDone,
    ignore,
)
from sadcl_core.training.setup import used_part

SETTINGS = {"data.img_size": 64, "data.workers": 0, "data.batch_size": 8, "model.backbone": "test_resnet", "features.cache": "f"}
PARAM = ["stages.classification.lr=1e-4..1e-1", "model.heads.pooled.dropout=0,0.5"]


@pytest.fixture
def manifest(coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.chdir(tmp_path)
    return prepare("coco", data=coco).manifest


def sweep(manifest: Manifest, **others: Any) -> Sweep:
    flags: dict[str, Any] = {"trials": 2, "param": PARAM, "best": 1, "seeds": "1,", "epochs": "1,0", "device": "cpu"} | others
    return sadcl.sweep(manifest, method="baseline", no_pretrained=True, set=SETTINGS, **flags)


def test_trials_go_on_where_they_were_stopped(manifest: Manifest) -> None:
    heard: list[Event] = []

    def stop_in_the_second(event: Event) -> None:
        heard.append(event)
        if isinstance(event, FeaturesComputed) and any(isinstance(event, TrialDone) for event in heard):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(manifest, listen=stop_in_the_second)
    (planned,) = [event for event in heard if isinstance(event, SweepPlanned)]
    assert planned.train_images + planned.judging_images == manifest.split_sizes["train"]

    kept = json.loads(Path("runs/sweep-coco/sweep.json").read_text())
    assert [trial["number"] for trial in kept["trials"]] == [0]

    heard.clear()
    result = sweep(manifest, listen=heard.append)
    assert json.loads(Path("runs/sweep-coco/sweep.json").read_text()) == json.loads(json.dumps(result.as_json()))
    assert [event.trial.number for event in heard if isinstance(event, TrialDone)] == [2]  # 1 was stopped, and is made as 2
    assert len(result.trials) == 2
    assert result.trials[0].settings["model.heads.pooled.dropout"] == 0  # the recipe's own values are tried first
    assert result.best[0].map == max(trial.map for trial in result.trials if trial.state == "complete")
    assert result.comparison.methods == ("recipe", f"trial-{result.best[0].number}")
    lr = result.best[0].settings["stages.classification.lr"]
    assert f"lr: {lr:g}"[:8] in result.config.read_text()
    assert not (result.folder / "trial").exists()

    heard.clear()
    again = sweep(manifest, listen=heard.append)
    assert again.trials == result.trials
    assert not [event for event in heard if isinstance(event, TrialDone | ComparedRunStarted)]
    with pytest.raises(UsageError, match="another place"):
        sweep(manifest, param=["optim.weight_decay=0,0.1"])


def test_a_limit_counts_for_the_trials_too(manifest: Manifest) -> None:
    heard: list[Event] = []
    sweep(manifest, trials=1, limit=8, listen=heard.append)
    (planned,) = [event for event in heard if isinstance(event, SweepPlanned)]
    assert (planned.train_images, planned.judging_images) == (4, 1)  # of 5 training images and 3 held-out ones


def test_a_part_of_the_training_images_judges(manifest: Manifest) -> None:
    part = part_of_training(manifest, "train")
    assert part.split_sizes.keys() == {FIT, JUDGE}
    assert sorted([*part.split(FIT), *part.split(JUDGE)]) == sorted(manifest.split("train"))
    data = RunConfig().data.model_copy(update={"limit": 18})
    one, other = (used_part(manifest, RunConfig(data=data, seed=seed)) for seed in (1, 2))
    assert list(one.split("train")) == list(other.split("train"))
    part = part_of_training(manifest, "train", limit=18)
    assert sorted([*part.split(FIT), *part.split(JUDGE)]) == sorted(one.split("train"))
    few = Manifest(manifest.description, manifest.rows.slice(0, 2))
    with pytest.raises(DataError, match="too few"):
        part_of_training(few, few.splits[0])


def test_trials_end_when_they_are_surely_worse() -> None:
    study = optuna.create_study(direction="maximize")
    rival = study.ask()

    def epochs(*intervals: tuple[float, float], trial: optuna.Trial | None = None, stage: str = "contrastive") -> None:
        judge = Judge(study, trial or study.ask(), ignore)
        for epoch, interval in enumerate(intervals, start=1):
            judge(HeldOutScored(interval))
            judge(EpochDone({"stage": stage, "epoch": epoch, "mAP_interpolated": sum(interval) / 2}, best=True))

    epochs((30.0, 50.0), (50.0, 60.0), trial=rival)
    study.tell(rival, 55.0)

    epochs((28.0, 31.0), (45.0, 51.0))
    epochs((28.0, 31.0), (50.0, 51.0), (1.0, 2.0))  # the best one had no such epoch
    epochs((10.0, 29.0), stage="classification")  # nor such a stage
    with pytest.raises(optuna.TrialPruned):
        epochs((10.0, 29.0))
    with pytest.raises(optuna.TrialPruned):
        epochs((28.0, 31.0), (45.0, 49.9))


def test_the_best_trials_have_different_settings() -> None:
    study = optuna.create_study(direction="maximize")
    choices: dict[str, BaseDistribution] = {"x": CategoricalDistribution(("a", "b"))}
    for x, value in (("a", 60.0), ("b", 59.0), ("a", 58.0)):
        study.add_trial(create_trial(params={"x": x}, distributions=choices, value=value, intermediate_values={1: value}))
    assert [trial.number for trial in Study(study, ()).best] == [0, 1]


def test_another_folder_is_not_taken(manifest: Manifest) -> None:
    Path("other").mkdir()
    Path("other/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        sweep(manifest, output="other")


@pytest.mark.parametrize("content", ["<html>", "{}", "[1]", None])
def test_a_damaged_study_is_not_taken(tmp_path: Path, content: str | None) -> None:
    if content is None:
        os.mkfifo(tmp_path / "study.log")
    else:
        (tmp_path / "study.log").write_text(f"{content}\n")
    with pytest.raises(UsageError, match="cannot be read"):
        Study.open(tmp_path, [], first={}, settings="")
