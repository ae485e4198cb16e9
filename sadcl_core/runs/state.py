"""The state of a run: one file with all that training needs to go on as if it had never stopped.

`state/last.safetensors` holds tensors (network, EMA, optimiser, memory bank) and in its header a card in JSON: the
configuration, the place in the run, what was reached so far. It holds no code, so a file from a stranger can be opened. It
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
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import DataError
from sadcl_core.runs.checkpoint import write_tensors
from sadcl_core.runs.run_directory import RunDirectory

SCHEMA_VERSION = 1
CARD = "sadcl-state"  # key of the card in the header
AGAIN = "Start another run, from its weights with --init-from RUN, or anew."


class Place(BaseModel):
    """How far a run is.

    Attributes:
        stage: its name.
        epoch: that is being trained, from 1.
        step: steps of it that are done.
        sums: of each loss over these steps.
        seconds: spent on them.
        best_map: highest EMA mAP (interpolated, percent) of this stage, None before its first epoch is done.
        best_epoch: in which it was reached.
    """

    model_config = ConfigDict(extra="forbid")
    stage: str
    epoch: int = Field(ge=1)
    step: int = Field(0, ge=0)
    sums: dict[str, float] = Field(default_factory=dict)
    seconds: float = 0.0
    best_map: float | None = None
    best_epoch: int = Field(0, ge=0)

    def gave_up(self, patience: int) -> bool:
        """Whether so many epochs have brought nothing better that the stage ends early."""
        return self.best_epoch > 0 and self.epoch - 1 - self.best_epoch >= patience


class StateCard(BaseModel):
    """What a state says beside its tensors.

    Attributes:
        config: of the run, complete.
        sources: where each value of it came from.
        data_fingerprint: of the manifest.
        steps: of an epoch.
        best: highest EMA mAP of the run so far, with its stage, epoch and metrics; empty before the first.
        holds: stage and epoch whose EMA weights the network had when the stage began.
        scaler: of the gradients in fp16.
        accumulate: parts that a batch is cut into.
        processes: that trained together.
        workers: processes that read images, of each of those.
        sizes: of the files that grow, in bytes, when this was written.
        checksums: of each tensor.
    """

    model_config = ConfigDict(extra="forbid")
    schema_version: int = SCHEMA_VERSION
    config: RunConfig
    sources: dict[str, str]
    data_fingerprint: str
    steps: int = Field(ge=1)
    place: Place
    best: dict[str, Any] = Field(default_factory=dict)
    holds: tuple[str, int] = ("", 0)
    scaler: dict[str, int | float] = Field(default_factory=dict)
    accumulate: int = Field(1, ge=1)
    processes: int = Field(1, ge=1)
    workers: int | None = None
    sizes: dict[str, int] = Field(default_factory=dict)
    checksums: dict[str, int] = Field(default_factory=dict)


def save_state(path: Path, card: StateCard, tensors: Mapping[str, Tensor]) -> None:
    """Write a state in one piece.

    Raises:
        SadclError: the disk is full, or cannot be written to.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    card = card.model_copy(update={"checksums": {name: checksum(tensor) for name, tensor in stored.items()}})
    write_tensors(path, stored, {CARD: card.model_dump_json()})


def checksum(tensor: Tensor) -> int:
    """CRC-32 of a tensor's bytes."""
    content: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return zlib.crc32(content)


def read_state(run: RunDirectory) -> tuple[StateCard, dict[str, Tensor]]:
    """The state of a run: its card and its tensors.

    Raises:
        DataError: there is none, or it is damaged, of another program or version.
    """
    card = read_state_card(run)
    with safe_open(run.state, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    broken = [
        name for name in {*tensors, *card.checksums} if name not in tensors or checksum(tensors[name]) != card.checksums.get(name)
    ]
    if broken:
        raise DataError(f"{run.state} is damaged: {sorted(broken)[0]} is not what was written. {AGAIN}")
    return card, tensors


def read_state_card(run: RunDirectory) -> StateCard:
    """The card alone; see `read_state`."""
    if not run.state.is_file():
        raise DataError(f"{run.path} has no state to go on from ({run.state.relative_to(run.path)} is not there). {AGAIN}")
    try:
        with safe_open(run.state, framework="pt") as stored:
            header = stored.metadata() or {}
        values = json.loads(header[CARD])
        version = values.get("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(f"{run.state} has schema version {version}, this program reads {SCHEMA_VERSION}. {AGAIN}")
        return StateCard.model_validate(values)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, ValidationError) as error:
        raise DataError(f"{run.state} is damaged, or no state of a run ({type(error).__name__}). {AGAIN}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path}, which the run needs to go on, is missing or damaged ({type(error).__name__}). {AGAIN}"
        ) from None


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under a prefix."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `named` put under a prefix."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
