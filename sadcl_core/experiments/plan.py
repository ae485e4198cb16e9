"""The runs of a comparison: every method with every seed on one data set, with the same number of epochs.

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
from dataclasses import dataclass, replace
from functools import cache, partial

from sadcl_core.config.automatic import Facts
from sadcl_core.config.flags import FLAGS
from sadcl_core.config.layers import Layer, flatten
from sadcl_core.config.methods import find_method
from sadcl_core.config.presets import SINGLE, Configured, configure
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import UsageError
from sadcl_core.experiments.space import settings_layer
from sadcl_core.training.setup import check_stages, complete_config, data_facts
from sadcl_core.training.transfer import with_network_of_init


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
    """Everything to train: first stages that are shared, by their name, and the runs."""

    first_stages: Mapping[str, Configured]
    runs: tuple[PlannedRun, ...]


def plan(
    layers: Sequence[tuple[str, Layer]],
    manifest: Manifest,
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    rates: Mapping[str, float] | None = None,
) -> Plan:
    """Configure every run, each method with each seed, and name the first stages that several share.

    The layers of the user, weakest first, may tune a method, not change what it is: a weight given to a loss counts for the
    methods that use the loss. Methods are different rows of METHODS, first the one that the others are compared with. Rates are
    those of every stage, by method; that of the recipe unless given.

    Raises:
        UsageError: a preset or setting does not exist, two methods are the same, or a setting or file changes what a method is.
        DataError: the data set has no split to train on or to hold out.
    """
    facts = cache(partial(data_facts, manifest, layers))  # the same for every method
    own = {method: settings_layer({} if rates is None else {FLAGS["lr"].setting: rates[method]}) for method in methods}
    runs = [
        PlannedRun(
            f"{method}-seed{seed}",
            method,
            seed,
            _configure([*layers, ("rates", own[method])], manifest, facts, method=method, seed=seed),
        )
        for seed in seeds
        for method in methods
    ]
    keys = [first_stage_key(complete_config(run.configured.config, manifest)) for run in runs]
    counts = Counter(keys)
    first_stages: dict[str, Configured] = {}
    planned = []
    for run, key in zip(runs, keys, strict=True):
        if counts[key] == 1:
            planned.append(run)
            continue
        if len(run.configured.config.used_stages) <= 1:
            same = [other.method for other, other_key in zip(runs, keys, strict=True) if other_key == key]
            raise UsageError(f"{' and '.join(same)} are the same with one stage. Give both stages epochs: --epochs N,N.")
        name = f"first-stage-{hashlib.sha256(key.encode()).hexdigest()[:8]}-seed{run.seed}"
        first_stages.setdefault(name, _first_stage_of(run.configured))
        planned.append(replace(run, first_stage=name))
    return Plan(first_stages, tuple(planned))


def _configure(
    layers: Sequence[tuple[str, Layer]], manifest: Manifest, facts: Callable[[], Facts], *, method: str, seed: int
) -> Configured:
    """Return the configuration of a run: what the method is stays as it is, and every stage that has epochs has a loss."""
    for source, layer in layers:
        other = layer.get("method") or method
        if source not in SINGLE and other != method:
            raise UsageError(
                f"{source} is for the method {other}, so it cannot be used for {method}. Remove from it the line `method:` and "
                f"the lines that the method sets (those with the comment `# method {other}`), or compare only {other}."
            )
    row = find_method(method)
    bank = row.layer["loss"]["sample_to_sample"]["bank_slots"]
    unused = {
        name: {"losses": {loss: 0.0 for loss in stage["losses"] if not stage["losses"][loss]}}
        for name, stage in row.layer["stages"].items()
    }
    kept: Layer = {"stages": unused, "loss": {} if bank else {"sample_to_sample": {"bank_slots": 0}}}
    layers = with_network_of_init([*layers, ("compare", {"method": method, "seed": seed, "optim": {"time_budget": 0.0}})])
    stack = [*layers, (f"method {method}", kept)]

    def make(*more: tuple[str, Layer]) -> Configured:
        name, sizes = manifest.description.name, manifest.split_sizes
        return configure([*stack, *more], dataset=name, split_sizes=sizes, facts=facts)

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
    """Return the same configuration with the first stage alone."""
    config = configured.config
    first = config.used_stages[0]
    others = [name for name in config.stages if name != first]
    stages = {**config.stages, **{name: config.stages[name].model_copy(update={"epochs": 0}) for name in others}}
    sources = {**configured.sources, **{f"stages.{name}.epochs": "compare" for name in others}}
    return Configured(config.model_copy(update={"stages": stages}), sources, configured.why)


def first_stage_key(config: RunConfig) -> str:
    """Return all that a first stage depends on, as text: equal for runs whose first stages are the same."""
    stage = config.stages[next(iter(config.used_stages), next(iter(config.stages)))]
    values = config.model_dump()
    for key in ("preset", "method", "stages", "track"):
        values.pop(key)
    values["data"].pop("manifest")  # where it lies
    values["loss"] = {name: options for name, options in values["loss"].items() if name in stage.weights}
    values["stage"] = {**stage.model_dump(), "losses": stage.weights}
    return json.dumps(values, sort_keys=True)
