"""Epochs by the time there is, from the time of a step."""

from __future__ import annotations

from collections.abc import Mapping

from sadcl_core.config.automatic import ema_decay
from sadcl_core.config.schema import RunConfig
from sadcl_core.training.listeners.estimate import seconds_left

LONGER = 3  # times the epochs of the recipe, at most, where a budget that was asked for leaves room for more
SPARE = 0.05  # of the time that is left, for what is not counted: files, figures, the slowest steps
RECIPES = ("auto", "preset", "method", "default")  # sources of epochs that a budget may change; others are the user's


def free_stages(config: RunConfig, sources: Mapping[str, str]) -> list[str]:
    """Return the stages that are trained and whose epochs a time budget may change.

    Example:
        >>> free_stages(RunConfig(), {"stages.classification.epochs": "flag", "stages.contrastive.epochs": "preset small"})
        ['contrastive']
    """
    return [name for name in config.used_stages if sources.get(f"stages.{name}.epochs", "").startswith(RECIPES)]


def within_budget(
    config: RunConfig,
    sources: Mapping[str, str],
    seconds: float,
    *,
    step_seconds: float,
    epoch_seconds: float = 0.0,
    steps: int,
    train_images: int,
    eval_images: int,
) -> RunConfig:
    """Return the configuration with as many epochs as fit, and without the budget: used again it trains the same.

    The ratio of the stages stays as it is. A budget that the recipe brings only shortens them. Each has an epoch at least, or
    none where a linear layer was fitted before. Decay of the EMA and patience follow where `auto` chose them. `seconds` are left
    for the stages; the other arguments are as of `seconds_left`.

    Example:
        >>> config, sources = RunConfig(), {f"stages.{name}.epochs": "preset small" for name in RunConfig().stages}
        >>> planned = within_budget(config, sources, 600, step_seconds=0.5, steps=59, train_images=942, eval_images=965)
        >>> {name: stage.epochs for name, stage in planned.stages.items()}
        {'classification': 7, 'contrastive': 7}
    """
    free, optim = free_stages(config, sources), config.optim
    most = 1 if sources.get("optim.time_budget", "").startswith("auto") else LONGER
    largest = max(config.stages[name].epochs for name in free)
    for number in range(most * largest, -1, -1):
        counts = {name: max(0 if optim.solve_linear else 1, config.stages[name].epochs * number // largest) for name in free}
        changed = {
            name: stage.model_copy(update={"epochs": counts.get(name, stage.epochs)}) for name, stage in config.stages.items()
        }
        planned = config.model_copy(update={"stages": changed})
        names = planned.used_stages
        cost = 0.0
        if names:
            cost = seconds_left(
                planned,
                names[0],
                steps=steps,
                done=0,
                step_seconds=step_seconds,
                epoch_seconds=epoch_seconds,
                train_images=train_images,
                eval_images=eval_images,
            )
        if cost <= (1 - SPARE) * seconds:
            break
    epochs = planned.stages[names[0]].epochs if names else 1
    follow = {"ema_decay": ema_decay(epochs * steps), "patience": max(optim.patience, epochs)}
    own = {name: value for name, value in follow.items() if sources.get(f"optim.{name}", "").startswith("auto")}
    return planned.model_copy(update={"optim": optim.model_copy(update={"time_budget": 0.0, **own})})
