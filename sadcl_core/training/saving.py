"""The state of a stage, and how it becomes a file and is taken from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from sadcl_core.errors import DataError, DivergedError
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.memory_bank import MemoryBank
from sadcl_core.runs.checkpoint import write_tensors
from sadcl_core.runs.state import Place, StateCard, named, read_tensors, save_state, under
from sadcl_core.runtime.distributed import average_buffers, barrier, get_world_size
from sadcl_core.training.context import Training
from sadcl_core.training.parallel import full_state_dict, full_tensor, load_full_state_dict, shard_like


@dataclass
class StageState:
    """What changes with every step of a stage.

    Attributes:
        seed: of everything random in it.
        steps: of an epoch.
        workers: processes that read images.
        place: how far it is.
        model: computes the losses; wrapped for several processes.
        classifier: the network in it.
        optimizer: wrapped.
        ema: of the network.
        bank: where the stage has one.
        schedule: of the learning rate.
        whole: false while weights, optimiser and EMA are between two steps.
    """

    seed: int
    steps: int
    workers: int
    place: Place
    model: nn.Module
    classifier: Classifier
    optimizer: Any
    ema: ModelEmaV3
    bank: MemoryBank | None
    schedule: OneCycleLR = field(init=False)
    whole: bool = True

    @property
    def steps_done(self) -> int:
        """Steps of the stage that were taken."""
        return (self.place.epoch - 1) * self.steps + self.place.step


def save_stage(training: Training, state: StageState) -> None:
    """Write the state of the run as it is between two steps.

    Raises:
        DivergedError: weights are no longer finite numbers; what was saved before stays.
        SadclError: it cannot be written; what was saved before stays.
    """
    share_statistics(training, state)
    tensors = {
        **named("model", full_state_dict(state.classifier)),
        **named("ema", full_state_dict(state.ema.module)),
        **named("optimizer", _optimizer_tensors(state)),
        **(named("bank", state.bank.state_dict()) if state.bank is not None else {}),
    }
    _refuse_broken(tensors, state.place)
    if training.run.writes:
        save_state(training.run.state, _card(training, state), tensors)
        _remove_other_bests(training, state)


def share_statistics(training: Training, state: StageState) -> None:
    """Let all processes hold the same BatchNorm statistics; where they are frozen, they do."""
    if not training.config.model.freeze_batchnorm:
        average_buffers(state.classifier)
        average_buffers(state.ema.module)


def refuse_broken_weights(state: StageState) -> None:
    """Raise a DivergedError when weights are no longer finite numbers, in all processes, which hold the same."""
    _refuse_broken(full_state_dict(state.ema.module), state.place)


def _refuse_broken(tensors: Mapping[str, Tensor], place: Place) -> None:
    broken = next((name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()), "")
    if broken:
        raise DivergedError(
            f"{broken} holds numbers that are not finite after step {place.step} of epoch {place.epoch} in stage {place.stage}. "
            "The state saved before is kept. Lower the learning rate with --lr, or clip gradients with --clip-grad 1."
        )


def _card(training: Training, state: StageState) -> StateCard:
    stage, epoch = training.best_epoch
    best = {"mAP_interpolated": training.best_map, "stage": stage, "epoch": epoch, "metrics": training.best_metrics}
    scaler = training.accelerator.scaler
    return StateCard(
        config=training.config,
        sources=training.sources,
        data_fingerprint=training.fingerprint,
        steps=state.steps,
        place=state.place,
        best=best if epoch else {},
        holds=training.holds,
        scaler={} if scaler is None else scaler.state_dict(),
        accumulate=training.accumulate,
        processes=get_world_size(),
        workers=state.workers,
        sizes=training.run.sizes(),
    )


def restore(training: Training, state: StageState, card: StateCard, tensors: Mapping[str, Tensor]) -> None:
    """Take network, EMA, optimiser and bank from a state, and what the stages share from its card.

    Raises:
        DataError: the tensors are not those of this run.
    """
    try:
        load_full_state_dict(state.classifier, under("model", tensors))
        load_full_state_dict(state.ema.module, under("ema", tensors))
        if state.bank is not None:
            state.bank.load_state_dict(under("bank", tensors))
        _load_optimizer(state, under("optimizer", tensors))
    except (RuntimeError, KeyError, ValueError) as error:
        raise DataError(f"{training.run.state} does not fit the run it is of: {str(error).splitlines()[0]}") from None
    if card.scaler and training.accelerator.scaler is not None:
        training.accelerator.scaler.load_state_dict(card.scaler)
    if state.place.best_epoch:
        read_tensors(_best_path(training, state.place.stage, state.place.best_epoch))  # now, and not when the stage is over
    training.holds = card.holds
    if card.best:
        training.best_map = float(card.best["mAP_interpolated"])
        training.best_epoch = (str(card.best["stage"]), int(card.best["epoch"]))
        training.best_metrics = dict(card.best["metrics"])


def _names(state: StageState) -> list[str]:
    """Of the parameters of the optimiser, as it numbers them."""
    names = {id(parameter): name for name, parameter in state.classifier.named_parameters()}
    return [names[id(parameter)] for group in _plain(state).param_groups for parameter in group["params"]]


def _plain(state: StageState) -> Optimizer:
    optimizer: Optimizer = getattr(state.optimizer, "optimizer", state.optimizer)
    return optimizer


def _optimizer_tensors(state: StageState) -> dict[str, Tensor]:
    """What the optimiser knows of each parameter: `weight.name/key`."""
    stored, names = _plain(state).state_dict()["state"], _names(state)
    return {
        f"{names[number]}/{key}": full_tensor(value)
        for number, values in stored.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


@torch.no_grad()
def _load_optimizer(state: StageState, tensors: Mapping[str, Tensor]) -> None:
    optimizer = _plain(state)
    parameters = dict(state.classifier.named_parameters())
    numbers = {name: number for number, name in enumerate(_names(state))}
    stored: dict[int, dict[str, Tensor]] = {}
    for label, tensor in tensors.items():
        name, _, key = label.rpartition("/")
        value = _as_laid_out(shard_like(tensor, parameters[name]), parameters[name]) if key != "step" else tensor
        stored.setdefault(numbers[name], {})[key] = value
    optimizer.load_state_dict({"state": stored, "param_groups": optimizer.state_dict()["param_groups"]})


def _as_laid_out(tensor: Tensor, parameter: Tensor) -> Tensor:
    """In the memory layout of its parameter, which the optimiser is fast in."""
    return tensor if isinstance(tensor, DTensor) else torch.empty_like(parameter).copy_(tensor)


def keep_best(training: Training, state: StageState) -> None:
    """Write the EMA weights of the epoch that was just the best of its stage."""
    weights = full_state_dict(state.ema.module)
    if training.run.writes:
        write_tensors(_best_path(training, state.place.stage, state.place.epoch), weights)


def best_of_stage(training: Training, state: StageState) -> dict[str, Tensor]:
    """The EMA weights of the best epoch of a stage that is over.

    Raises:
        DataError: their file is missing or damaged.
    """
    barrier()  # until the first process has written it
    return read_tensors(_best_path(training, state.place.stage, state.place.best_epoch))


def _best_path(training: Training, stage: str, epoch: int) -> Path:
    return training.run.state.with_name(f"best-{stage}-{epoch}.safetensors")


def _remove_other_bests(training: Training, state: StageState) -> None:
    kept = _best_path(training, state.place.stage, state.place.best_epoch)
    for path in training.run.state.parent.glob("best-*.safetensors"):
        if path != kept:
            path.unlink(missing_ok=True)
