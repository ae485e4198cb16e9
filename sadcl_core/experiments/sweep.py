"""`sadcl_core.sweep`: choose settings by trials on a part of the training images, and train the best with several seeds.

Importing this module imports no torch, so that a mistake in a flag is reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadcl_core.config.flags import flag_layers
from sadcl_core.config.layers import flatten
from sadcl_core.errors import DivergedError, MachineError, UsageError
from sadcl_core.experiments.compare import compare_runs, read_seeds
from sadcl_core.experiments.space import (
    default_space,
    parse_parameter,
    read_space,
    recipe_values,
    refuse_repeated,
    settings_layer,
)
from sadcl_core.runs.run_directory import RUNS
from sadcl_core.runtime.files import safe_name, write_json
from sadcl_core.runtime.packages import is_installed
from sadcl_core.training.listeners.events import (
    ComparisonPlanned,
    Listener,
    SettingsChosen,
    SweepPlanned,
    SweepTrial,
    TrialDone,
    ignore,
)
from sadcl_core.training.train import find_data, refuse_missing

if TYPE_CHECKING:
    from sadcl_core.config.presets import Configured
    from sadcl_core.data.manifest import Manifest
    from sadcl_core.experiments.tables import Comparison
    from sadcl_core.runtime.progress import StagedProgress

SCHEMA_VERSION = 1
RECIPE = "recipe"  # name of the settings without any choice, which the best are compared with
RUNS_OF_BEST = "best"  # folder of their runs
RESULT = "sweep.json"


@dataclass(frozen=True)
class Sweep:
    """The result of a sweep.

    Attributes:
        folder: of the study, the table of the trials and the runs.
        trials: in their order.
        best: the best ones, which were trained with seeds; the first is the one to take.
        comparison: of their runs with the recipe's, on the held-out images.
        config: settings of the first, a file for `sadcl train -c`.
        limit: the `data.limit` that this file has, too: images of a part that was swept on; 0: all.
    """

    folder: Path
    trials: tuple[SweepTrial, ...]
    best: tuple[SweepTrial, ...]
    comparison: Comparison
    config: Path
    limit: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return one document."""
        trials = _trials_as_json(self.folder, self.trials, self.best)
        return {**trials, "config": str(self.config), "comparison": self.comparison.as_json()}


def sweep(
    dataset: str | Path | Manifest,
    *,
    data: str | Path | None = None,
    trials: int = 30,
    param: Sequence[str] = (),
    space: str | Path | None = None,
    best: int = 3,
    seeds: int | str | Sequence[int] = 3,
    output: str | Path | None = None,
    listen: Listener = ignore,
    progress: StagedProgress | None = None,
    **flags: Any,
) -> Sweep:
    """Choose settings by trials, and train the best of them with several seeds; what `sadcl sweep` does.

    A trial trains on three quarters of the training images and is judged by its mAP on the others; the held-out images take no
    part. It ends early where its interval is below that of the best trial at the same epoch. Features of a frozen backbone are
    computed once for all, unless `frozen=False` is given. Call it again after an interruption, or with more trials.

    Args:
        dataset: a name, a folder, a label file, a folder from `prepare`, or a manifest.
        data: folder of the data set; `data/NAME` unless given.
        trials: that there are to be in all; the first has the settings of the recipe, see `recipe_values`.
        param: what is chosen, each `KEY=LOW..HIGH` or `KEY=A,B`; rates, decay, dropout and the loss unless given.
        space: a YAML file of the same, a line each.
        best: how many are trained with seeds, and compared with the recipe.
        seeds: as of `compare`.
        output: folder of the sweep; `runs/sweep-NAME` unless given.
        listen: receives the events of `sadcl_core.training.listeners.events`.
        progress: is called while the data are prepared.
        flags: the other flags of `sadcl compare`, and `method`.

    Raises:
        UsageError: a setting does not exist or has no such value, or the folder holds another sweep.
        DataError: data, images or files of a run are missing or damaged.
        DivergedError: no trial came to its end.
        MachineError: a package, a device, memory or the disk is not enough.
        KeyboardInterrupt: finished trials are kept.

    Example:
        >>> result = sweep("digits", trials=20, param=["lr=1e-4..1e-2"])  # doctest: +SKIP
        >>> result.best[0].settings, result.config  # doctest: +SKIP
        ({'stages.*.lr': 0.0031}, PosixPath('runs/sweep-digits/best/trial-7-seed1/config.yaml'))
    """
    if not is_installed("optuna"):
        raise MachineError("A sweep needs a package that is not installed: pip install 'sadcl[sweep]'.")
    numbers = read_seeds(seeds)
    parameters = (*(() if space is None else read_space(Path(space))), *map(parse_parameter, param))
    refuse_repeated(parameters)
    if flags.get("seed") is not None:
        raise UsageError("A sweep trains with several seeds: give seeds instead of seed.")
    flags["frozen"] = flags.get("frozen") is not False
    layers = flag_layers(**flags)
    refuse_missing(layers)
    manifest = find_data(dataset, data, listen=listen, progress=progress)

    from sadcl_core.config.presets import configure
    from sadcl_core.experiments.part import FIT, JUDGE, part_of_training
    from sadcl_core.experiments.plan import Plan, PlannedRun
    from sadcl_core.experiments.trials import Study
    from sadcl_core.model.classifier import head_options
    from sadcl_core.runs.lock import lock_folder
    from sadcl_core.training.setup import check_stages, data_facts, used_part
    from sadcl_core.training.transfer import with_network_of_init

    facts = cache(partial(data_facts, manifest, layers))

    def configured(values: dict[str, Any], source: str, **others: Any) -> Configured:
        chosen = [(source, settings_layer(values)), ("sweep", {"optim": {"time_budget": 0.0}, **others})]
        stack = with_network_of_init([*layers, *chosen])
        return configure(stack, dataset=manifest.description.name, split_sizes=manifest.split_sizes, facts=facts)

    recipe = configured({}, RECIPE)
    config = recipe.config
    check_stages(config)
    if not config.used_stages:
        raise UsageError("No stage has an epoch, so a trial cannot be judged. Give --epochs 1 or more.")
    options = head_options(config.model.head, config.model.heads.get(config.model.head, {}))
    parameters = parameters or default_space(config, list(type(options).model_fields))
    part = part_of_training(manifest, config.data.train_split, limit=config.data.limit)
    folder = Path(output) if output else RUNS / safe_name(f"sweep-{manifest.description.name}")
    _make(folder)
    with lock_folder(folder):
        of_head = {f"model.heads.{config.model.head}.{key}": value for key, value in options.model_dump().items()}
        settings = "\n".join([config.model_dump_json(exclude={"track", "device", "precision"}), *map(str, parameters)])
        study = Study.open(
            folder,
            parameters,
            first=recipe_values(parameters, {**flatten(config.model_dump()), **of_head}, config.used_stages),
            settings=f"{settings}\n{part.fingerprint()}",
        )
        listen(SettingsChosen(recipe))
        of_trial = partial(configured, data={"train_split": FIT, "eval_split": JUDGE})
        sizes, done = used_part(part, of_trial({}, RECIPE).config).split_sizes, len(study.trials)
        listen(SweepPlanned(folder, max(trials, done), done, tuple(map(str, parameters)), sizes[FIT], sizes[JUDGE]))
        while len(study.trials) < trials:
            trial = study.run_trial(of_trial, part, folder, listen)
            write_json(folder / RESULT, _trials_as_json(folder, study.trials, study.best[:best]))
            listen(TrialDone(trial, len(study.trials), trials, next(iter(study.best), None)))
        chosen = study.best[:best]
        if not chosen:
            raise DivergedError(
                f"None of the {trials} trials in {folder} came to its end. Give lower rates: --param lr=1e-5..1e-3."
            )
        methods = {RECIPE: {}, **{f"trial-{trial.number}": dict(trial.settings) for trial in chosen}}
        runs = tuple(
            PlannedRun(f"{name}-seed{seed}", name, seed, configured(values, name, seed=seed))
            for seed in numbers
            for name, values in methods.items()
        )
        listen(ComparisonPlanned(folder / RUNS_OF_BEST, len(runs), 0))
        comparison = compare_runs(Plan({}, runs), manifest, folder / RUNS_OF_BEST, listen=listen)
        name = f"trial-{chosen[0].number}-seed{numbers[0]}"
        path = folder / RUNS_OF_BEST / name / "config.yaml"
        result = Sweep(folder, study.trials, tuple(chosen), comparison, path, config.data.limit)
        write_json(folder / RESULT, result.as_json())
    return result


def _trials_as_json(folder: Path, trials: Sequence[SweepTrial], best: Sequence[SweepTrial]) -> dict[str, Any]:
    """Return what there is to say of a sweep before its comparison."""
    return {
        "schema_version": SCHEMA_VERSION,
        "folder": str(folder),
        "trials": [_as_json(trial) for trial in trials],
        "best": [trial.number for trial in best],
    }


def _as_json(trial: SweepTrial) -> dict[str, Any]:
    """Return a trial, NaN as None."""
    values = asdict(trial)
    numbers = {"map": trial.map, "low": trial.interval[0], "high": trial.interval[1]}
    values.pop("interval")
    return {**values, **{name: round(value, 4) if value == value else None for name, value in numbers.items()}}


def _make(folder: Path) -> None:
    """Make the folder of a sweep, which holds nothing but one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UsageError(f"The folder {folder} cannot be made ({error.strerror}). Choose another with -o.") from None
    if names and "study.log" not in names and names != {".lock"}:
        raise UsageError(f"{folder} holds other files and no sweep. Choose another with -o.")
