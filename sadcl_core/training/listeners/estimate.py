"""Estimate the time of a run from its first steps."""

from __future__ import annotations

import time

from sadcl_core.config.schema import RunConfig
from sadcl_core.training.listeners.events import Event, Listener, RunStarted, StageStarted, StepDone, TimeEstimated

AFTER = 5  # steps that are timed
FORWARD = 1 / 3  # cost of a forward pass alone, as a share of a step with its backward pass


class TimeEstimate:
    """Report once, after the first steps, how long the run will take."""

    def __init__(self, listen: Listener) -> None:
        """Report to `listen`."""
        self.listen = listen
        self.run: RunStarted | None = None
        self.stage: StageStarted | None = None
        self.steps, self.since = 0, 0.0

    def __call__(self, event: Event) -> None:
        """Count steps, and report when there are enough of them."""
        if isinstance(event, RunStarted):
            self.run = event
        elif isinstance(event, StageStarted) and self.stage is None:
            self.stage, self.since = event, time.perf_counter()
        elif isinstance(event, StepDone) and self.run is not None and self.stage is not None:
            self.steps += 1
            if self.steps < AFTER and event.step < self.stage.steps:
                return
            config = self.run.config
            seconds = seconds_left(
                config,
                self.stage.stage,
                steps=self.stage.steps,
                done=self.stage.done + self.steps,
                step_seconds=(time.perf_counter() - self.since) / self.steps,
                train_images=self.run.train_images,
                eval_images=self.run.eval_images,
            )
            early_stop = any(config.optim.patience < config.stages[name].epochs for name in config.used_stages)
            self.run = None  # once
            self.listen(TimeEstimated(seconds, early_stop))

    def close(self) -> None:
        """Do nothing: no file is open."""


def seconds_left(
    config: RunConfig,
    stage: str,
    *,
    steps: int,
    done: int,
    step_seconds: float,
    epoch_seconds: float = 0.0,
    train_images: int,
    eval_images: int,
) -> float:
    """Return the seconds until the end of the last stage, while `stage` is trained and so many steps of it are `done`.

    Epochs have `steps` of `step_seconds`, `epoch_seconds` beside them and the evaluation of `eval_images`, which comes every
    `optim.evaluate_every` epochs and after the last one.

    Example:
        >>> config = RunConfig()
        >>> stages = {name: stage.model_copy(update={"epochs": 10}) for name, stage in config.stages.items()}
        >>> config = config.model_copy(update={"stages": {"classification": stages["classification"]}})
        >>> left = seconds_left(
        ...     config, "classification", steps=100, done=500, step_seconds=0.6, train_images=1000, eval_images=100
        ... )
        >>> round(left)
        310
    """
    names = config.used_stages
    per_view = step_seconds / config.stages[stage].views
    per_image = FORWARD * per_view * steps / max(train_images, 1)
    every = config.optim.evaluate_every
    left = -done * step_seconds - done // max(steps, 1) // every * eval_images * per_image
    for name in names[names.index(stage) :]:
        section = config.stages[name]
        evaluations = -(-section.epochs // every)
        left += section.epochs * steps * per_view * section.views + evaluations * eval_images * per_image
        left += section.epochs * epoch_seconds
        left += train_images * per_image if name != stage else 0  # its prototypes
    return max(left, 0.0)
