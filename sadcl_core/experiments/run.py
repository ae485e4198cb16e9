"""Train and evaluate every run of a plan; finished runs are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from sadcl_core.config.layers import load_config_file
from sadcl_core.config.presets import Configured
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DivergedError, NotFiniteError, SadclError, UsageError
from sadcl_core.evaluation.evaluate import evaluate
from sadcl_core.evaluation.published import published_figures
from sadcl_core.experiments.plan import Plan, PlannedRun, first_stage_key
from sadcl_core.experiments.tables import COMMON, TITLES, Comparison, ScoredRun
from sadcl_core.runs.card import LINEAR
from sadcl_core.runs.lock import runs_elsewhere
from sadcl_core.runs.run_directory import DIVERGED, FINISHED, RUNNING, RunDirectory, read_status
from sadcl_core.runtime.device import PeakMemory
from sadcl_core.training.listeners.events import ComparedRunStarted, ComparedRunTrained, Listener, ignore
from sadcl_core.training.listeners.standard import standard_listeners
from sadcl_core.training.recipe import TrainingRecipe
from sadcl_core.training.resume import prepare_resume
from sadcl_core.training.run import resume_run, start_run
from sadcl_core.training.setup import complete_config, file_fingerprints

SCORES, SECONDS, MEMORY, FIRST_STAGE = "scores", "wall_seconds", "peak_memory_mib", "first_stage"  # added to a run's run.json
ELSEWHERE = "Choose another place for the comparison with -o, or remove it."


def run_plan(
    plan: Plan,
    manifest: Manifest,
    folder: Path,
    *,
    listen: Listener = ignore,
    recipe_class: type[TrainingRecipe] = TrainingRecipe,
) -> Comparison:
    """Train the runs that are missing, evaluate every run, and put the numbers together.

    A run that finished in the folder is kept, one that was stopped goes on where it was, and one that diverged has no numbers.
    The events of every run come after a ComparedRunStarted. The recipe class is as for `start_run`.

    Raises:
        UsageError: the folder holds a run of the same name that was made otherwise, or is being made now.
        SadclError: see `train`; but a run that diverges does not end the comparison.
        KeyboardInterrupt: finished runs are kept.
    """
    for name, configured in plan.first_stages.items():
        _refuse_other(folder / name, configured.config, manifest, first_stage=True)
    for run in plan.runs:
        _refuse_other(folder / run.name, run.configured.config, manifest)
    runner = _Runner(plan, manifest, folder, listen, recipe_class)
    scored = tuple(runner.run(number) for number in range(1, len(plan.runs) + 1))
    config = plan.runs[0].configured.config
    return Comparison(
        dataset=manifest.description.name,
        preset=config.preset,
        backbone=config.model.backbone,
        epochs={name: stage.epochs for name, stage in config.stages.items()},
        runs=scored,
        versions=next((versions for run in plan.runs if (versions := _status(folder / run.name).get("versions"))), {}),
        folder=folder,
        published={run.method: figures for run in scored if (figures := published_figures(run.method, manifest.classes)[1])},
    )


def _refuse_other(path: Path, config: RunConfig, manifest: Manifest, *, first_stage: bool = False) -> None:
    """Keep a run from being taken for one that it is not, or replaced by it."""
    RunDirectory(path).refuse_existing(exist_ok=path.is_dir())
    if not (path / "run.json").is_file() or not (path / "config.yaml").is_file():
        return
    try:
        status = read_status(path)
        stored = RunConfig.model_validate(load_config_file(path / "config.yaml"))
    except (SadclError, ValidationError):
        raise UsageError(f"{path} holds a run whose files are damaged. {ELSEWHERE}") from None
    process = status.get("process", {})
    if status.get("status") == RUNNING and runs_elsewhere(process):
        raise UsageError(f"{path} is being trained by process {process['pid']}. Wait for it, or choose another place with -o.")
    if "data_fingerprint" not in status:  # it ended before it began
        return
    ours = complete_config(config, manifest)
    places = {"cache": stored.features.cache, "limit_gb": stored.features.limit_gb}
    ours = ours.model_copy(
        update={
            "data": ours.data.model_copy(update={"manifest": stored.data.manifest}),
            "track": stored.track,
            "features": ours.features.model_copy(update=places),
        }
    )
    identity = first_stage_key if first_stage else RunConfig.model_dump_json
    same = identity(stored) == identity(ours) and status["data_fingerprint"] == manifest.fingerprint()
    if not same or status.get("weights_fingerprints", {}) != file_fingerprints(ours):
        raise UsageError(f"{path} was trained with other settings, data or weights than are asked for now. {ELSEWHERE}")


def _finished(run: RunDirectory) -> bool:
    """Return whether a run came to its end and its files are still there."""
    return _status(run.path).get("status") == FINISHED and run.best.is_file() and run.results.is_file()


def _status(path: Path) -> dict[str, Any]:
    """Return run.json of a run; empty when there is none yet."""
    return read_status(path) if (path / "run.json").is_file() else {}


@dataclass(frozen=True)
class _Runner:
    """Train and evaluate the runs of a plan; see `run_plan` for the values."""

    plan: Plan
    manifest: Manifest
    folder: Path
    listen: Listener
    recipe_class: type[TrainingRecipe]

    def run(self, number: int) -> ScoredRun:
        """Return the numbers of a run, from 1, trained and evaluated now unless that has been done."""
        run = self.plan.runs[number - 1]
        directory = RunDirectory(self.folder / run.name)
        _refuse_other(directory.path, run.configured.config, self.manifest)  # again: hours may have passed
        try:
            if not _finished(directory):
                after = self.first_stage(run, number) if run.first_stage else None
                self.listen(ComparedRunStarted(run.name, number, len(self.plan.runs)))
                self.train(run.configured, directory, after)
            scores = _scores(run, directory)
        except (DivergedError, NotFiniteError):
            scores = dict.fromkeys(TITLES, None)
        status = _status(directory.path)
        first = status.get(FIRST_STAGE) or {"name": "", "seconds": 0.0}
        rows = directory.read_results() if directory.results.is_file() else []
        epochs = sum(row["stage"] != LINEAR for row in rows)
        config = run.configured.config
        return ScoredRun(
            run.method,
            run.seed,
            scores,
            epochs,
            status.get(SECONDS, 0.0),
            first["name"],
            first["seconds"],
            memory=max(status.get(MEMORY, 0), first.get("memory", 0)),
            lr=next((config.stages[name].lr for name in config.used_stages), 0.0),
            parameters=status.get("parameters", 0),
        )

    def first_stage(self, run: PlannedRun, number: int) -> RunDirectory:
        """Return the shared first stage of a run, trained now unless that has been done."""
        shared, configured = RunDirectory(self.folder / run.first_stage), self.plan.first_stages[run.first_stage]
        _refuse_other(shared.path, configured.config, self.manifest, first_stage=True)
        if not _finished(shared):
            self.listen(ComparedRunStarted(run.name, number, len(self.plan.runs), first_stage=run.first_stage))
            self.train(configured, shared, None)
        return shared

    def train(self, configured: Configured, run: RunDirectory, after: RunDirectory | None) -> None:
        """Train a run, or go on with it where it was stopped."""
        status = _status(run.path)
        if status.get("status") == DIVERGED:  # the same settings would diverge again
            raise DivergedError(str(status.get("ended")))
        start, peak, stopped = perf_counter(), PeakMemory(), run.state.is_file() and status.get("status") != FINISHED
        config = configured.config
        with standard_listeners(config, run, self.listen) as listen:
            if stopped:
                resume_run(prepare_resume(run.path), self.manifest, listen=listen, recipe_class=self.recipe_class)
            else:
                start_run(
                    config,
                    configured.sources,
                    self.manifest,
                    run,
                    exist_ok=run.path.exists(),
                    after=after,
                    listen=listen,
                    recipe_class=self.recipe_class,
                )
        first = None
        if after is not None:
            before = _status(after.path)
            first = {"name": after.path.name, "seconds": before.get(SECONDS, 0.0), "memory": before.get(MEMORY, 0)}
        memory = peak.mebibytes(_status(run.path).get("device", "cpu"))
        run.write_status(**{SECONDS: round(perf_counter() - start, 1), MEMORY: memory, FIRST_STAGE: first})
        self.listen(ComparedRunTrained(run))


def _scores(run: PlannedRun, directory: RunDirectory) -> dict[str, float | None]:
    """Return the numbers of a finished run's best model, evaluated now unless that has been done."""
    stored = read_status(directory.path).get(SCORES, {})
    if set(stored) == set(TITLES):
        return dict(stored)
    data, config = run.configured.config.data, run.configured.config
    result = evaluate(
        directory.path,
        bootstrap=0,
        device=config.device,
        precision=config.precision,
        batch_size=data.batch_size,
        workers=data.workers,
    )
    common = result.per_class["AP_interpolated"][result.per_class["positives"] >= COMMON]  # no AP that hangs on one image
    last = None if data.limit else float(directory.read_results()[-1]["mAP_interpolated"])  # with a limit, of fewer images
    scores: dict[str, float | None] = {
        "mAP_interpolated": round(result.map_interpolated, 4),
        "mAP_non_interpolated": round(result.map_non_interpolated, 4),
        "mAP_interpolated_last_epoch": last,
        "mAP_interpolated_common": round(float(common.mean()), 4) if len(common) else None,
        **{name: round(result.rows["all"][name], 4) for name in ("OF1", "CF1", "macro_F1")},
    }
    directory.write_status(**{SCORES: scores})
    return scores
