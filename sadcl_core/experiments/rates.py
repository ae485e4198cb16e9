"""The learning rate of each method of a comparison, chosen on part of the training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sadcl_core.config.flags import FLAGS
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import DivergedError
from sadcl_core.experiments.part import FIT, JUDGE, part_of_training
from sadcl_core.experiments.plan import Plan, PlannedRun
from sadcl_core.experiments.run import run_plan
from sadcl_core.experiments.tables import save_comparison
from sadcl_core.training.listeners.events import ComparisonPlanned, Listener, RatesChosen, ignore

FOLDER = "rates"  # in that of the comparison


def choose_rates(
    planned: Plan, rates: Sequence[float], manifest: Manifest, folder: Path, *, listen: Listener = ignore
) -> Mapping[str, float]:
    """Return the rate of each method with the highest mAP on a quarter of the training images, trained on the others.

    Each method is trained once with each rate, with the first seed and the epochs of the comparison. The held-out images take
    no part. Of equals the lower rate wins; a run that diverges loses.

    Args:
        planned: the comparison.
        rates: to choose from; every stage of a run has the same.
        manifest: the data set.
        folder: of the comparison, in which the runs are kept as those of a comparison of their own.
        listen: receives the events of every run.

    Raises:
        UsageError: as `part_of_training` and `run_plan`.
        DataError: there are too few training images.
        DivergedError: a method diverges with every rate.
    """
    first = planned.runs[0]
    part = part_of_training(manifest, first.configured.config.data.train_split).save(folder / FOLDER / "data")
    runs = {(run.method, rate): _judged(run, rate) for run in planned.runs if run.seed == first.seed for rate in sorted(rates)}
    listen(ComparisonPlanned(folder / FOLDER, len(runs), 0))
    comparison = run_plan(Plan({}, tuple(runs.values())), part, folder / FOLDER, listen=listen)
    save_comparison(comparison)
    reached = {key: comparison.values(run.method)[0] for key, run in runs.items()}
    chosen = {}
    for method in dict.fromkeys(method for method, _ in runs):
        of_method = {rate: reached[method, rate] for rate in sorted(rates) if reached[method, rate] == reached[method, rate]}
        if not of_method:
            raise DivergedError(f"{method} diverges with each of the --rates. Give lower ones, such as {min(rates) / 10:g}.")
        chosen[method] = max(of_method, key=lambda rate: of_method[rate])
    listen(RatesChosen(chosen))
    return chosen


def _judged(run: PlannedRun, rate: float) -> PlannedRun:
    """Return a run with a rate, on the parts of the training images."""
    configured, name = run.configured, f"{run.method}-{rate:g}"
    config = configured.config
    stages = {stage: settings.model_copy(update={"lr": rate}) for stage, settings in config.stages.items()}
    data = config.data.model_copy(update={"train_split": FIT, "eval_split": JUDGE})
    sources = {**configured.sources, "data.train_split": "rates", "data.eval_split": "rates"}
    sources |= {FLAGS["lr"].setting.replace("*", stage): "rates" for stage in stages}
    config = config.model_copy(update={"stages": stages, "data": data})
    return PlannedRun(name, name, run.seed, type(configured)(config, sources, configured.why))
