"""Prepare to go on with a run: with which settings, on which data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from sadcl_core.config.layers import Layer, flatten, resolve_config
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runs.run_directory import FINISHED, RunDirectory, read_status
from sadcl_core.runs.state import RunProgress, StateCard, read_state_card

# settings that may differ from those the run was started with, by the end of their dotted names
CHANGEABLE = (
    *("epochs", "lr", "optim.patience", "optim.clip_grad_norm", "save_every", "device", "precision", "track"),
    *("data.workers", "data.manifest", "compute.compile", "compute.channels_last", "compute.accumulate"),
    *("compute.gradient_checkpointing", "compute.shard", "features.cache", "features.limit_gb"),
)


@dataclass(frozen=True)
class Resumed:
    """A run that is to go on.

    Attributes:
        config: of the rest of it.
        sources: where each value came from.
        progress: where it goes on.
        changes: the values before and now of the settings that differ, by their dotted names.
        earlier: when it was resumed before.
    """

    run: RunDirectory
    config: RunConfig
    sources: dict[str, str]
    progress: RunProgress
    changes: dict[str, tuple[object, object]]
    earlier: tuple[str, ...]


def prepare_resume(
    path: Path, layers: Sequence[tuple[str, Layer]] = (), *, epochs: Sequence[int | None] = (None,), lr: float | None = None
) -> Resumed:
    """Put the configuration of the rest of a run together; nothing is changed yet.

    `layers` are settings that change, weakest first; `epochs` has a number for each stage, or one for all that are trained and
    not over, as has `lr`.

    Raises:
        DataError: there is no such run, or it has no state, or a damaged one.
        UsageError: a setting cannot be changed any more, or nothing is left to be done.
    """
    run = RunDirectory(path)
    status = read_status(run.path)
    card = read_state_card(run)
    names, used, progress = list(card.config.stages), card.config.used_stages, card.progress
    open_stages = used[used.index(progress.stage) :]
    if len(epochs) == 1:
        epochs = [epochs[0] if name in open_stages else None for name in names]
    counts = {name: {"epochs": count} for name, count in zip(names, epochs, strict=True) if count is not None}
    rates = {name: {"lr": lr} for name in open_stages} if lr else {}
    config, sources = resolve_config(
        [("run", card.config.model_dump()), *layers, ("flag", {"stages": counts}), ("flag", {"stages": rates})]
    )
    before, now = flatten(card.config.model_dump()), flatten(config.model_dump())
    changes = {key: (before.get(key), now.get(key)) for key in {**before, **now} if before.get(key) != now.get(key)}
    refuse_changes(changes, card)
    epochs_now, epochs_done = config.stages[progress.stage].epochs, progress.epoch - 1
    if progress.stage not in config.used_stages or epochs_now < epochs_done:
        raise UsageError(
            f"Stage {progress.stage} has {epochs_done} epochs already and cannot have {epochs_now}. "
            f"Give --epochs {max(epochs_done, 1)} or more."
        )
    if status.get("status") == FINISHED:
        refuse_finished(run, progress, config)
    kept = {key: source if key in changes else card.sources.get(key, "default") for key, source in sources.items()}
    return Resumed(run, config, kept, progress, changes, tuple(status.get("resumed", ())))


def refuse_changes(changes: dict[str, tuple[object, object]], card: StateCard) -> None:
    """Raise a UsageError if a setting changes that may not, or one of a stage that is over."""
    names = list(card.config.stages)
    past = names[: names.index(card.progress.stage)]
    for key, (before, now) in changes.items():
        if not any(key == name or key.endswith(f".{name}") for name in CHANGEABLE):
            raise UsageError(
                f"{key} was {before} when the run was started and cannot be {now} when it goes on. "
                "Leave it out, or start another run with --init-from."
            )
        if any(key.startswith(f"stages.{name}.") for name in past):
            counts = ",".join(str(card.config.stages[name].epochs) for name in past)
            raise UsageError(
                f"Stage {key.split('.')[1]} is over, so {key} cannot be changed any more. Name epochs of later stages alone: "
                f"--epochs {counts},N."
            )


def refuse_finished(run: RunDirectory, progress: RunProgress, config: RunConfig) -> None:
    """Raise a UsageError if a finished run has nothing left to do under its new settings either."""
    patience = config.optim.patience
    if config.used_stages[-1] != progress.stage:  # a later stage is to come
        return
    if progress.ran_out_of_patience(patience):
        raise UsageError(
            f"{run.path} ended early: no better mAP since epoch {progress.best_epoch} of stage {progress.stage}. To go on "
            f"all the same: --resume {quote(str(run.path))} --set optim.patience={2 * patience}."
        )
    if progress.epoch > config.stages[progress.stage].epochs:
        counts = [2 * stage.epochs if name == progress.stage else stage.epochs for name, stage in config.stages.items()]
        raise UsageError(
            f"{run.path} has come to its end. To train longer, give more epochs: --resume {quote(str(run.path))} "
            f"--epochs {','.join(map(str, counts))}."
        )


def refuse_other_data(card: StateCard, manifest: Manifest) -> None:
    """Raise a DataError if the run was started with other data."""
    if manifest.fingerprint() != card.data_fingerprint:
        raise DataError(
            f"The data {manifest.description.name} have other images, splits or labels than those the run was started with, so "
            "it cannot go on as it was. Give the data of then with --data, or start another run with --init-from."
        )
