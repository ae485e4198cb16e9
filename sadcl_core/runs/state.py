"""The state of a run: one file with all that training needs to go on as if it had never stopped.

`state/last.safetensors` holds tensors (network, EMA, optimiser, memory bank) and in its header a card in JSON: the
configuration, the progress of the run, the best result so far. It holds no code, so a file from a stranger can be opened. It
appears whole or not at all, and a checksum of every tensor tells a damaged file from a good one. The weights of the best
epoch of the stage, with which the next stage starts, stand beside it and are named after that epoch.

Random numbers need no state: see `sadcl_core.runtime.seeds`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import DataError
from sadcl_core.runs.card import LINEAR
from sadcl_core.runs.checkpoint import write_tensors
from sadcl_core.runs.run_directory import RunDirectory

SCHEMA_VERSION = 2
CARD = "sadcl-state"  # key of the card in the header
RESTART = "Start another run; --init-from RUN takes the weights of this one."


class RunProgress(BaseModel):
    """Progress of a run.

    Attributes:
        epoch: that is being trained, from 1.
        step: steps of it that are done.
        sums: of each loss over these steps.
        seconds: spent on them.
        best_map: highest mAP (interpolated, percent) of this stage, None before its first epoch is done.
        best_epoch: whose weights the stage keeps.
        highest_epoch: with the highest mAP; the stage keeps another where `optim.select` is `last`.
        drops: epochs after which the schedule `plateau` made the rate smaller.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    stage: str
    epoch: int = Field(1, ge=1)
    step: int = Field(0, ge=0)
    sums: dict[str, float] = Field(default_factory=dict)
    seconds: float = 0.0
    best_map: float | None = None
    best_epoch: int = Field(0, ge=0)
    highest_epoch: int = Field(0, ge=0)
    drops: tuple[int, ...] = ()

    def ran_out_of_patience(self, patience: int) -> bool:
        """Return True if the last `patience` epochs brought no better mAP, so that the stage ends early.

        Example:
            >>> RunProgress(stage="classification", epoch=6, best_epoch=3).ran_out_of_patience(2)
            True
        """
        return self.best_epoch > 0 and self.epoch - 1 - self.best_epoch >= patience


class BestEpoch(BaseModel):
    """The epoch with the highest mAP of a run so far, whose weights are best.safetensors.

    Attributes:
        epoch: from 1; 0 before the first is done.
        weights: `EMA`, or `network` where the network itself was the better, or has no EMA.
        metrics: mAP_interpolated and mAP_non_interpolated of it, percent.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    stage: str = ""
    epoch: int = Field(0, ge=0)
    weights: str = "EMA"
    metrics: dict[str, float] = Field(default_factory=dict)

    @property
    def map(self) -> float:
        """Interpolated mAP in percent; -inf before the first epoch."""
        return self.metrics.get("mAP_interpolated", float("-inf"))


class StateCard(BaseModel):
    """Description of a state beside its tensors.

    Attributes:
        config: of the run, complete.
        sources: where each value of it came from.
        data_fingerprint: of the manifest.
        steps: of an epoch.
        progress: how far the run is.
        best: best epoch of the run so far.
        holds: stage and epoch whose EMA weights the network had when the stage began.
        scaler: of the gradients in fp16.
        micro_batches: that a batch is computed in.
        workers: processes that read images, of each of those.
        sizes: of the files that grow, in bytes, when this was written.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    schema_version: int = SCHEMA_VERSION
    config: RunConfig
    sources: dict[str, str]
    data_fingerprint: str
    steps: int = Field(ge=1)
    progress: RunProgress
    best: BestEpoch = BestEpoch()
    holds: tuple[str, int] = ("", 0)
    scaler: dict[str, int | float] = Field(default_factory=dict)
    micro_batches: int = Field(1, ge=1, le=1 << 20)
    processes: int = Field(1, ge=1)
    workers: int | None = Field(None, ge=0, le=256)
    sizes: dict[str, NonNegativeInt] = Field(default_factory=dict)
    checksums: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _inside_the_run(self) -> StateCard:
        """Refuse a place that the run does not have."""
        stages = self.config.stages
        for name in {self.progress.stage, self.best.stage, self.holds[0]} - {""}:
            if name not in (*stages, LINEAR):
                raise ValueError(f"there is no stage {name!r}")
        progress = self.progress
        last = stages[progress.stage].epochs if progress.stage in stages else 0
        if progress.epoch > last + 1 or progress.step > self.steps or progress.best_epoch > progress.epoch:
            raise ValueError(f"epoch {progress.epoch}, step {progress.step} is beyond the run")
        return self


def save_state(path: Path, card: StateCard, tensors: Mapping[str, Tensor]) -> None:
    """Write a state in one piece.

    Raises:
        SadclError: the disk is full, or cannot be written to.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    card = card.model_copy(update={"checksums": {name: checksum(tensor) for name, tensor in stored.items()}})
    write_tensors(path, stored, {CARD: card.model_dump_json()})


def checksum(tensor: Tensor) -> int:
    """Return the CRC-32 of a tensor's bytes.

    Example:
        >>> checksum(torch.zeros(2))
        1696784233
    """
    content: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return zlib.crc32(content)


def read_state(run: RunDirectory) -> tuple[StateCard, dict[str, Tensor]]:
    """Read the state of a run: its card and its tensors.

    Raises:
        DataError: there is none, or it is damaged, of another program or version.
    """
    card = read_state_card(run)
    with safe_open(run.state, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    for name in sorted({*tensors, *card.checksums}):
        if name not in tensors or checksum(tensors[name]) != card.checksums.get(name):
            raise DataError(f"{run.state} is damaged: {name} is not what was written. {RESTART}")
        if tensors[name].is_floating_point() and not tensors[name].isfinite().all():
            raise DataError(f"{run.state} is damaged: {name} holds numbers that are not finite. {RESTART}")
    return card, tensors


def read_state_card(run: RunDirectory) -> StateCard:
    """Read the card alone; see `read_state`."""
    if not run.state.is_file():
        raise DataError(f"{run.path} has no state to go on from ({run.state.relative_to(run.path)} is not there). {RESTART}")
    try:
        with safe_open(run.state, framework="pt") as stored:
            header = stored.metadata() or {}
        values = json.loads(header[CARD])
        version = values.get("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(
                f"{run.state} was written by another version (schema version {version}, this program reads {SCHEMA_VERSION}). "
                f"{RESTART}"
            )
        return StateCard.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its place"
        raise DataError(f"{run.state} is damaged: {where}: {first['msg']}. {RESTART}") from None
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{run.state} is damaged, or no state of a run ({type(error).__name__}). {RESTART}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path}, which the run needs to go on, is missing or damaged ({type(error).__name__}). {RESTART}"
        ) from None


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under `prefix.name`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that `add_prefix` put under a prefix, under their own names."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
