"""The files that every run has beside its models, whoever started it."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from sadcl_core.config.schema import RunConfig
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.listeners.events import EpochDone, Event, Problem, StageStarted, StepDone
from sadcl_core.training.listeners.standard import standard_listeners

MAPS = {"mAP_interpolated": 50.0, "mAP_non_interpolated": 49.0}
STORY: list[Event] = [
    StageStarted("classification", 1, 1, 2, 3, {"asymmetric": 1.0}),
    *(StepDone(1, step, 8, {"loss": 0.5, "asymmetric": 0.5}, 1e-3) for step in (1, 2, 3)),
    EpochDone({"stage": "classification", "epoch": 1, **MAPS}, best=True),
    *(StepDone(2, step, 8, {"loss": 0.4, "asymmetric": 0.4}, 1e-3) for step in (1, 2, 3)),
    EpochDone({"stage": "classification", "epoch": 2, **MAPS}, best=False),
]


def tell(folder: Path, config: RunConfig | None = None) -> list[Event]:
    """Tell the story of a run in a folder; returns what its listener heard."""
    run = RunDirectory(folder)
    run.create(exist_ok=False)
    for epoch in (1, 2):
        run.append_result({"stage": "classification", "epoch": epoch, "loss": 0.5, "asymmetric": 0.5, **MAPS})
    heard: list[Event] = []
    with standard_listeners(config or RunConfig(), run, heard.append) as listen:
        for event in STORY:
            listen(event)
    assert [event for event in heard if event in STORY] == STORY
    return heard


def test_curves_are_drawn_and_points_of_every_step_are_on_the_board(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert tell(tmp_path / "run") == STORY
    with Image.open(tmp_path / "run" / "plots" / "curves.png") as image:
        assert image.width > 400
        assert image.convert("L").getextrema() != (255, 255)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert {"train/loss", "train/lr", "train/asymmetric", "held-out/mAP_interpolated"} <= set(board.Tags()["scalars"])
    maps = board.Scalars("held-out/mAP_interpolated")
    assert [point.step for point in maps] == [3, 6]
    assert all(math.isfinite(point.value) for point in maps)


def test_untracked_runs_have_no_board(tmp_path: Path) -> None:
    assert tell(tmp_path / "run", RunConfig(track="none")) == STORY
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "plots" / "curves.png").is_file()


def test_what_cannot_be_written_is_reported_once_and_disturbs_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("plots", "tensorboard"):
        (tmp_path / "run" / name).write_text("a file")
    run = RunDirectory(tmp_path / "run")
    for epoch in (1, 2):
        run.append_result({"stage": "classification", "epoch": epoch, "loss": 0.5, "asymmetric": 0.5, **MAPS})
    heard: list[Event] = []
    with standard_listeners(RunConfig(), run, heard.append) as listen:
        for event in STORY:
            listen(event)
    problems = [event.message for event in heard if isinstance(event, Problem)]
    assert [message.partition(" cannot be written")[0] for message in problems] == ["tensorboard", "curves.png"]
    assert [event for event in heard if not isinstance(event, Problem)] == STORY
