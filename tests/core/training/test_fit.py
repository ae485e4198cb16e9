"""What happens between the steps: which weights a stage starts from, and what is kept."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sadcl_core.config.presets import configure
from sadcl_core.data.manifest import load_manifest
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.model.memory_bank import MemoryBank
from sadcl_core.runs.checkpoint import load_model, save_model
from sadcl_core.runs.run_directory import RunDirectory, read_status
from sadcl_core.runs.state import read_state_card
from sadcl_core.training import context, fit, stages
from sadcl_core.training.context import Training
from sadcl_core.training.listeners.events import EpochDone, Event, PrototypesBuilt, StageStarted, StepDone
from sadcl_core.training.saving import StageState

SETTINGS: dict[str, Any] = {
    "data": {"img_size": 64, "batch_size": 8, "workers": 0},
    "model": {
        "backbone": "test_resnet",
        "stride": 16,
        "pretrained": False,
        "projection_width": 8,
        "heads": {"sarl": {"width": 16, "feedforward": 16}},
    },
    "device": "cpu",
}
CONTRASTIVE = {"asymmetric": 1.0, "sample_to_sample": 0.1, "prototype_to_sample": 0.05}
Weights = dict[str, Tensor]


@pytest.fixture
def train(coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Event]]:
    """Train stages of some epochs with the held-out mAPs given; return what the listener heard."""
    monkeypatch.chdir(tmp_path)
    manifest = prepare("coco", data=coco).manifest

    def run(epochs: dict[str, int], maps: Iterator[float], listen: Callable[[Event], None] = lambda event: None) -> list[Event]:
        monkeypatch.setattr(
            stages, "held_out", lambda *_: {"mAP_interpolated": (value := next(maps)), "mAP_non_interpolated": value}
        )
        named: dict[str, dict[str, Any]] = {"classification": {"epochs": 0}, "contrastive": {"epochs": 0}}
        for name, count in epochs.items():
            named[name] = {
                "epochs": count,
                "lr": 1e-3,
                "losses": {"asymmetric": 1.0} if name == "classification" else CONTRASTIVE,
            }
        layer = {**SETTINGS, "stages": named}
        configured = configure([("test", layer)], dataset="coco", split_sizes={"train": 24})
        heard: list[Event] = []

        def both(event: Event) -> None:
            heard.append(event)
            listen(event)

        fit.train(configured.config, configured.sources, manifest, RunDirectory(Path("run")), listen=both)
        return heard

    return run


def weights_of(name: str) -> Weights:
    return load_model(Path("run/weights") / f"{name}.safetensors").classifier.state_dict()


def same(a: Weights, b: Weights, *, but: tuple[str, ...] = ()) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a if key not in but)


def test_events_tell_the_whole_story(train: Callable[..., list[Event]]) -> None:
    heard = train({"classification": 1, "contrastive": 1}, iter([10.0, 20.0]))
    kinds = [type(event).__name__ for event in heard if type(event).__name__ != "Note"]
    steps = ["StepDone"] * 3
    assert kinds == ["StageStarted", *steps, "EpochDone", "PrototypesBuilt", "StageStarted", *steps, "EpochDone"]
    started = [event for event in heard if isinstance(event, StageStarted)]
    assert [(event.number, event.stages, event.steps) for event in started] == [(1, 2, 3), (2, 2, 3)]
    assert set(started[1].losses) == set(CONTRASTIVE)
    assert sum(event.images for event in heard if isinstance(event, StepDone)) == 2 * 24


def test_the_next_stage_starts_from_the_best_epoch(train: Callable[..., list[Event]], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Weights] = {}

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone) and event.row["epoch"] == 1:
            seen.setdefault("first epoch", weights_of("last"))
        if isinstance(event, PrototypesBuilt):
            seen["prototypes"] = weights_of("best")

    starts: list[Weights] = []
    start_stage = stages.start_stage

    def spy(training: Training, *arguments: Any, **options: Any) -> StageState:
        starts.append({key: value.clone() for key, value in training.classifier.state_dict().items()})
        return start_stage(training, *arguments, **options)

    monkeypatch.setattr(stages, "start_stage", spy)
    train({"classification": 3, "contrastive": 1}, iter([50.0, 40.0, 30.0, 20.0]), listen)
    assert same(starts[1], seen["first epoch"])
    # the best file is still that epoch, and has got its prototypes
    best = weights_of("best")
    assert same(best, seen["first epoch"], but=("prototypes",))
    assert best["prototypes"].any()
    assert load_model(Path("run/weights/best.safetensors")).card.trained["mAP_interpolated"] == 50.0
    assert not same(weights_of("last"), best)


def test_a_worse_stage_does_not_overwrite_the_best(train: Callable[..., list[Event]]) -> None:
    seen: list[Weights] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochDone) and event.row["stage"] == "classification":
            seen.append(weights_of("last"))

    train({"classification": 1, "contrastive": 2}, iter([50.0, 40.0, 30.0]), listen)
    assert same(weights_of("best"), seen[0], but=("prototypes",))
    card = load_model(Path("run/weights/best.safetensors")).card
    assert (card.trained["stage"], card.trained["mAP_interpolated"]) == ("classification", 50.0)


def test_the_bank_starts_from_prototypes_and_remembers_every_step(
    train: Callable[..., list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Tensor] = []
    written: list[int] = []
    start_from, write = MemoryBank.start_from, MemoryBank.write

    def spy_start(bank: MemoryBank, prototypes: Tensor) -> None:
        started.append(prototypes.clone())
        start_from(bank, prototypes)

    def spy_write(bank: MemoryBank, rows: Tensor, labels: Tensor) -> None:
        written.append(len(labels))
        write(bank, rows, labels)

    monkeypatch.setattr(MemoryBank, "start_from", spy_start)
    monkeypatch.setattr(MemoryBank, "write", spy_write)
    train({"classification": 1, "contrastive": 2}, iter([10.0, 20.0, 30.0]))
    assert len(started) == 1
    assert started[0].any()
    assert len(written) == 6


def test_the_fingerprint_is_of_the_data_and_of_nothing_else(coco: Path, tmp_path: Path) -> None:
    first = prepare("coco", data=coco, output=tmp_path / "a").manifest
    assert first.fingerprint() == load_manifest(tmp_path / "a").fingerprint()
    assert first.fingerprint() == prepare("coco", data=coco, output=tmp_path / "b").manifest.fingerprint()
    (coco / "train2017" / "003.png").unlink()
    other = prepare("coco", data=coco, output=tmp_path / "c", skip_broken=True).manifest
    assert first.fingerprint() != other.fingerprint()


def test_a_second_ctrl_c_while_files_are_written_waits_for_them(
    train: Callable[..., list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        save_model(*arguments)
        signal.raise_signal(signal.SIGINT)

    def listen(event: Event) -> None:
        if isinstance(event, StageStarted):
            monkeypatch.setattr(context, "save_model", impatient)

    with pytest.raises(KeyboardInterrupt):
        train({"classification": 2}, iter([10.0, 20.0]), listen)
    assert weights_of("last")
    assert weights_of("best")
    assert read_status(Path("run"))["status"] == "interrupted"
    assert read_state_card(RunDirectory(Path("run"))).place.epoch == 2


def test_frozen_parts_do_not_move_in_training(train: Callable[..., list[Event]]) -> None:
    seen: list[Weights] = []
    train(
        {"classification": 2},
        iter([10.0, 20.0]),
        lambda event: seen.append(weights_of("last")) if isinstance(event, EpochDone) else None,
    )
    moved = {key.split(".")[0] for key in seen[0] if not torch.equal(seen[0][key], seen[1][key])}
    assert moved == {"backbone", "head"}  # projection and prototypes belong to the contrastive stage
