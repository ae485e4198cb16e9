from __future__ import annotations

import io

import pytest
from rich.console import Console

from sadcl_cli import console
from sadcl_cli.console import verbosity
from sadcl_cli.training_display import TrainingDisplay
from sadcl_core.config.schema import RunConfig
from sadcl_core.training.listeners.events import EpochDone, Event, Note, PrototypesBuilt, StageStarted, StepDone
from sadcl_core.training.prototypes import CONFIDENT, POSITIVES, ClassCoverage

TERMS = {"loss": 1.5, "asymmetric": 0.25, "sample_to_sample": 3.25}
STORY: list[Event] = [
    Note("a note"),
    StageStarted("contrastive", 2, 2, 3, 2, {"asymmetric": 1.0, "sample_to_sample": 0.1}),
    StepDone(1, 1, 8, TERMS, 1e-3),
    StepDone(1, 2, 8, TERMS, 1e-3),
    EpochDone({"epoch": 1, "images_per_second": 120.0, **TERMS, "prototype_to_sample": "", "mAP_interpolated": 61.25}, best=True),
    PrototypesBuilt((ClassCoverage("cat", 9, 4, CONFIDENT), ClassCoverage("dog", 3, 0, POSITIVES))),
]


def tell(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, quiet: bool = False, width: int = 160) -> str:
    screen = io.StringIO()
    screen_console = Console(file=screen, force_terminal=terminal, width=width, color_system=None)
    monkeypatch.setattr(console, "_console", lambda stderr: screen_console)
    monkeypatch.setattr(verbosity, "quiet", quiet)
    with TrainingDisplay(RunConfig()) as display:
        for event in STORY:
            display(event)
        if display.progress is not None:
            display.progress.refresh()
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


def test_quiet_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tell(monkeypatch, terminal=True, quiet=True) == ""
