"""How long a run will take, from its first steps."""

from __future__ import annotations

from sadcl_core.config.schema import RunConfig
from sadcl_core.training.context import Training
from sadcl_core.training.listeners.events import Note
from sadcl_core.training.saving import StageState

AFTER = 5  # steps that are timed
FORWARD = 1 / 3  # what a look at an image costs, of a step with its backward pass


def say_how_long(training: Training, state: StageState, *, steps: int, seconds: float) -> None:
    """Tell it once, when so many steps have been made in so many seconds since the run was started or resumed."""
    if training.told or (steps < AFTER and state.place.step < state.steps):
        return
    training.told = True
    left = seconds_left(
        training.config,
        state.place.stage,
        steps=state.steps,
        done=state.steps_done,
        step_seconds=seconds / steps,
        train_images=len(training.train_split),
        eval_images=len(training.eval_split),
    )
    patience, stages = training.config.optim.patience, training.config.stages
    sooner = any(patience < stages[name].epochs for name in training.config.used_stages)
    early = "; early stop may end it sooner" if sooner else ""
    training.listen(Note(f"about {spoken(left)} to go, from the first steps{early}"))


def seconds_left(
    config: RunConfig, stage: str, *, steps: int, done: int, step_seconds: float, train_images: int, eval_images: int
) -> float:
    """Seconds until the end of the last stage.

    Args:
        config: of the run.
        stage: the one being trained.
        steps: of an epoch.
        done: of this stage.
        step_seconds: of one step in this stage.
        train_images: of an epoch.
        eval_images: looked at after each epoch.
    """
    names = config.used_stages
    per_view = step_seconds / config.stages[stage].views
    look = FORWARD * per_view * steps / max(train_images, 1)  # at one image
    left = -done * step_seconds - done // max(steps, 1) * eval_images * look
    for name in names[names.index(stage) :]:
        section = config.stages[name]
        left += section.epochs * (steps * per_view * section.views + eval_images * look)
        left += train_images * look if name != stage else 0  # its prototypes
    return max(left, 0.0)


def spoken(seconds: float) -> str:
    """A length of time in words, rounded as an estimate is."""
    if seconds < 90:
        return f"{max(round(seconds, -1), 10):.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
