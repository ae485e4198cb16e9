"""What it takes to go on with a run: which one, with which settings, on which data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sadcl_core.config.schema import Layer, RunConfig, flatten, resolve_config
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runs.run_directory import FINISHED, RunDirectory, last_unfinished_run, read_status
from sadcl_core.runs.state import Place, StateCard, read_state_card

# settings that may be others than when the run was started, by the end of their dotted names
CHANGEABLE = (
    *("epochs", "lr", "optim.patience", "optim.clip_grad_norm", "save_every", "device", "precision"),
    *("data.workers", "data.manifest", "compute.compile", "compute.channels_last", "compute.accumulate"),
    *("compute.gradient_checkpointing", "compute.shard"),
)


@dataclass(frozen=True)
class Resumed:
    """A run that is to go on.

    Attributes:
        run: its directory.
        config: of the rest of it.
        sources: where each value came from.
        changed: dotted names of the settings that are others than before.
        before: when it was resumed earlier.
        said: one sentence on where it goes on.
    """

    run: RunDirectory
    config: RunConfig
    sources: dict[str, str]
    changed: tuple[str, ...]
    before: tuple[str, ...]
    said: str


def find_resumable(path: Path | None) -> Path:
    """The run directory that is meant; with None the last one that did not come to its end.

    Raises:
        DataError: there is none.
    """
    return last_unfinished_run().path if path is None else path


def prepare_resume(
    path: Path,
    layers: Sequence[tuple[str, Layer]],
    *,
    epochs: Sequence[int | None] = (None,),
    lr: float | None = None,
    writes: bool = True,
) -> Resumed:
    """Put the configuration of the rest of a run together; nothing is changed yet.

    Args:
        path: of the run.
        layers: what the user says now, weakest first.
        epochs: of each stage, or one number for all that are trained and not over.
        lr: of all that are trained and not over.
        writes: whether this process writes.

    Raises:
        DataError: there is no such run, or it has no state, or a damaged one.
        UsageError: a setting cannot be changed any more, or nothing is left to be done.
    """
    run = RunDirectory(path, writes=writes)
    status = read_status(run.path)
    card = read_state_card(run)
    flags = [("flag", _epochs(card, epochs)), ("flag", {"stages": {name: {"lr": lr} for name in _open(card)} if lr else {}})]
    config, sources = resolve_config([("run", card.config.model_dump()), *layers, *flags])
    then, now = flatten(card.config.model_dump()), flatten(config.model_dump())
    changed = tuple(key for key in {**then, **now} if then.get(key) != now.get(key))
    _refuse_changes(changed, then, now)
    _refuse_past_stages(card, changed)
    _refuse_fewer_epochs(card.place, config)
    if status.get("status") == FINISHED:
        _refuse_nothing_left(run, card.place, config)
    place = card.place
    others = [f"{key} {then.get(key)} -> {now.get(key)}" for key in changed]
    said = f"resumes {run.path} at stage {place.stage}, epoch {place.epoch}" + (f", step {place.step}" if place.step else "")
    said += f"; with {', '.join(others)}" if others else ""
    kept = {key: source if key in changed else card.sources.get(key, "default") for key, source in sources.items()}
    return Resumed(run, config, kept, changed, tuple(status.get("resumed", ())), said)


def _epochs(card: StateCard, counts: Sequence[int | None]) -> Layer:
    names = list(card.config.stages)
    if len(counts) == 1:
        counts = [counts[0] if name in _open(card) else None for name in names]
    return {"stages": {name: {"epochs": count} for name, count in zip(names, counts, strict=True) if count is not None}}


def _open(card: StateCard) -> list[str]:
    """The stages that are trained and not over."""
    used = card.config.used_stages
    return used[used.index(card.place.stage) :]


def _refuse_changes(changed: Sequence[str], then: dict[str, object], now: dict[str, object]) -> None:
    fixed = [key for key in changed if not any(key == name or key.endswith(f".{name}") for name in CHANGEABLE)]
    if fixed:
        raise UsageError(
            f"{fixed[0]} was {then.get(fixed[0])} when the run was started and cannot be {now.get(fixed[0])} when it goes on. "
            "Leave it out, or start another run with --init-from."
        )


def _refuse_past_stages(card: StateCard, changed: Sequence[str]) -> None:
    names = list(card.config.stages)
    past = names[: names.index(card.place.stage)]
    for key in changed:
        if any(key.startswith(f"stages.{name}.") for name in past):
            counts = ",".join(str(card.config.stages[name].epochs) for name in past)
            raise UsageError(
                f"Stage {key.split('.')[1]} is over, so {key} cannot be changed any more. Name epochs of later stages alone: "
                f"--epochs {counts},N."
            )


def _refuse_fewer_epochs(place: Place, config: RunConfig) -> None:
    asked, done = config.stages[place.stage].epochs, place.epoch - 1
    if place.stage not in config.used_stages or asked < done:
        raise UsageError(
            f"Stage {place.stage} has {done} epochs already and cannot be one of {asked}. Give --epochs {max(done, 1)} or more."
        )


def _refuse_nothing_left(run: RunDirectory, place: Place, config: RunConfig) -> None:
    """Refuse to go on with a run that is finished, also under the settings of now."""
    patience, later = config.optim.patience, config.used_stages[config.used_stages.index(place.stage) + 1 :]
    if later:
        return
    if place.gave_up(patience):
        raise UsageError(
            f"{run.path} ended early: no better mAP since epoch {place.best_epoch} of stage {place.stage}. To go on all the "
            f"same: --resume {run.path} --set optim.patience={2 * patience}."
        )
    if place.epoch > config.stages[place.stage].epochs:
        counts = [2 * stage.epochs if name == place.stage else stage.epochs for name, stage in config.stages.items()]
        raise UsageError(
            f"{run.path} has come to its end. To train longer, give more epochs: --resume {run.path} "
            f"--epochs {','.join(map(str, counts))}."
        )


def refuse_other_data(card: StateCard, manifest: Manifest) -> None:
    """Raise a DataError when the data are not those that the run was started with."""
    if manifest.fingerprint() != card.data_fingerprint:
        raise DataError(
            f"The data in {manifest.folder} have other images, splits or labels than those the run was started with, so it "
            "cannot go on as it was. Give the data of then with --data, or start another run with --init-from."
        )
