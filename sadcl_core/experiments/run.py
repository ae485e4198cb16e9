"""Methods side by side: every method with every seed on one data set, with the same number of epochs.

A method with one stage goes on through the second with its classification loss alone. A method with two views sees each image
twice in its second stage; the registry has the same without its contrast to set beside it. Runs that have the same first
stage share it: it is trained once per seed, and since a stage depends on nothing but its configuration and the weights it
starts from, each run is what `train` alone would have made of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from sadcl_core.config.automatic import Facts
from sadcl_core.config.layers import Layer, flatten, load_config_file
from sadcl_core.config.methods import find_method
from sadcl_core.config.presets import Configured, configure
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DivergedError, SadclError, UsageError
from sadcl_core.evaluation.evaluate import evaluate
from sadcl_core.evaluation.result import Evaluation
from sadcl_core.experiments.tables import COMMON, TITLES, Comparison, ScoredRun
from sadcl_core.runs.lock import runs_elsewhere
from sadcl_core.runs.run_directory import DIVERGED, FINISHED, RUNNING, RunDirectory, read_status
from sadcl_core.training.listeners.events import Listener
from sadcl_core.training.listeners.standard import standard_listeners
from sadcl_core.training.resume import prepare_resume
from sadcl_core.training.run import resume_run, start_run
from sadcl_core.training.setup import check_stages, complete_config, file_fingerprints
from sadcl_core.training.transfer import with_network_of_init

SCORES, SECONDS, FIRST_STAGE = "scores", "wall_seconds", "first_stage"  # keys of what is added to a run's run.json
ELSEWHERE = "Choose another place for the comparison with -o, or remove it."

Watch = Callable[[str, RunConfig], AbstractContextManager[Listener]]


@dataclass(frozen=True)
class PlannedRun:
    """One method with one seed.

    Attributes:
        first_stage: name of the run that its first stage is taken from; empty: it trains its own.
    """

    name: str
    method: str
    seed: int
    configured: Configured
    first_stage: str = ""


@dataclass(frozen=True)
class Plan:
    """What is to be trained: first stages that are shared, by their name, and the runs."""

    first_stages: Mapping[str, Configured]
    runs: tuple[PlannedRun, ...]


def plan(
    layers: Sequence[tuple[str, Layer]],
    manifest: Manifest,
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    preset: str | None = None,
    facts: Callable[[], Facts] | None = None,
) -> Plan:
    """Configure every run and find the first stages they share.

    Args:
        layers: of the user, weakest first. They may tune a method, not change what it is: a weight given to a loss counts for
            the methods that use the loss.
        manifest: the data set.
        methods: rows of METHODS, first the one that the others are compared with.
        seeds: each method is trained with each of them.
        preset: a row of PRESETS; unless given chosen as for `train`.
        facts: what the recipe is chosen by when no preset is named, the same for every method.

    Raises:
        UsageError: a method, preset or setting does not exist, two methods are the same, or one is named twice.
    """
    for what, values in (("method", methods), ("seed", seeds)):
        if not values or len(set(values)) < len(values):
            raise UsageError(f"Give every {what} once, and at least one: {', '.join(map(str, values)) or 'none was given'}.")
    layers = with_network_of_init(layers, preset=preset)
    runs = [
        PlannedRun(f"{method}-seed{seed}", method, seed, _configured(layers, manifest, preset, facts, method=method, seed=seed))
        for seed in seeds
        for method in methods
    ]
    keys = [_first_stage_key(complete_config(run.configured.config, manifest)) for run in runs]
    counts = Counter(keys)
    first_stages: dict[str, Configured] = {}
    planned = []
    for run, key in zip(runs, keys, strict=True):
        if counts[key] == 1:
            planned.append(run)
            continue
        if len(run.configured.config.used_stages) == 1:
            same = [other.method for other, other_key in zip(runs, keys, strict=True) if other_key == key]
            raise UsageError(f"{' and '.join(same)} are the same with one stage. Give both stages epochs: --epochs N,N.")
        name = f"first-stage-{hashlib.sha256(key.encode()).hexdigest()[:8]}-seed{run.seed}"
        first_stages.setdefault(name, _first_stage_of(run.configured))
        planned.append(replace(run, first_stage=name))
    return Plan(first_stages, tuple(planned))


def compare(plan: Plan, manifest: Manifest, folder: Path, *, watch: Watch) -> Comparison:
    """Train what is not there yet, evaluate every run, and put the numbers together.

    Args:
        plan: from `plan`.
        manifest: the data set.
        folder: of the comparison; a run that finished in it is kept, one that was stopped goes on where it was, and one
            that diverged has no numbers.
        watch: makes the listener of a run from a headline and its configuration.

    Raises:
        UsageError: the folder holds a run of the same name that was made otherwise, or is being made now.
        SadclError: see `train`.
        KeyboardInterrupt: finished runs are kept.
    """
    for name, configured in plan.first_stages.items():
        _refuse_other(folder / name, configured.config, manifest, first_stage=True)
    for run in plan.runs:
        _refuse_other(folder / run.name, run.configured.config, manifest)
    scored = [
        _run(plan, run, manifest, folder, watch, f"{number}/{len(plan.runs)} {run.name}")
        for number, run in enumerate(plan.runs, start=1)
    ]
    config = plan.runs[0].configured.config
    return Comparison(
        dataset=manifest.description.name,
        preset=config.preset,
        backbone=config.model.backbone,
        epochs={name: stage.epochs for name, stage in config.stages.items()},
        runs=tuple(scored),
        versions=next((versions for run in plan.runs if (versions := _status(folder / run.name).get("versions"))), {}),
    )


def _configured(
    layers: Sequence[tuple[str, Layer]],
    manifest: Manifest,
    preset: str | None,
    facts: Callable[[], Facts] | None,
    *,
    method: str,
    seed: int,
) -> Configured:
    """The configuration of a run: what the method is stays as it is, and every stage that has epochs has a loss."""
    row = find_method(method)
    bank = row.layer["loss"]["sample_to_sample"]["bank_slots"]
    unused = {
        name: {"losses": {loss: 0.0 for loss in stage["losses"] if not stage["losses"][loss]}}
        for name, stage in row.layer["stages"].items()
    }
    kept: Layer = {"stages": unused, "loss": {} if bank else {"sample_to_sample": {"bank_slots": 0}}}
    stack = [*layers, ("compare", {"method": method, "seed": seed}), (f"method {method}", kept)]

    def make(*more: tuple[str, Layer]) -> Configured:
        name, sizes = manifest.description.name, manifest.split_sizes
        return configure([*stack, *more], dataset=name, split_sizes=sizes, preset=preset, facts=facts)

    configured = make()
    stages = configured.config.stages
    losses = next((stage.losses for stage in stages.values() if stage.weights), {})
    idle = [name for name, stage in stages.items() if stage.epochs > 0 and not stage.weights]
    if idle:
        configured = make(("same budget", {"stages": {name: {"losses": losses} for name in idle}}))
    values = flatten(configured.config.model_dump())
    for key, value in flatten(row.layer).items():
        fixed = key.startswith("model.") or key.endswith(".views")
        if (fixed and values.get(key) != value) or (value and not values.get(key)):
            raise UsageError(
                f"{key}={value} is what {method} is, so it cannot be {values.get(key)} in a comparison. Leave it out."
            )
    check_stages(configured.config)
    return configured


def _first_stage_of(configured: Configured) -> Configured:
    """The same with the first stage alone."""
    config = configured.config
    first = config.used_stages[0]
    others = [name for name in config.stages if name != first]
    stages = {**config.stages, **{name: config.stages[name].model_copy(update={"epochs": 0}) for name in others}}
    sources = {**configured.sources, **{f"stages.{name}.epochs": "compare" for name in others}}
    return Configured(config.model_copy(update={"stages": stages}), sources, configured.why)


def _first_stage_key(config: RunConfig) -> str:
    """Equal for runs whose first stages are the same: all that it depends on."""
    stage = config.stages[config.used_stages[0]]
    values = config.model_dump()
    for key in ("preset", "method", "stages"):
        values.pop(key)
    values["data"].pop("manifest")  # where it lies
    values["loss"] = {name: options for name, options in values["loss"].items() if name in stage.weights}
    values["stage"] = {**stage.model_dump(), "losses": stage.weights}
    return json.dumps(values, sort_keys=True)


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
    ours = ours.model_copy(update={"data": ours.data.model_copy(update={"manifest": stored.data.manifest})})
    identity = _first_stage_key if first_stage else RunConfig.model_dump_json
    same = identity(stored) == identity(ours) and status["data_fingerprint"] == manifest.fingerprint()
    if not same or status.get("weights_fingerprints", {}) != file_fingerprints(config.model):
        raise UsageError(f"{path} was trained with other settings, data or weights than are asked for now. {ELSEWHERE}")


def _finished(run: RunDirectory) -> bool:
    """Whether a run came to its end and its files are still there."""
    return _status(run.path).get("status") == FINISHED and run.best.is_file() and run.results.is_file()


def _status(path: Path) -> dict[str, Any]:
    """run.json of a run; empty when there is none yet."""
    return read_status(path) if (path / "run.json").is_file() else {}


def _run(plan: Plan, run: PlannedRun, manifest: Manifest, folder: Path, watch: Watch, headline: str) -> ScoredRun:
    """The numbers of one run, trained and evaluated now unless that has been done."""
    directory = RunDirectory(folder / run.name)
    _refuse_other(directory.path, run.configured.config, manifest)  # again: hours may have passed
    try:
        if not _finished(directory):
            after = _first_stage(plan, run, manifest, folder, watch, headline) if run.first_stage else None
            _train(run.configured, manifest, directory, after, watch, headline)
        scores = _scores(run, directory)
    except DivergedError:
        scores = dict.fromkeys(TITLES, None)
    status = _status(directory.path)
    first = status.get(FIRST_STAGE) or {"name": "", "seconds": 0.0}
    epochs = len(directory.read_results()) if directory.results.is_file() else 0
    return ScoredRun(run.method, run.seed, scores, epochs, status.get(SECONDS, 0.0), first["name"], first["seconds"])


def _first_stage(plan: Plan, run: PlannedRun, manifest: Manifest, folder: Path, watch: Watch, headline: str) -> RunDirectory:
    """The shared first stage of a run, trained now unless that has been done."""
    shared, configured = RunDirectory(folder / run.first_stage), plan.first_stages[run.first_stage]
    _refuse_other(shared.path, configured.config, manifest, first_stage=True)
    if not _finished(shared):
        _train(configured, manifest, shared, None, watch, f"{headline}: the first stage, shared")
    return shared


def _train(
    configured: Configured, manifest: Manifest, run: RunDirectory, after: RunDirectory | None, watch: Watch, headline: str
) -> None:
    status = _status(run.path)
    if status.get("status") == DIVERGED:  # the same settings would diverge again
        raise DivergedError(str(status.get("ended")))
    start, going_on = perf_counter(), run.state.is_file() and status.get("status") != FINISHED
    with watch(headline, configured.config) as watching, standard_listeners(configured.config, run, watching) as listen:
        if going_on:
            resume_run(prepare_resume(run.path), manifest, listen=listen)
        else:
            config, sources = configured.config, configured.sources
            start_run(config, sources, manifest, run, exist_ok=run.path.exists(), after=after, listen=listen)
    first = None if after is None else {"name": after.path.name, "seconds": _status(after.path).get(SECONDS, 0.0)}
    run.write_status(**{SECONDS: round(perf_counter() - start, 1), FIRST_STAGE: first})


def _scores(run: PlannedRun, directory: RunDirectory) -> dict[str, float | None]:
    """The numbers of a finished run's best model, evaluated now unless that has been done."""
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
    scores: dict[str, float | None] = {
        "mAP_interpolated": round(result.map_interpolated, 4),
        "mAP_non_interpolated": round(result.map_non_interpolated, 4),
        "mAP_interpolated_last_epoch": float(directory.read_results()[-1]["mAP_interpolated"]),
        "mAP_interpolated_common": _map_of_common_classes(result),
        **{name: round(result.rows["all"][name], 4) for name in ("OF1", "CF1", "macro_F1")},
    }
    directory.write_status(**{SCORES: scores})
    return scores


def _map_of_common_classes(result: Evaluation) -> float | None:
    """Over the classes with enough positives for an AP that does not hang on one image; None when there is none."""
    values = result.per_class["AP_interpolated"][result.per_class["positives"] >= COMMON]
    return round(float(values.mean()), 4) if len(values) else None
