"""The losses and metrics of a run for TensorBoard, in the folder tensorboard/ of the run, where the package is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sadcl_core.config.schema import RunConfig
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.listeners.events import EpochDone, Event, StageStarted, StepDone

EVERY = 10  # steps between two points


class TensorBoard:
    """Write points by the number of the step in the run, those of a later stage behind those of the earlier."""

    def __init__(self, config: RunConfig, run: RunDirectory) -> None:
        """Write nothing before the first stage starts."""
        self.config, self.run = config, run
        self.stage: StageStarted | None = None
        self.writer: Any = None  # None before the first stage, and where the package is not installed

    def __call__(self, event: Event) -> None:
        """Add the points of an event."""
        if isinstance(event, StageStarted):
            if self.stage is None:
                self.open(event)
            self.stage = event
        if self.writer is None or self.stage is None:
            return
        if isinstance(event, StepDone) and (event.step % EVERY == 0 or event.step == self.stage.steps):
            self.add("train", {**event.terms, "lr": event.lr}, (event.epoch - 1) * self.stage.steps + event.step)
        elif isinstance(event, EpochDone):
            maps = {name: value for name, value in event.row.items() if name.startswith("mAP")}
            self.add("held-out", maps, int(event.row["epoch"]) * self.stage.steps)
            self.writer.flush()

    def open(self, stage: StageStarted) -> None:
        """Open the log; points that a run wrote beyond the step it goes on from are removed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.writer = SummaryWriter(str(self.run.path / "tensorboard"), purge_step=self.steps_before(stage) + stage.done + 1)

    def add(self, group: str, values: Mapping[str, float | int | str], step: int) -> None:
        """Add a point of each value at a step of the stage."""
        assert self.stage is not None, "a stage has started"
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", float(value), self.steps_before(self.stage) + step)

    def steps_before(self, stage: StageStarted) -> int:
        """Return the steps of the earlier stages, had none of them stopped early."""
        names = self.config.used_stages
        return sum(self.config.stages[name].epochs for name in names[: names.index(stage.stage)]) * stage.steps

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            self.writer.close()
