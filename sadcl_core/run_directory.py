"""The folder of a training run: what is in it, how it is written and how it is found again.

config.yaml      every value of the configuration and where it came from
run.json         status, versions, data, best metric, why it ended
results.csv      a row an epoch
metrics.jsonl    a line every few steps
prototypes.json  how the prototype of each class was made
weights/         best.safetensors, last.safetensors: all that prediction needs
eval/ plots/     what sadcl eval and sadcl visualize write
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from sadcl_core.errors import DataError, UsageError
from sadcl_core.files import write_json, write_text

RUNS = Path("runs")
SCHEMA_VERSION = 1
FINISHED, RUNNING, DIVERGED = "finished", "running", "diverged"
OWN_FILES = ("config.yaml", "run.json", "results.csv", "metrics.jsonl", "prototypes.json")
OWN_FOLDERS = ("weights", "eval", "plots", "embeddings")


class RunDirectory:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        """Nothing is made or read yet."""
        self.path = path

    @property
    def best(self) -> Path:
        """Model file with the best EMA mAP."""
        return self.path / "weights" / "best.safetensors"

    @property
    def last(self) -> Path:
        """Model file of the end of training."""
        return self.path / "weights" / "last.safetensors"

    @property
    def results(self) -> Path:
        """A row an epoch."""
        return self.path / "results.csv"

    def refuse_existing(self, *, exist_ok: bool) -> None:
        """Raise a UsageError when the folder is there and must not be replaced."""
        if exist_ok and self.path.is_dir():
            if any(self.path.iterdir()) and not (self.path / "run.json").is_file():
                raise UsageError(f"{self.path} holds other files and no run, so it is not replaced. Choose another with -o.")
            return
        if self.path.exists():
            raise UsageError(f"The run directory {self.path} exists. Choose another with -o, or replace it with --exist-ok.")

    def create(self, *, exist_ok: bool) -> None:
        """Make the folder; with `exist_ok` an earlier run in it is replaced.

        Raises:
            UsageError: the folder is there and `exist_ok` is not set, or it cannot be made.
        """
        self.refuse_existing(exist_ok=exist_ok)
        try:
            self.path.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:  # another run was quicker
            self.refuse_existing(exist_ok=False)
        except OSError as error:
            raise UsageError(
                f"The run directory {self.path} cannot be made ({error.strerror}). Choose another with -o."
            ) from None
        for name in OWN_FILES:
            (self.path / name).unlink(missing_ok=True)
        for name in OWN_FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        self.write_status(status="starting")  # from here on it is known as a run, whatever happens

    def write_config(self, values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        """Write config.yaml, each value with its source as a comment; the file is accepted by --config."""
        write_text(self.path / "config.yaml", annotated(values, sources))

    def write_status(self, **values: Any) -> None:
        """Add values to run.json."""
        path = self.path / "run.json"
        stored = read_status(self.path) if path.is_file() else {"schema_version": SCHEMA_VERSION}
        write_json(path, {**stored, **values, "updated": datetime.now(UTC).isoformat(timespec="seconds")})

    def append_result(self, row: Mapping[str, Any]) -> None:
        """Add a row to results.csv; the first row decides the columns."""
        new = not self.results.exists()
        with self.results.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def write_coverage(self, classes: list[dict[str, Any]]) -> None:
        """Write prototypes.json."""
        write_json(self.path / "prototypes.json", {"schema_version": SCHEMA_VERSION, "classes": classes})

    def read_results(self) -> list[dict[str, str]]:
        """The rows of results.csv.

        Raises:
            DataError: there is none.
        """
        if not self.results.is_file():
            raise DataError(f"{self.path} has no results.csv: no epoch was finished in it.")
        with self.results.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise DataError(f"{self.results} has no row: no epoch was finished.")
        return rows


def this_process() -> dict[str, Any]:
    """What tells this process from all others, here and elsewhere, now and later."""
    return {"host": platform.node(), "pid": os.getpid(), "since": _since(os.getpid())}


def runs_elsewhere(process: Mapping[str, Any]) -> bool:
    """Whether what `this_process` said of another process is still true of one on this machine."""
    pid = process.get("pid")
    if process.get("host") != platform.node() or not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process.get("since") == _since(pid)


def _since(pid: int) -> str | None:
    """When a process was started, in ticks of the system's clock; None where that cannot be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def read_status(path: Path) -> dict[str, Any]:
    """run.json of a run.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        stored = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is not a run (no run.json). Give a run of sadcl train.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path / 'run.json'} cannot be read ({type(error).__name__}).") from None
    if not isinstance(stored, dict):
        raise DataError(f"{path / 'run.json'} cannot be read (not a table).")
    return stored


def new_run_path(name: str, runs: Path = RUNS) -> Path:
    """`runs/NAME`, or `runs/NAME-2` and so on when that is taken."""
    path = runs / name
    number = 1
    while path.exists():
        number += 1
        path = runs / f"{name}-{number}"
    return path


def last_finished_run(runs: Path = RUNS) -> RunDirectory:
    """The run under `runs` that finished last.

    Raises:
        DataError: there is none.
    """
    finished: list[tuple[str, Path]] = []
    for path in sorted(runs.glob("*/run.json")):
        try:
            status = read_status(path.parent)
        except DataError:
            continue
        if status.get("status") == FINISHED:
            finished.append((str(status.get("updated", "")), path.parent))
    if not finished:
        raise DataError(
            f"There is no finished run under {runs}/. Train first: sadcl train digits. Or name a run or model file with -w."
        )
    return RunDirectory(max(finished)[1])


def find_model(weights: Path | None) -> tuple[Path, RunDirectory | None]:
    """The model file that a command should use, and the run it belongs to, if any.

    Args:
        weights: a run, a model file, or None for the run that finished last.

    Raises:
        DataError: there is no such model.
    """
    run = last_finished_run() if weights is None else RunDirectory(weights)
    if weights is not None and not weights.is_dir():
        parent = weights.parent.parent
        return weights, RunDirectory(parent) if (parent / "run.json").is_file() else None
    model = run.best if run.best.is_file() else run.last
    if not model.is_file():
        raise DataError(
            f"{run.path} has no weights/best.safetensors. Give a run that finished at least one epoch, or a model file."
        )
    return model, run


def annotated(values: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """Nested values as YAML, each line whose value is no default with `# source` at its end; read again by `load_config_file`."""
    path: list[str] = []
    lines = []
    for line in yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=float("inf")).splitlines():
        key = line.strip().split(":")[0]
        if line.lstrip().startswith("- "):
            lines.append(line)
            continue
        path = [*path[: (len(line) - len(line.lstrip())) // 2], key]
        source = sources.get(".".join(path), "default")
        lines.append(line if line.endswith(":") else f"{line}  # {source}")
    return "\n".join(lines) + "\n"
