"""The learning rate of each method of a comparison, chosen on part of the training images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sadcl_core.config.presets import Configured
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DivergedError
from sadcl_core.experiments.part import FIT, JUDGE, part_of_training
from sadcl_core.experiments.plan import Plan
from sadcl_core.experiments.run import run_plan
from sadcl_core.experiments.tables import save_comparison
from sadcl_core.training.listeners.events import ComparisonPlanned, Listener, RatesChosen, ignore

FOLDER = "rates"  # in that of the comparison


def choose_rates(
    plan_at: Callable[[float], Plan], rates: Sequence[float], manifest: Manifest, folder: Path, *, listen: Listener = ignore
) -> Mapping[str, float]:
    """Return the rate of each method with the highest mAP on a quarter of the training images, trained on the others.

    The held-out images take no part. Of equals the lower rate wins; a run that diverges loses. Each rate has a comparison of its
    own in the folder, of the runs that `plan_at` gives: those of each method with one seed.

    Raises:
        UsageError: as `part_of_training` and `run_plan`.
        DataError: there are too few training images.
        DivergedError: a method diverges with every rate.
    """
    plans = {rate: plan_at(rate) for rate in sorted(rates)}
    first = plans[min(rates)].runs
    data = first[0].configured.config.data
    part = part_of_training(manifest, data.train_split, limit=data.limit).save(folder / FOLDER / "data")
    reached: dict[str, dict[float, float]] = {run.method: {} for run in first}
    for rate, planned in plans.items():
        place = folder / FOLDER / str(rate)
        listen(ComparisonPlanned(place, len(planned.runs), len(planned.first_stages)))
        comparison = run_plan(_on_part(planned), part, place, listen=listen)
        save_comparison(comparison)
        values = {method: float(comparison.values(method)[0]) for method in comparison.methods}
        for method, value in values.items():
            reached[method] |= {} if math.isnan(value) else {rate: value}
    for method, of_method in reached.items():
        if not of_method:
            raise DivergedError(f"{method} diverges with each of the --rates. Give lower ones, such as {min(rates) / 10:g}.")
    chosen = {method: max(of_method, key=lambda rate: of_method[rate]) for method, of_method in reached.items()}
    listen(RatesChosen(chosen))
    return chosen


def _on_part(planned: Plan) -> Plan:
    """Return the same runs, on the parts of the training images."""

    def change(configured: Configured) -> Configured:
        data = configured.config.data.model_copy(update={"train_split": FIT, "eval_split": JUDGE})
        sources = {**configured.sources, "data.train_split": FOLDER, "data.eval_split": FOLDER}
        return replace(configured, config=configured.config.model_copy(update={"data": data}), sources=sources)

    first_stages = {name: change(configured) for name, configured in planned.first_stages.items()}
    return Plan(first_stages, tuple(replace(run, configured=change(run.configured)) for run in planned.runs))
