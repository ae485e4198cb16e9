"""The losses and metrics of a run where people follow theirs: TensorBoard, MLflow, Weights & Biases, Trackio."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

from sadcl_core.config.layers import flatten
from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import MachineError, SadclError
from sadcl_core.runs.run_directory import RunDirectory, read_status
from sadcl_core.runtime.files import safe_name
from sadcl_core.runtime.packages import is_installed
from sadcl_core.training.listeners.events import EpochDone, Event, RunStarted, StageStarted, StepDone

EVERY = 10  # steps between two points
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}  # of a server that does not answer


def tracker_names(track: str) -> list[str]:
    """Return the trackers that a setting names.

    Example:
        >>> tracker_names("tensorboard,mlflow"), tracker_names("none")
        (['tensorboard', 'mlflow'], [])
    """
    return [] if track == "none" else list(dict.fromkeys(track.split(",")))


def refuse_missing_trackers(track: str) -> None:
    """Raise a MachineError if the package of a tracker is not installed.

    Example:
        >>> refuse_missing_trackers("none")
    """
    for name in tracker_names(track):
        if not is_installed(name):
            raise MachineError(f"--track {name} needs a package that is not installed: pip install 'sadcl[{name}]'.")


class Tracker:
    """Tell one tracker, as accelerate has it, by the number of the step in the run; a resumed run is the same one there.

    Points of a later stage are behind those of the earlier.
    """

    def __init__(self, name: str, config: RunConfig, run: RunDirectory) -> None:
        """Start nothing before the first stage starts."""
        self.name, self.config, self.run = name, config, run
        self.stage: StageStarted | None = None
        self.tracker: Any = None  # None before the first stage

    def __call__(self, event: Event) -> None:
        """Pass the numbers of an event on.

        Raises:
            SadclError, OSError: the tracker fails.
        """
        if isinstance(event, RunStarted):
            self.config = event.config  # complete
        elif isinstance(event, StageStarted):
            self.stage = event
            if self.tracker is None:
                with explained_failure():
                    self.tracker = self.start(event)
        elif self.stage is None:
            return
        elif isinstance(event, StepDone) and (event.step % EVERY == 0 or event.step == self.stage.steps):
            self.log("train", {**event.terms, "lr": event.lr}, (event.epoch - 1) * self.stage.steps + event.step)
        elif isinstance(event, EpochDone):
            maps = {name: value for name, value in event.row.items() if name.startswith("mAP")}
            self.log("held-out", maps, int(event.row["epoch"]) * self.stage.steps)

    def start(self, stage: StageStarted) -> Any:
        """Return the started tracker; the run's name there is kept in run.json, so that it can go on."""
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        stored = (read_status(self.run.path).get("tracked") or {}) if (self.run.path / "run.json").is_file() else {}
        identity = stored.get(self.name)
        new = identity is None
        project, title = safe_name(f"sadcl-{self.config.data.dataset or 'run'}"), self.run.path.absolute().name
        options: dict[str, Any] = {}
        if self.name == "tensorboard":  # points beyond the step that a run goes on from are removed
            project, identity = "tensorboard", self.name
            options = {"logging_dir": str(self.run.path), "purge_step": self.steps_before(stage) + stage.done + 1}
        elif self.name == "mlflow":
            for variable, value in PATIENCE.items():
                os.environ.setdefault(variable, value)
            options = {"run_id": identity, "run_name": title}
        elif self.name == "wandb":
            require_wandb_key()
            project, identity = os.environ.get("WANDB_PROJECT", project), identity or uuid.uuid4().hex[:8]
            options = {"id": identity, "name": title, "resume": "allow", "dir": str(self.run.path)}
        else:
            identity = identity or f"{title}-{uuid.uuid4().hex[:8]}"
            options = {"name": identity, "resume": "allow"}
        tracker = LOGGER_TYPE_TO_CLASS[self.name](project, **options)
        tracker.start()
        if new and self.name != "tensorboard":
            tracker.store_init_configuration(flatten(self.config.model_dump(mode="json")))
            identity = tracker.tracker.info.run_id if self.name == "mlflow" else identity
            self.run.write_status(tracked={**stored, self.name: identity})
        return tracker

    def log(self, group: str, values: Mapping[str, float | int | str], step: int) -> None:
        """Add a point of each value at a step of the stage."""
        assert self.stage is not None, "a stage has started"
        with explained_failure():
            points = {f"{group}/{name}": float(value) for name, value in values.items()}
            self.tracker.log(points, step=self.steps_before(self.stage) + step)

    def steps_before(self, stage: StageStarted) -> int:
        """Return the steps of the earlier stages, had none of them stopped early."""
        names = self.config.used_stages
        return sum(self.config.stages[name].epochs for name in names[: names.index(stage.stage)]) * stage.steps

    def close(self) -> None:
        """Write the events that are left."""
        if self.tracker is not None:
            with explained_failure():
                self.tracker.finish()


@contextmanager
def explained_failure() -> Iterator[None]:
    """Turn the errors of a tracker into a MachineError, and the text that it prints into messages."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (OSError, SadclError):
        raise
    except Exception as error:  # each has errors of its own
        reason = next(iter(str(error).splitlines()), "")
        raise MachineError(f"{type(error).__name__}: {reason[:200]}".rstrip(": ")) from error


def require_wandb_key() -> None:
    """Raise a MachineError without the key of Weights & Biases, which would ask for it in the middle of a training."""
    import wandb

    if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False, verify=False):
        raise MachineError("no key of Weights & Biases: `wandb login` keeps one, WANDB_MODE=offline needs none")
