"""The folder of a training run: its files, how they are written, and how runs are found again.

config.yaml      every value of the configuration and where it came from
run.json         status, versions, data, best metric, why it ended
results.csv      a row an epoch
metrics.jsonl    a line every few steps
prototypes.json  how the prototype of each class was made
weights/         best.safetensors, last.safetensors: all that prediction needs
state/           last.safetensors and the best weights of the stage: all that resuming needs
eval/ plots/     what sadcl eval and sadcl visualize write
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from sadcl_core.config.yaml import format_yaml
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runs.hub import fetch_model, repository_of
from sadcl_core.runs.lock import LOCK, lock_folder, this_process
from sadcl_core.runtime.files import explained, regular, remove_left, safe_name, write_json, write_text
from sadcl_core.runtime.launcher import is_main_process

RUNS = Path("runs")
SCHEMA_VERSION = 1
FINISHED, RUNNING, DIVERGED = "finished", "running", "diverged"
OWN_FILES = ("config.yaml", "run.json", "results.csv", "metrics.jsonl", "prototypes.json")
OWN_FOLDERS = ("weights", "state", "eval", "plots", "embeddings", "export", "tensorboard", "wandb")
GROWING = ("results.csv", "metrics.jsonl")
MAX_BYTES = 1 << 28  # of run.json or results.csv
MAX_LINE = 1 << 16  # characters of a line of metrics.jsonl
STATUS: dict[str, Any] = {  # kinds of the values in run.json
    **dict.fromkeys(("status", "updated", "ended", "eval_split", "manifest", "data_fingerprint"), str),
    **dict.fromkeys(("process", "versions", "weights_fingerprints", "tracked"), dict | None),
    **{"best": dict | None, "resumed": list, "order": int},
}


class RunDirectory:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        """Make or read nothing yet. Of several processes that train together the first `writes`; the others change no files."""
        self.path = path
        self.writes = is_main_process()

    @property
    def best(self) -> Path:
        """Model file with the best mAP."""
        return self.path / "weights" / "best.safetensors"

    @property
    def last(self) -> Path:
        """Model file of the end of training."""
        return self.path / "weights" / "last.safetensors"

    @property
    def state(self) -> Path:
        """All that training needs to go on."""
        return self.path / "state" / "last.safetensors"

    @property
    def results(self) -> Path:
        """A row an epoch."""
        return self.path / "results.csv"

    def refuse_existing(self, *, exist_ok: bool) -> None:
        """Raise a UsageError if the folder is there and must not be replaced; one that holds a lock alone is not a run."""
        inside = {path.name for path in self.path.iterdir()} if self.path.is_dir() else None
        if inside == {LOCK}:
            return
        if exist_ok and inside is not None:
            if inside and "run.json" not in inside:
                raise UsageError(f"{self.path} holds other files and no run, so it is not replaced. Choose another with -o.")
            return
        if self.path.exists():
            raise UsageError(f"The run directory {self.path} exists. Choose another with -o, or replace it with --exist-ok.")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other training out of the folder, which is made if need be; the lock of a process that dies is free.

        Raises:
            UsageError: another process trains in it, or it cannot be made.
        """
        if not self.writes:
            yield
            return
        process: Any = None
        with suppress(DataError):
            process = read_status(self.path).get("process")
        self._make()
        with lock_folder(self.path, process):
            if (self.path / "run.json").is_file():
                self.write_status(process=this_process())
            yield

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The run directory {self.path} cannot be made ({error.strerror}). Choose another with -o."
            ) from None

    def create(self, *, exist_ok: bool) -> None:
        """Begin a run in the folder, which should be `held`; with `exist_ok` replace an earlier run in it.

        Raises:
            UsageError: something is there and `exist_ok` is not set, or it cannot be written to.
        """
        if not self.writes:
            return
        self.refuse_existing(exist_ok=exist_ok)  # again: another run may have been quicker
        self._make()
        for name in OWN_FILES:
            (self.path / name).unlink(missing_ok=True)
        for name in OWN_FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        self.write_status(status="starting")  # from here on it is known as a run, whatever happens

    def go_back(self, sizes: Mapping[str, int]) -> None:
        """Cut the files that grow to the sizes of a state, and remove files that a killed process left half-written."""
        if not self.writes:
            return
        for name in GROWING:
            path, size = self.path / name, sizes.get(name, 0)
            if (path.stat().st_size if path.is_file() else 0) > size:
                with explained(path), path.open("rb+") as file:
                    file.truncate(size)
        for folder in (self.path, self.best.parent, self.state.parent):
            if folder.is_dir():
                remove_left(folder)
            for left in (*folder.glob(".*.tmp"), *folder.glob(".tmp??????")):  # of earlier versions, and of safetensors in them
                if left.is_file():
                    left.unlink(missing_ok=True)

    def sizes(self) -> dict[str, int]:
        """Return the sizes of the files that grow, in bytes."""
        return {name: (self.path / name).stat().st_size for name in GROWING if (self.path / name).is_file()}

    def write_config(self, values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        """Write config.yaml, each value with its source as a comment; the file is accepted by --config."""
        if self.writes:
            write_text(self.path / "config.yaml", format_yaml(values, sources))

    def write_status(self, **values: Any) -> None:
        """Add values to run.json."""
        if not self.writes:
            return
        path = self.path / "run.json"
        stored = read_status(self.path) if path.is_file() else {"schema_version": SCHEMA_VERSION}
        if "status" in values:  # the clock may have been set back meanwhile
            values["order"] = 1 + max((order for _, (order, _), _ in _runs(self.path.absolute().parent)), default=0)
        write_json(path, {**stored, **values, "updated": datetime.now(UTC).isoformat(timespec="seconds")})

    def append_result(self, row: Mapping[str, Any]) -> None:
        """Add a row to results.csv; the first row decides the columns."""
        if not self.writes:
            return
        new = not self.results.exists() or not self.results.stat().st_size
        with explained(self.results), self.results.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        if not self.writes:
            return
        path = self.path / "metrics.jsonl"
        with explained(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl that can be read; an empty list without the file."""
        path, lines = self.path / "metrics.jsonl", []
        with suppress(OSError), regular(path, most=4 * MAX_BYTES).open(encoding="utf-8", errors="replace") as file:
            for line in iter(partial(file.readline, MAX_LINE), ""):
                with suppress(ValueError, RecursionError):
                    lines.append(json.loads(line, parse_int=float))  # an integer may be longer than any number
        return [line for line in lines if isinstance(line, dict)]

    def write_coverage(self, classes: list[dict[str, Any]]) -> None:
        """Write prototypes.json."""
        if self.writes:
            write_json(self.path / "prototypes.json", {"schema_version": SCHEMA_VERSION, "classes": classes})

    def read_results(self) -> list[dict[str, str]]:
        """Read the rows of results.csv.

        Raises:
            DataError: there is none, or it is damaged.
        """
        try:
            with regular(self.results, most=MAX_BYTES).open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except (FileNotFoundError, NotADirectoryError):
            if not self.path.is_dir():
                raise DataError(f"{self.path} is not a run. Give a run of sadcl train.") from None
            raise DataError(f"{self.path} has no results.csv: no epoch was finished in it.") from None
        except (OSError, ValueError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.results} cannot be read ({reason}). Train again, or restore the file.") from None
        if not rows:
            raise DataError(f"{self.results} has no row: no epoch was finished.")
        for number, row in enumerate(rows, start=2):
            _check_result(row, f"{self.results}, row {number}")
        return rows


def _check_result(row: Mapping[Any, Any], where: str) -> None:
    """Raise a DataError unless a row of results.csv names its stage and epoch, and holds numbers otherwise."""
    epoch = row.get("epoch")
    wrong = next((name for name, cell in row.items() if name not in ("stage", "epoch") and not _is_number_or_blank(cell)), "")
    if None in row or not row.get("stage") or not isinstance(epoch, str) or not re.fullmatch(r"\d{1,9}", epoch) or wrong:
        what = f"{row[wrong]!r}"[:60] if wrong and None not in row else "not one cell of each column, stage and epoch among them"
        raise DataError(f"{where} is damaged: {what}. Restore the file, or train again.")


def _is_number_or_blank(cell: Any) -> bool:
    try:
        return cell in (None, "") or isinstance(float(cell), float)
    except (ValueError, TypeError):
        return False


def read_status(path: Path) -> dict[str, Any]:
    """Read run.json of a run.

    Raises:
        DataError: it is missing or damaged.
    """
    file = path / "run.json"
    try:
        stored = json.loads(regular(file, most=MAX_BYTES).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        wrong = [key for key, kind in STATUS.items() if key in stored and not isinstance(stored[key], kind)]
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} is not a run (no run.json). Give a run of sadcl train.") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"{file} cannot be read ({reason}). Restore it, or give another run.") from None
    if not isinstance(stored, dict) or wrong:
        reason = f"{wrong[0]} is {stored[wrong[0]]!r}"[:80] if isinstance(stored, dict) else "not a table"
        raise DataError(f"{file} is damaged ({reason}). Restore it, or give another run.")
    return stored


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def new_run_path(name: str) -> Path:
    """Return the path of a new run: `runs/NAME`, or `runs/NAME-2` and so on if that exists; NAME is a safe one.

    Example:
        >>> new_run_path("a-name-that-is-new")
        PosixPath('runs/a-name-that-is-new')
    """
    name = safe_name(name)
    paths = (RUNS / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(path for path in paths if not path.exists())


def last_finished_run() -> RunDirectory:
    """Return the run under runs/ that finished last.

    Raises:
        DataError: there is none.
    """
    finished = [(updated, path) for status, updated, path in _runs() if status == FINISHED]
    if not finished:
        raise DataError(
            f"There is no finished run under {RUNS}/. Train first: sadcl train digits. Or name a run or model file with -w."
        )
    return RunDirectory(max(finished)[1])


def last_unfinished_run() -> RunDirectory:
    """Return the run with a state under runs/ that was updated last, of those that are not finished if there are any.

    Raises:
        DataError: there is none.
    """
    resumable = [(status != FINISHED, updated, path) for status, updated, path in _runs() if RunDirectory(path).state.is_file()]
    if not resumable:
        raise DataError(f"There is no run under {RUNS}/ with a state to go on from. Name one: --resume RUN.")
    return RunDirectory(max(resumable)[2])


def _runs(folder: Path = RUNS) -> Iterator[tuple[str, tuple[int, str], Path]]:
    """Yield status, order of its last change and path of every run whose run.json can be read.

    The order is a number that grows with each change in the folder; where earlier versions wrote none, the time decides.
    """
    for path in sorted(folder.glob("*/run.json")):
        with suppress(DataError):
            status = read_status(path.parent)
            yield status.get("status", ""), (status.get("order", 0), status.get("updated", "")), path.parent


def find_model(weights: Path | None) -> tuple[Path, RunDirectory | None]:
    """Return the model file that a command should use, and the run it belongs to, if any.

    It is a run, a model file, hf://user/name, or None for the run that finished last.

    Raises:
        DataError: there is no such model.
        MachineError: it is on the hub, which cannot be reached.
    """
    if weights is not None and (repository := repository_of(weights)):
        return fetch_model(repository), None
    run = last_finished_run() if weights is None else RunDirectory(weights)
    if weights is not None and not os.path.isdir(weights):  # noqa: PTH112 (raises for no name)
        parent = weights.parent.parent
        return weights, RunDirectory(parent) if (parent / "run.json").is_file() else None
    model = run.best if run.best.is_file() else run.last
    if not model.is_file():
        raise DataError(
            f"{run.path} has no weights/best.safetensors. Give a run that finished at least one epoch, or a model file."
        )
    return model, run
