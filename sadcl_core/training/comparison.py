"""Methods side by side: every method with every seed on one data set, with the same number of epochs.

A method with one stage goes on through the second with its classification loss alone. A method with two views sees each image
twice in its second stage; the registry has the same without its contrast to set beside it. Runs that have the same first
stage share it: it is trained once per seed, and since a stage depends on nothing but its configuration and the weights it
starts from, each run is what `train` alone would have made of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import ValidationError

from sadcl_core.config import Layer, RunConfig, flatten, load_config_file
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DivergedError, SadclError, UsageError
from sadcl_core.inference.evaluation import Evaluation, evaluate_split, save_evaluation
from sadcl_core.inference.opening import open_model, open_split
from sadcl_core.methods import find_method
from sadcl_core.presets import Configured, configure
from sadcl_core.run_directory import FINISHED, RUNNING, RunDirectory, read_status
from sadcl_core.training.comparison_results import COMMON, TITLES, Comparison, ScoredRun
from sadcl_core.training.events import Listener
from sadcl_core.training.fit import check_stages, completed, file_fingerprints, fingerprint, train, used_stages
from sadcl_core.training.transfer import with_network_of_init

SCORES, SECONDS = "scores", "wall_seconds"  # keys of a run's numbers and time in its run.json
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
) -> Plan:
    """Configure every run and find the first stages they share.

    Args:
        layers: of the user, weakest first. They may tune a method, not change what it is: a weight given to a loss counts for
            the methods that use the loss.
        manifest: the data set.
        methods: rows of METHODS, first the one that the others are compared with.
        seeds: each method is trained with each of them.
        preset: a row of PRESETS; unless given chosen as for `train`.

    Raises:
        UsageError: a method, preset or setting does not exist, two methods are the same, or one is named twice.
    """
    for what, values in (("method", methods), ("seed", seeds)):
        if not values or len(set(values)) < len(values):
            raise UsageError(f"Give every {what} once, and at least one: {', '.join(map(str, values)) or 'none was given'}.")
    layers = with_network_of_init(layers, preset=preset)
    runs = [
        PlannedRun(f"{method}-seed{seed}", method, seed, _configured(layers, manifest, preset, method=method, seed=seed))
        for seed in seeds
        for method in methods
    ]
    keys = [_first_stage_key(run.configured.config) for run in runs]
    counts = Counter(keys)
    first_stages: dict[str, Configured] = {}
    planned = []
    for run, key in zip(runs, keys, strict=True):
        if counts[key] == 1:
            planned.append(run)
            continue
        if len(used_stages(run.configured.config)) == 1:
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
        folder: of the comparison; a run that finished in it is kept, one that did not is trained anew, and one that diverged
            has no numbers.
        watch: makes the listener of a run from a headline and its configuration.

    Raises:
        UsageError: the folder holds a run of the same name that was made otherwise, or is being made now.
        SadclError: see `train`.
        KeyboardInterrupt: finished runs are kept.
    """
    for name, configured in plan.first_stages.items():
        _refuse_other(folder / name, configured.config, manifest, identity=_first_stage_key)
    for run in plan.runs:
        _refuse_other(folder / run.name, run.configured.config, manifest, identity=RunConfig.model_dump_json)
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
        shared_seconds=sum(_seconds(folder / name) for name in plan.first_stages),
        versions=read_status(folder / plan.runs[0].name)["versions"],
    )


def _configured(
    layers: Sequence[tuple[str, Layer]], manifest: Manifest, preset: str | None, *, method: str, seed: int
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
        return configure([*stack, *more], dataset=manifest.description.name, split_sizes=manifest.split_sizes, preset=preset)

    configured = make()
    stages = configured.config.stages
    losses = next((stage.losses for stage in stages.values() if stage.weights), {})
    idle = [name for name, stage in stages.items() if stage.epochs > 0 and not stage.weights]
    if idle:
        configured = make(("same budget", {"stages": {name: {"losses": losses} for name in idle}}))
    values = flatten(configured.config.model_dump())
    for key, value in flatten(row.layer).items():
        if (key.startswith("model.") or key.endswith(".views")) and values.get(key) != value:
            raise UsageError(
                f"{key}={value} is what {method} is, so it cannot be {values.get(key)} in a comparison. Leave it out."
            )
    check_stages(configured.config)
    completed(configured.config, manifest)  # a mistake in the last method is said before the first is trained
    return configured


def _first_stage_of(configured: Configured) -> Configured:
    """The same with the first stage alone."""
    config = configured.config
    first = used_stages(config)[0]
    others = [name for name in config.stages if name != first]
    stages = {**config.stages, **{name: config.stages[name].model_copy(update={"epochs": 0}) for name in others}}
    sources = {**configured.sources, **{f"stages.{name}.epochs": "compare" for name in others}}
    return Configured(config.model_copy(update={"stages": stages}), sources, configured.why)


def _first_stage_key(config: RunConfig) -> str:
    """Equal for runs whose first stages are the same: all that it depends on."""
    stage = config.stages[used_stages(config)[0]]
    values = config.model_dump()
    for key in ("preset", "method", "stages"):
        values.pop(key)
    values["loss"] = {name: options for name, options in values["loss"].items() if name in stage.weights}
    values["stage"] = {**stage.model_dump(), "losses": stage.weights}
    return json.dumps(values, sort_keys=True)


def _refuse_other(path: Path, config: RunConfig, manifest: Manifest, *, identity: Callable[[RunConfig], str]) -> None:
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
    if status.get("status") == RUNNING and process.get("host") == platform.node() and _alive(process.get("pid")):
        raise UsageError(f"{path} is being trained by process {process['pid']}. Wait for it, or choose another place with -o.")
    ours = completed(config, manifest)
    ours = ours.model_copy(update={"data": ours.data.model_copy(update={"manifest": stored.data.manifest})})
    same_files = status.get("weights_fingerprints", {}) == file_fingerprints(config.model)
    if identity(stored) != identity(ours) or status.get("data_fingerprint") != fingerprint(manifest) or not same_files:
        raise UsageError(f"{path} was trained with other settings, data or weights than are asked for now. {ELSEWHERE}")


def _alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _finished(run: RunDirectory) -> bool:
    """Whether a run came to its end and its files are still there."""
    return (
        (run.path / "run.json").is_file()
        and read_status(run.path).get("status") == FINISHED
        and run.best.is_file()
        and run.results.is_file()
    )


def _run(plan: Plan, run: PlannedRun, manifest: Manifest, folder: Path, watch: Watch, headline: str) -> ScoredRun:
    """The numbers of one run, trained and evaluated now unless that has been done."""
    directory = RunDirectory(folder / run.name)
    after = RunDirectory(folder / run.first_stage) if run.first_stage else None
    try:
        if not _finished(directory):
            if after is not None and not _finished(after):
                first = plan.first_stages[run.first_stage]
                _train(first, manifest, after, None, watch, f"{headline}: the first stage, shared")
            _train(run.configured, manifest, directory, after, watch, headline)
        scores = _scores(run, directory)
    except DivergedError:
        scores = dict.fromkeys(TITLES, None)
    own = _seconds(directory.path)
    epochs = len(directory.read_results()) if directory.results.is_file() else 0
    return ScoredRun(run.method, run.seed, scores, epochs, own, 0.0 if after is None else _seconds(after.path))


def _train(
    configured: Configured, manifest: Manifest, run: RunDirectory, after: RunDirectory | None, watch: Watch, headline: str
) -> None:
    start = perf_counter()
    with watch(headline, configured.config) as listen:
        train(configured.config, configured.sources, manifest, run, exist_ok=run.path.exists(), after=after, listen=listen)
    run.write_status(**{SECONDS: round(perf_counter() - start, 1)})


def _scores(run: PlannedRun, directory: RunDirectory) -> dict[str, float | None]:
    """The numbers of a finished run's best model, evaluated now unless that has been done."""
    stored = read_status(directory.path).get(SCORES, {})
    if set(stored) == set(TITLES):
        return dict(stored)
    config = run.configured.config
    opened = open_model(directory.path, device=config.device, precision=config.precision)
    split, _ = open_split(opened)
    result = evaluate_split(opened, split, batch_size=config.data.batch_size, workers=config.data.workers)
    save_evaluation(result, directory.path / "eval")
    scores: dict[str, float | None] = {
        "mAP_interpolated": round(result.map_interpolated, 4),
        "mAP_non_interpolated": round(result.map_non_interpolated, 4),
        "mAP_interpolated_last_epoch": float(directory.read_results()[-1]["mAP_interpolated"]),
        "mAP_interpolated_common": _map_of_common_classes(result),
        **{name: round(result.all_labels[name], 4) for name in ("OF1", "CF1", "macro_F1")},
    }
    directory.write_status(**{SCORES: scores})
    return scores


def _map_of_common_classes(result: Evaluation) -> float | None:
    """Over the classes with enough positives for an AP that does not hang on one image; None when there is none."""
    values = result.ap_interpolated[result.positives >= COMMON]
    return round(float(values.mean()), 4) if len(values) else None


def _seconds(path: Path) -> float:
    return float(read_status(path).get(SECONDS, 0.0)) if (path / "run.json").is_file() else 0.0
