"""What training tells whoever listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sadcl_core.training.prototypes import ClassCoverage
from sadcl_core.training.transfer import Transfer


@dataclass(frozen=True)
class StageStarted:
    """A stage begins: its name, its number of how many, its epochs and steps per epoch, and what its losses weigh.

    `done` are steps of it that were made before the run was resumed.
    """

    stage: str
    number: int
    stages: int
    epochs: int
    steps: int
    losses: dict[str, float]
    done: int = 0


@dataclass(frozen=True)
class StepDone:
    """A step was taken. `terms` are the unweighted losses of this step."""

    epoch: int
    step: int
    images: int
    terms: dict[str, float]
    lr: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch was evaluated. `row` is its line in results.csv, `best` whether its EMA mAP is the best of the stage."""

    row: dict[str, float | int | str]
    best: bool


@dataclass(frozen=True)
class Note:
    """A sentence for the person who watches; `warning` when it wants attention."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class PrototypesBuilt:
    """The prototypes were made; one entry per class."""

    coverage: tuple[ClassCoverage, ...]


@dataclass(frozen=True)
class Transferred:
    """Weights were taken over from another model."""

    transfer: Transfer


Event = StageStarted | StepDone | EpochDone | Note | PrototypesBuilt | Transferred
Listener = Callable[[Event], None]
