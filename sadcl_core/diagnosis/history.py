"""The files of a run, as far as they can be read: it may have been killed at any moment, half-way through a line."""

from __future__ import annotations

import csv
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from sadcl_core.config.layers import load_config_file
from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import DataError
from sadcl_core.runs.card import LINEAR
from sadcl_core.runs.lock import runs_elsewhere
from sadcl_core.runs.run_directory import FINISHED, MAX_BYTES, RunDirectory, read_status
from sadcl_core.runtime.files import regular

T = TypeVar("T")
CLASSIFICATION = "asymmetric"  # the term that all methods share
LAST = 3  # rows whose mean is the loss at the end of training


@dataclass(frozen=True)
class Record:
    """One epoch, or one step of it; a value that is missing or damaged is NaN.

    Attributes:
        epoch: from 1.
        step: of the epoch, from 1; 0 for a whole epoch.
        loss: mean over the epoch, or of the step.
        classification: the classification term of it.
        held_out_map: interpolated, in percent; NaN for a step.
    """

    stage: str
    epoch: int
    step: int
    lr: float
    loss: float
    classification: float
    held_out_map: float

    @property
    def comparable(self) -> float:
        """The classification term, which all stages share; the whole loss without one."""
        return self.loss if math.isnan(self.classification) else self.classification


@dataclass(frozen=True)
class History:
    """All epochs and the steps that were written down, in order."""

    epochs: tuple[Record, ...]
    steps: tuple[Record, ...]

    @property
    def stages(self) -> dict[str, tuple[Record, ...]]:
        """The epochs of each stage."""
        names = dict.fromkeys(record.stage for record in self.epochs)
        return {name: tuple(record for record in self.epochs if record.stage == name) for name in names}

    def steps_of(self, stage: str) -> tuple[Record, ...]:
        """Return the steps of a stage that were written down."""
        return tuple(record for record in self.steps if record.stage == stage)

    @property
    def losses(self) -> list[float]:
        """The classification loss of each epoch that has one."""
        return [row.classification for row in self.epochs if math.isfinite(row.classification)]

    @property
    def last_loss(self) -> float | None:
        """The classification loss at the end: the mean of the last rows, fewer in a short run."""
        return float(np.mean(self.losses[-min(LAST, 1 + len(self.losses) // 4) :])) if self.losses else None

    @property
    def rise(self) -> float:
        """The highest classification loss of an epoch as a multiple of the first epoch's; 1 without any."""
        return max(self.losses) / self.losses[0] if self.losses and self.losses[0] > 0 else 1.0

    @property
    def peak_rate(self) -> float:
        """The highest learning rate that was written down, NaN without any."""
        return max((row.lr for row in (*self.epochs, *self.steps) if math.isfinite(row.lr)), default=math.nan)


@dataclass(frozen=True)
class RunState:
    """The contents of run.json; missing entries are empty.

    Attributes:
        status: finished, running, failed and so on.
        ended: why it ended, in words.
        alive: its process works on this machine now.
        host: where it worked; empty where that is this machine or unknown.
        manifest: folder of its prepared data.
        fingerprint: of its data, then.
        best: highest mAP in percent, NaN where there is none.
        best_at: the stage and epoch of that.
        best_weights: whose it is: `EMA` or `network`.
        files: hash of each file that weights were taken from, by setting.
        resumable: there is a state to go on from.
    """

    status: str
    ended: str
    alive: bool
    host: str
    manifest: str
    fingerprint: str
    eval_split: str
    best: float
    best_at: tuple[str, int]
    best_weights: str
    files: dict[str, str]
    resumable: bool

    @property
    def finished(self) -> bool:
        """All stages were trained."""
        return self.status == FINISHED


def read_state(run: RunDirectory) -> RunState:
    """Read run.json.

    Raises:
        DataError: it is missing or damaged.
    """
    values = read_status(run.path)
    nothing: dict[str, Any] = {}
    process, best = _entry(values, "process", nothing), _entry(values, "best", nothing)
    host = _entry(process, "host", "")
    return RunState(
        status=_entry(values, "status", ""),
        ended=_entry(values, "ended", ""),
        alive=runs_elsewhere(process),
        host=host if host != platform.node() else "",
        manifest=_entry(values, "manifest", ""),
        fingerprint=_entry(values, "data_fingerprint", ""),
        eval_split=_entry(values, "eval_split", ""),
        best=_number(best.get("mAP_interpolated")),
        best_at=(_entry(best, "stage", ""), _whole(best.get("epoch"))),
        best_weights=_entry(best, "weights", "EMA"),
        files={str(name): str(value) for name, value in _entry(values, "weights_fingerprints", nothing).items()},
        resumable=run.state.is_file(),
    )


def read_config(run: RunDirectory) -> RunConfig:
    """Read config.yaml; settings that this version does not know are left out, missing ones are the defaults.

    Raises:
        SadclError: it is missing or damaged, or holds a value that this version does not accept.
    """
    path = run.path / "config.yaml"
    if not path.is_file():
        raise DataError(f"there is no {path}")
    try:
        return RunConfig.model_validate(load_config_file(path), extra="ignore")
    except ValidationError as error:
        entry = error.errors()[0]
        reason = f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}"
    except RecursionError:
        reason = "nested too deeply"
    raise DataError(f"{path} holds values that this version does not accept ({reason})")


def read_history(run: RunDirectory) -> History:
    """Read results.csv and metrics.jsonl; an epoch that was trained twice, after an interruption, counts as it was last.

    Raises:
        DataError: results.csv is missing or has no whole row.
    """
    try:
        with regular(run.results, most=MAX_BYTES).open(newline="", encoding="utf-8", errors="replace") as file:
            rows = [_record(row) for row in csv.DictReader(line.replace("\0", "") for line in file)]
    except FileNotFoundError:
        raise DataError(f"no epoch was finished (there is no {run.results})") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{run.results} cannot be read ({error})") from None
    epochs = {(row.stage, row.epoch): row for row in rows if row is not None and math.isfinite(row.held_out_map)}
    if not epochs:
        raise DataError(f"{run.results} has no whole row of a trained epoch")
    steps = (_record(line) for line in run.read_metrics())
    return History(tuple(epochs.values()), tuple(record for record in steps if record is not None and record.step > 0))


def _record(values: Mapping[str, Any]) -> Record | None:
    """Return None for a row without its stage or epoch, or one that breaks off."""
    stage, epoch = values.get("stage"), _whole(values.get("epoch"))
    if not isinstance(stage, str) or stage in ("", LINEAR) or epoch < 1 or "loss" not in values or None in values.values():
        return None
    return Record(
        stage=stage,
        epoch=epoch,
        step=_whole(values.get("step")),
        lr=_number(values.get("lr")),
        loss=_number(values.get("loss")),
        classification=_number(values.get(CLASSIFICATION)),
        held_out_map=_number(values.get("mAP_interpolated")),
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _whole(value: Any) -> int:
    number = _number(value)
    return int(number) if math.isfinite(number) else 0


def _entry(values: Mapping[str, Any], name: str, default: T) -> T:
    """Return an entry of the type of the default, which stands for any other."""
    value = values.get(name)
    return value if isinstance(value, type(default)) else default
