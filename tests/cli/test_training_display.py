from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from sadcl_cli import console
from sadcl_cli.console import verbosity
from sadcl_cli.display.training import TrainingDisplay, spoken
from sadcl_core.config.layers import Layer
from sadcl_core.config.presets import configure
from sadcl_core.config.schema import OptimSection, RunConfig
from sadcl_core.data.formats import coco
from sadcl_core.runs.checkpoint import ModelCard, save_model
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.listeners.events import (
    EpochDone,
    EpochsPlanned,
    Event,
    MemoryRanOut,
    PassProgress,
    PrototypesBuilt,
    RunStarted,
    SettingsChosen,
    StageStarted,
    StepDone,
)
from sadcl_core.training.prototypes import CONFIDENT, POSITIVES, ClassCoverage
from sadcl_core.training.run import TrainingResult

TERMS = {"loss": 1.5, "asymmetric": 0.25, "sample_to_sample": 3.25}
STORY: list[Event] = [
    RunStarted(RunDirectory(Path("runs/a")), RunConfig(), "cpu", "fp32", 1, 1000, 50),
    StageStarted("contrastive", 2, 2, 3, 2, {"asymmetric": 1.0, "sample_to_sample": 0.1}),
    StepDone(1, 1, 8, TERMS, 1e-3),
    StepDone(1, 2, 8, TERMS, 1e-3),
    EpochDone({"epoch": 1, "images_per_second": 120.0, **TERMS, "prototype_to_sample": "", "mAP_interpolated": 61.25}, best=True),
    MemoryRanOut("cpu", 4),
    PrototypesBuilt((ClassCoverage("cat", 9, 4, CONFIDENT), ClassCoverage("dog", 3, 0, POSITIVES))),
]


def tell(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, quiet: bool = False, width: int = 160) -> str:
    screen = io.StringIO()
    screen_console = Console(file=screen, force_terminal=terminal, width=width, color_system=None)
    monkeypatch.setattr(console, "_console", lambda stderr: screen_console)
    monkeypatch.setattr(verbosity, "quiet", quiet)
    with TrainingDisplay() as display:
        for event in STORY:
            display(event)
        if display.bar is not None:
            display.bar.refresh()
    return screen.getvalue()


def test_on_a_terminal_the_bar_shows_stage_epoch_speed_eta_and_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tell(monkeypatch, terminal=True)
    for words in ("contrastive 1/3", "images/s", "ETA", "loss 1.50  ASL 0.25  S2S 3.25", "EMA mAP 61.25  best"):
        assert words in shown


def test_on_a_narrow_terminal_the_bar_keeps_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tell(monkeypatch, terminal=True, width=80)
    for words in ("contrastive 1/3", "images/s", "ETA", "loss 1.50"):
        assert words in shown


def test_off_a_terminal_there_are_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tell(monkeypatch, terminal=False)
    assert "\x1b" not in shown
    assert "stage 2/2 contrastive: 3 epochs of 2 steps, loss 1 ASL + 0.1 S2S" in shown
    assert "  epoch   1/3     120 images/s  loss 1.5000  ASL 0.2500  S2S 3.2500  EMA mAP 61.25  best" in shown
    assert "prototypes: 1 of 2 classes from images the model is sure of" in shown
    assert "dog" in shown
    assert "trains on 1,000 images of split train" in shown
    assert "50 images are few to choose an epoch by" in shown
    assert "batches are now computed in 4 micro-batches" in shown
    assert "To start so: --accumulate 4" in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_a_pass_is_shown_on_a_terminal_until_it_is_over_and_off_it_only_if_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "_console", lambda stderr: Console(file=screen, force_terminal=terminal, width=160))
    with TrainingDisplay() as display:
        for event in STORY[:4]:
            display(event)
        display(PassProgress("scoring held-out images", 16, 50))
        display(PassProgress("scoring held-out images", 32, 50))
        if display.bar is not None:
            display.bar.refresh()
        assert ("scoring held-out images" in screen.getvalue()) is terminal
        display(STORY[4])
        screen.truncate(0)
        if display.bar is not None:
            display.bar.refresh()
        assert ("contrastive 1/3" in screen.getvalue()) is terminal
    assert "scoring" not in screen.getvalue()


def test_quiet_says_only_what_wants_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tell(monkeypatch, terminal=True, quiet=True, width=400)
    assert [line.partition(" on cpu")[0] for line in shown.splitlines()] == ["Warning: memory ran out"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "10 seconds"), (44, "40 seconds"), (89, "90 seconds"), (100, "1.7 minutes"), (3600, "60 minutes"), (9000, "2.5 hours")],
)
def test_times_are_said_as_roughly_as_they_are_known(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


@pytest.mark.parametrize(
    ("preset", "classes", "line"),
    [
        (
            "wildcat-r101-448",
            coco.CLASSES,
            "published of ml-gcn on coco: mAP 83.0 (448 px, non-interpolated); which are comparable:",
        ),
        ("wildcat-r101-448", ("cat", "dog"), ""),
        ("small", coco.CLASSES, ""),
    ],
)
def test_what_was_published_stands_beside_what_was_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, preset: str, classes: tuple[str, ...], line: str
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "_console", lambda stderr: Console(file=screen, width=160))
    config = configure([("flag", {"method": "ml-gcn"})], dataset="mine", split_sizes={"train": 1}, preset=preset).config
    model = tmp_path / "best.safetensors"
    card = ModelCard(classes=classes, img_size=448, mean=(0.5,) * 3, std=(0.5,) * 3, model=config.model)
    save_model(model, {}, card)
    display = TrainingDisplay()
    display.run = RunStarted(RunDirectory(tmp_path), config, "cpu", "fp32", 1, 10, 5)
    display.show_published(TrainingResult(tmp_path, model, 70.0, "classification", 3, "EMA"))
    assert screen.getvalue().startswith(line)
    assert bool(screen.getvalue()) == bool(line)


@pytest.mark.parametrize(("epochs", "shown"), [({}, True), ({"stages": {"classification": {"epochs": 1}}}, False)])
def test_the_time_is_held_against_the_budget_unless_all_epochs_were_given(
    epochs: Layer, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    layers: list[tuple[str, Layer]] = [
        ("flag", {"method": "ml-gcn", "preset": "small", "optim": {"time_budget": 600.0}, **epochs})
    ]
    configured = configure(layers, dataset="mine", split_sizes={"train": 942, "test": 965})
    assert configured.config.used_stages == ["classification"]
    with TrainingDisplay() as display:
        display(SettingsChosen(configured))
        display.show_time()
    assert ("time budget 10 minutes" in capsys.readouterr().err) is shown


@pytest.mark.parametrize(
    ("events", "words"),
    [([], "no epoch was asked for"), ([EpochsPlanned({"c": 0}, {"c": 9}, -1.0, 1.0)], "no epoch fitted into the time")],
)
@pytest.mark.parametrize("stage", ["linear", "classification"])
def test_a_head_without_an_epoch_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, events: list[Event], words: str
) -> None:
    model = tmp_path / "best.safetensors"
    section = RunConfig().model.model_copy(update={"global_branch": "mean"})
    card = ModelCard(classes=("a",), img_size=448, mean=(0.5,) * 3, std=(0.5,) * 3, model=section, trained={"stage": stage})
    save_model(model, {}, card)
    with TrainingDisplay() as display:
        for event in events:
            display(event)
        display.show_untrained_head(TrainingResult(tmp_path, model, 70.0, stage, 1, "network"))
    assert (words in capsys.readouterr().err) is (stage == "linear")


@pytest.mark.parametrize("select", ["best", "last"])
def test_an_epoch_is_the_best_only_where_it_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], select: Literal["best", "last"]
) -> None:
    config = RunConfig(preset="small", optim=OptimSection(select=select))
    with TrainingDisplay() as display:
        display(RunStarted(RunDirectory(tmp_path), config, "cpu", "fp32", 1, 1000, 500))
        display(EpochDone({"epoch": 1, "images_per_second": 120.0, "mAP_interpolated": 61.25}, best=True))
        display.show_result(TrainingResult(tmp_path, tmp_path / "best.safetensors", 61.25, "classification", 1, "EMA"))
    shown = capsys.readouterr()
    assert ("EMA mAP 61.25  best" in shown.err) is (select == "best")
    assert shown.out.startswith("best EMA mAP 61.25" if select == "best" else "EMA mAP 61.25")


@pytest.mark.parametrize(
    ("select", "reached", "shown"), [("last", 58.0, True), ("last", 60.5, False), ("last", 64.0, False), ("best", 58.0, False)]
)
def test_a_last_epoch_below_the_fitted_linear_layer_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], select: Literal["best", "last"], reached: float, shown: bool
) -> None:
    rows = ["linear,1,61.25,61.0", f"classification,1,{reached},{reached}"]
    (tmp_path / "results.csv").write_text("\n".join(["stage,epoch,mAP_interpolated,mAP_non_interpolated", *rows, ""]))
    config = RunConfig(preset="small", optim=OptimSection(select=select))
    with TrainingDisplay() as display:
        display(RunStarted(RunDirectory(tmp_path), config, "cpu", "fp32", 1, 1000, 500))
        capsys.readouterr()
        display.show_worse_than_linear(TrainingResult(tmp_path, tmp_path, reached, "classification", 1, "EMA"))
    text = " ".join(capsys.readouterr().err.split())
    assert ("the last epoch is 3.2 points of mAP below the linear layer" in text) is shown
    assert ("--method linear-probe" in text) is shown


@pytest.mark.parametrize("method", [{}, {"method": "ml-gcn"}])
def test_a_preset_of_another_method_is_named(capsys: pytest.CaptureFixture[str], method: Layer) -> None:
    for preset, whose in (("wildcat-r101-448", "ML-GCN, ADD-GCN"), ("sadcl-r101-448", "SADCL"), ("small", "small")):
        made = configure([("flag", method)], dataset="mine", split_sizes={"train": 9}, preset=preset)
        with TrainingDisplay() as display:
            display(SettingsChosen(made))
        remark = "trains sadcl, since no method was named, with the preset of ML-GCN, ADD-GCN" in capsys.readouterr().err
        assert remark is (not method and whose.startswith("ML-GCN"))


def test_a_time_budget_that_was_exceeded_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingDisplay() as display:
        display.budget = 600.0
        display.began -= 1200
        display.show_time()
    assert "took 20 minutes, more than the time budget of 10 minutes" in capsys.readouterr().err
