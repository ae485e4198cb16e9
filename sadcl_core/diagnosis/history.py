"""The written record of a run, as far as it can be read: a run may have been killed at any moment, half-way through a line."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sadcl_core.config.layers import load_config_file
from sadcl_core.config.schema import RunConfig, StageSection
from sadcl_core.diagnosis.verdict import Absent
from sadcl_core.errors import DataError, SadclError
from sadcl_core.runs.lock import runs_elsewhere
from sadcl_core.runs.run_directory import FINISHED, RunDirectory, read_status

CLASSIFICATION = "asymmetric"  # the term that all methods share


@dataclass(frozen=True)
class Record:
    """One epoch, or one step of it; a value that is missing or damaged is NaN.

    Attributes:
        stage: its name.
        epoch: from 1.
        step: of the epoch, from 1; 0 for a whole epoch.
        lr: peak learning rate.
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
        """What stays the same number throughout training: the classification term, else the whole loss."""
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
        """The steps of a stage that were written down."""
        return tuple(record for record in self.steps if record.stage == stage)

    def steps_per_epoch(self, stage: str) -> int:
        """Steps of a whole epoch, of which the last one is always written down; 0 where that is not known."""
        return max((record.step for record in self.steps_of(stage)), default=0)


@dataclass(frozen=True)
class RunState:
    """What run.json says; what it does not say is empty.

    Attributes:
        status: finished, running, failed and so on.
        ended: why it ended, in words.
        alive: its process works on this machine now.
        host: where it worked; empty where that is this machine or not known.
        manifest: folder of its prepared data.
        fingerprint: of its data, then.
        eval_split: held-out split.
        best: highest EMA mAP in percent, NaN where there is none.
        best_at: the stage and epoch of that.
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
    files: dict[str, str]
    resumable: bool

    @property
    def whole(self) -> bool:
        """All stages were trained."""
        return self.status == FINISHED


def read_state(run: RunDirectory) -> RunState | Absent:
    """What run.json says."""
    try:
        values = read_status(run.path)
    except DataError as error:
        return Absent(str(error))
    process, best = _table(values, "process"), _table(values, "best")
    return RunState(
        status=_text(values, "status"),
        ended=_text(values, "ended"),
        alive=runs_elsewhere(process),
        host=_text(process, "host") if _text(process, "host") != platform.node() else "",
        manifest=_text(values, "manifest"),
        fingerprint=_text(values, "data_fingerprint"),
        eval_split=_text(values, "eval_split"),
        best=_number(best.get("mAP_interpolated")),
        best_at=(_text(best, "stage"), _whole(best.get("epoch"))),
        files={str(name): str(value) for name, value in _table(values, "weights_fingerprints").items()},
        resumable=run.state.is_file(),
    )


def read_config(run: RunDirectory) -> RunConfig | Absent:
    """The configuration; settings that this version does not know are left out, those it misses are the defaults."""
    path = run.path / "config.yaml"
    if not path.is_file():
        return Absent(f"there is no {path}")
    try:
        return _validated(dict(load_config_file(path)))
    except SadclError as error:
        return Absent(str(error))
    except (ValidationError, RecursionError) as error:
        return Absent(f"{path} holds values that this version does not accept ({_first(error)})")


def read_history(run: RunDirectory) -> History | Absent:
    """results.csv and metrics.jsonl; an epoch that was trained twice, after an interruption, counts as it was last."""
    try:
        with run.results.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = [_record(row) for row in csv.DictReader(line.replace("\0", "") for line in file)]
    except FileNotFoundError:
        return Absent(f"no epoch was finished (there is no {run.results})")
    except (OSError, csv.Error) as error:
        return Absent(f"{run.results} cannot be read ({error})")
    epochs = {(row.stage, row.epoch): row for row in rows if row is not None and math.isfinite(row.held_out_map)}
    if not epochs:
        return Absent(f"{run.results} has no row that can be read")
    return History(tuple(epochs.values()), read_steps(run))


def read_steps(run: RunDirectory) -> tuple[Record, ...]:
    """The lines of metrics.jsonl that can be read."""
    records = []
    try:
        with (run.path / "metrics.jsonl").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                records.append(_record(values) if isinstance(values, dict) else None)
    except OSError:
        return ()
    return tuple(record for record in records if record is not None and record.step > 0)


def used_stages(config: RunConfig) -> dict[str, StageSection]:
    """The stages that are trained: those with an epoch and a loss."""
    return {name: config.stages[name] for name in config.used_stages}


def _validated(values: dict[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        unknown = [entry["loc"] for entry in error.errors() if entry["type"] == "extra_forbidden"]
    for place in unknown:
        _remove(values, place)
    return RunConfig.model_validate(values)


def _remove(values: Any, place: Sequence[str | int]) -> None:
    *parents, last = place
    for parent in parents:
        values = values.get(parent) if isinstance(values, dict) else None
    if isinstance(values, dict):
        values.pop(last, None)


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    entry = error.errors()[0]
    return f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}"


def _record(values: Mapping[str, Any]) -> Record | None:
    """None where it does not say which stage and epoch it is of, or ends before its end."""
    stage, epoch = values.get("stage"), _whole(values.get("epoch"))
    if not isinstance(stage, str) or not stage or epoch < 1 or "loss" not in values or None in values.values():
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


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}
