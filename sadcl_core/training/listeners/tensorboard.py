"""The losses and metrics of a run for TensorBoard, which is an optional package."""

from __future__ import annotations

from importlib.util import find_spec

from sadcl_core.config.schema import RunConfig
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.training.listeners.events import EpochDone, StageStarted, StepDone

EVERY = 10  # steps between two points


class TensorBoard:
    """Listens to training. Points of all stages stand behind each other, by the number of the step in the run."""

    def __init__(self, config: RunConfig, run: RunDirectory, first: StageStarted) -> None:
        """Points that a run wrote beyond the step it is resumed at are taken back."""
        from torch.utils.tensorboard import SummaryWriter

        self.config, self.stage = config, first
        self.writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=self._before(first) + first.done + 1)

    def __call__(self, event: StageStarted | StepDone | EpochDone) -> None:
        """Add the points of an event."""
        if isinstance(event, StageStarted):
            self.stage = event
        elif isinstance(event, StepDone):
            if event.step % EVERY == 0 or event.step == self.stage.steps:
                step = self._before(self.stage) + (event.epoch - 1) * self.stage.steps + event.step
                self._add("train", {**event.terms, "lr": event.lr}, step)
        else:
            step = self._before(self.stage) + int(event.row["epoch"]) * self.stage.steps
            self._add("held-out", {name: value for name, value in event.row.items() if name.startswith("mAP")}, step)
            self.writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()

    def _add(self, group: str, values: dict[str, float | int | str], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", float(value), step)

    def _before(self, stage: StageStarted) -> int:
        """Steps of the stages before, had none of them ended early."""
        names = self.config.used_stages
        return sum(self.config.stages[name].epochs for name in names[: names.index(stage.stage)]) * stage.steps


def open_board(config: RunConfig, run: RunDirectory, first: StageStarted) -> TensorBoard | None:
    """A log in the run's folder tensorboard/, or None where the package is not installed."""
    return TensorBoard(config, run, first) if find_spec("tensorboard") is not None else None
