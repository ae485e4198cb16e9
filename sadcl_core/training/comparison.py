"""Methods side by side: every method with every seed on one data set, with the same number of epochs.

A method with one stage goes on through the second with its classification loss alone, so that all see as many images. Runs
that have the same first stage share it: it is trained once per seed, and since a stage depends on nothing but its
configuration and the weights it starts from, each run is what `train` alone would have made of it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sadcl_core.config import Layer, RunConfig, load_config_file
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import UsageError
from sadcl_core.inference.evaluation import Evaluation, evaluate_split, save_evaluation
from sadcl_core.inference.opening import open_model, open_split
from sadcl_core.presets import Configured, configure
from sadcl_core.run_directory import FINISHED, RunDirectory, read_status
from sadcl_core.training.comparison_results import COMMON, Comparison, ScoredRun
from sadcl_core.training.events import Listener
from sadcl_core.training.fit import check_stages, completed, fingerprint, train, used_stages
from sadcl_core.training.transfer import with_network_of_init

SCORES = "scores"  # key of a run's numbers in its run.json

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
        layers: of the user, weakest first.
        manifest: the data set.
        methods: rows of METHODS, first the one that the others are compared with.
        seeds: each method is trained with each of them.
        preset: a row of PRESETS; unless given chosen as for `train`.

    Raises:
        UsageError: a method, preset or setting does not exist, or a method or seed is named twice.
    """
    for what, values in (("method", methods), ("seed", seeds)):
        if not values or len(set(values)) < len(values):
            raise UsageError(f"Give every {what} once, and at least one: {', '.join(map(str, values)) or 'none was given'}.")
    layers = with_network_of_init(layers)
    runs = []
    for seed in seeds:
        for method in methods:
            configured = _configured([*layers, ("compare", {"method": method, "seed": seed})], manifest, preset)
            runs.append(PlannedRun(f"{method}-seed{seed}", method, seed, configured))
    keys = [_first_stage_key(run.configured.config) for run in runs]
    counts, first_stages, planned = Counter(keys), {}, []
    names: dict[str, str] = {}
    for run, key in zip(runs, keys, strict=True):
        if counts[key] > 1 and len(used_stages(run.configured.config)) > 1:
            if key not in names:
                names[key] = f"first-stage-of-{run.name}"
                first_stages[names[key]] = _first_stage_of(run.configured)
            run = PlannedRun(run.name, run.method, run.seed, run.configured, names[key])
        planned.append(run)
    return Plan(first_stages, tuple(planned))


def compare(plan: Plan, manifest: Manifest, folder: Path, *, watch: Watch) -> Comparison:
    """Train what is not there yet, evaluate every run, and put the numbers together.

    Args:
        plan: from `plan`.
        manifest: the data set.
        folder: of the comparison; a run that finished in it is kept, one that did not is trained anew.
        watch: makes the listener of a run from a headline and its configuration.

    Raises:
        UsageError: the folder holds a run of the same name that was made otherwise.
        SadclError: see `train`.
        KeyboardInterrupt: finished runs are kept.
    """
    wanted = {**dict(plan.first_stages), **{run.name: run.configured for run in plan.runs}}
    for name, configured in wanted.items():
        _refuse_other(folder / name, configured.config, manifest)
    scored = []
    for number, run in enumerate(plan.runs, start=1):
        headline = f"{number}/{len(plan.runs)} {run.name}"
        after = None
        if run.first_stage:
            after = RunDirectory(folder / run.first_stage)
            _train_unless_finished(
                plan.first_stages[run.first_stage], manifest, after, None, watch, f"{headline}: the first stage, shared"
            )
        directory = RunDirectory(folder / run.name)
        _train_unless_finished(run.configured, manifest, directory, after, watch, headline)
        scored.append(_scored(run, directory))
    shared = sum(_seconds(RunDirectory(folder / name)) for name in plan.first_stages)
    config = plan.runs[0].configured.config
    return Comparison(
        dataset=manifest.description.name,
        preset=config.preset,
        backbone=config.model.backbone,
        epochs={name: stage.epochs for name, stage in config.stages.items()},
        runs=tuple(scored),
        shared_seconds=shared,
        versions=read_status(folder / plan.runs[0].name)["versions"],
    )


def _configured(layers: list[tuple[str, Layer]], manifest: Manifest, preset: str | None) -> Configured:
    """The configuration of a run, with a loss in every stage that has epochs."""

    def make(more: Layer) -> Configured:
        return configure(
            [*layers, ("same budget", more)],
            dataset=manifest.description.name,
            split_sizes=manifest.split_sizes,
            preset=preset,
        )

    configured = make({})
    stages = configured.config.stages
    losses = next((stage.losses for stage in stages.values() if stage.weights), {})
    idle = [name for name, stage in stages.items() if stage.epochs > 0 and not stage.weights]
    configured = make({"stages": {name: {"losses": losses} for name in idle}}) if idle else configured
    check_stages(configured.config)
    return configured


def _first_stage_of(configured: Configured) -> Configured:
    """The same with the first stage alone."""
    config = configured.config
    first = used_stages(config)[0]
    stages = {name: stage if name == first else stage.model_copy(update={"epochs": 0}) for name, stage in config.stages.items()}
    return Configured(config.model_copy(update={"stages": stages}), configured.sources, configured.why)


def _first_stage_key(config: RunConfig) -> str:
    """Equal for runs whose first stages are the same: all that it depends on."""
    used = used_stages(config)
    stage = config.stages[used[0]]
    values = config.model_dump()
    for key in ("preset", "method", "stages"):
        values.pop(key)
    values["loss"] = {name: options for name, options in values["loss"].items() if name in stage.weights}
    values["stage"] = {**stage.model_dump(), "losses": stage.weights}
    return json.dumps(values, sort_keys=True)


def _refuse_other(path: Path, config: RunConfig, manifest: Manifest) -> None:
    """Keep a finished run from being taken for one that it is not."""
    if not _finished(path):
        if path.exists() and not (path / "run.json").is_file() and any(path.iterdir()):
            raise UsageError(f"{path} holds other files and no run. Choose another place for the comparison with -o.")
        return
    stored = RunConfig.model_validate(load_config_file(path / "config.yaml"))
    ours = completed(config, manifest)
    data = {"manifest": stored.data.manifest, "workers": stored.data.workers}  # where the images lie changes no result
    ours = ours.model_copy(update={"data": ours.data.model_copy(update=data)})
    if stored != ours or read_status(path).get("data_fingerprint") != fingerprint(manifest):
        raise UsageError(
            f"{path} was trained with other settings or data than are asked for now. Choose another place with -o, or remove it."
        )


def _finished(path: Path) -> bool:
    return (path / "run.json").is_file() and read_status(path).get("status") == FINISHED


def _train_unless_finished(
    configured: Configured, manifest: Manifest, run: RunDirectory, after: RunDirectory | None, watch: Watch, headline: str
) -> None:
    if _finished(run.path):
        return
    start = time.perf_counter()
    with watch(headline, configured.config) as listen:
        train(configured.config, configured.sources, manifest, run, exist_ok=run.path.exists(), after=after, listen=listen)
    run.write_status(wall_seconds=round(time.perf_counter() - start, 1))


def _scored(run: PlannedRun, directory: RunDirectory) -> ScoredRun:
    """The numbers of a run's best model, evaluated now unless that has been done."""
    status = read_status(directory.path)
    if SCORES not in status:
        opened = open_model(directory.path, device=run.configured.config.device, precision=run.configured.config.precision)
        split, _ = open_split(opened)
        data = run.configured.config.data
        result = evaluate_split(opened, split, batch_size=data.batch_size, workers=data.workers)
        save_evaluation(result, directory.path / "eval")
        last = directory.read_results()[-1]
        scores: dict[str, Any] = {
            "mAP_interpolated": round(result.map_interpolated, 4),
            "mAP_non_interpolated": round(result.map_non_interpolated, 4),
            "mAP_interpolated_last_epoch": float(last["mAP_interpolated"]),
            "mAP_interpolated_common": _map_of_common_classes(result),
            **{name: round(result.all_labels[name], 4) for name in ("OF1", "CF1", "macro_F1")},
        }
        directory.write_status(**{SCORES: scores})
        status = read_status(directory.path)
    return ScoredRun(run.method, run.seed, status[SCORES], _seconds(directory))


def _map_of_common_classes(result: Evaluation) -> float | None:
    """Over the classes with enough positives for an AP that does not hang on one image; None when there is none."""
    values = result.ap_interpolated[result.positives >= COMMON]
    return round(float(values.mean()), 4) if len(values) else None


def _seconds(directory: RunDirectory) -> float:
    return float(read_status(directory.path).get("wall_seconds", 0.0))
