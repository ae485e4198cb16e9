"""`sadcl_core.compare`: methods side by side, several seeds each, on one data set, in one table.

Importing this module imports no torch, so that a mistake in a flag is reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadcl_core.config.flags import flag_layers
from sadcl_core.config.methods import ABLATION, find_method
from sadcl_core.errors import UsageError
from sadcl_core.runs.run_directory import RUNS
from sadcl_core.runtime.files import safe_name
from sadcl_core.training.listeners.events import ComparisonPlanned, Listener, SettingsChosen, ignore
from sadcl_core.training.train import find_data, refuse_missing

if TYPE_CHECKING:
    from sadcl_core.data.manifest import Manifest
    from sadcl_core.experiments.plan import Plan
    from sadcl_core.experiments.tables import Comparison
    from sadcl_core.runtime.progress import StagedProgress

MAX_SEEDS = 100
DEFAULT_METHODS = ("baseline", "sadcl")


def compare(
    dataset: str | Path | Manifest,
    *,
    data: str | Path | None = None,
    methods: str | Sequence[str] = DEFAULT_METHODS,
    ablation: bool = False,
    seeds: int | str | Sequence[int] = 3,
    rates: str | Sequence[float] | None = None,
    output: str | Path | None = None,
    listen: Listener = ignore,
    progress: StagedProgress | None = None,
    **flags: Any,
) -> Comparison:
    """Train several methods with several seeds and the same number of epochs; what `sadcl compare` does.

    Finished runs in the folder are kept, and one that was stopped goes on where it was: call it again after an interruption, or
    with more methods or seeds. A run that diverges has no numbers, and the others go on.

    Args:
        dataset: a name, a folder, a label file, a folder from `prepare`, or a manifest.
        data: folder of the data set; `data/NAME` unless given.
        methods: names of methods, or text such as `baseline,sadcl`; the others are compared with the first.
        ablation: compare the methods of the published ablation instead.
        seeds: how many, from 1 on; or which: a list, or text such as `1,2,7`.
        rates: learning rates, such as `3e-4,1e-3,3e-3`: each method gets the one that reaches the highest mAP on a quarter of
            the training images when trained on the others. That of the recipe unless given.
        output: folder of the comparison; `runs/compare-NAME` unless given.
        listen: receives the events of `sadcl_core.training.listeners.events`.
        progress: is called while the data are prepared.
        flags: the other flags of `sadcl compare`, rows of `sadcl_core.config.flags.FLAGS`: preset, epochs, lr, device, config,
            set and so on. They tune a method, and cannot change what it is.

    Returns:
        The numbers of every run, in percent, and their mean and deviation over the seeds; `folder` holds the runs,
        comparison.json, comparison.csv, comparison.md and comparison.png.

    Raises:
        UsageError: a method, flag or setting does not exist or has no such value, is named twice, or the folder holds other runs.
        DataError: data, images or files of a run are missing or damaged.
        MachineError: a device, memory or the disk is not enough.
        KeyboardInterrupt: the state of the run was saved.

    Example:
        >>> comparison = compare("digits", methods=("baseline", "sadcl"), seeds=5, epochs="13,5")  # doctest: +SKIP
        >>> comparison.values("sadcl").shape, str(comparison.difference("sadcl")), comparison.higher("sadcl")  # doctest: +SKIP
        ((5,), '1.50 ± 0.42', 5)
        >>> comparison.folder / "comparison.png"  # doctest: +SKIP
        PosixPath('runs/compare-digits/comparison.png')
    """
    names, numbers = _methods(methods, ablation=ablation), read_seeds(seeds)
    for name in ("method", "seed"):
        if flags.get(name) is not None:
            raise UsageError(f"A comparison has several: give {name}s instead of {name}.")
    if rates is not None and flags.get("lr") is not None:
        raise UsageError("--rates chooses the learning rate of every method. Leave out --lr.")
    to_choose = None if rates is None else read_rates(rates)
    layers = flag_layers(**flags)
    refuse_missing(layers)
    manifest = find_data(dataset, data, listen=listen, progress=progress)

    from sadcl_core.experiments.plan import plan

    plan_of = partial(plan, layers, manifest, methods=names)
    planned = plan_of(seeds=numbers)
    folder = Path(output) if output else RUNS / safe_name(f"compare-{manifest.description.name}")
    listen(SettingsChosen(planned.runs[0].configured))
    if to_choose is not None:
        from sadcl_core.experiments.rates import choose_rates

        def plan_at(rate: float) -> Plan:
            return plan_of(seeds=numbers[:1], rates=dict.fromkeys(names, rate))

        planned = plan_of(seeds=numbers, rates=choose_rates(plan_at, to_choose, manifest, folder, listen=listen))
    listen(ComparisonPlanned(folder, len(planned.runs), len(planned.first_stages)))
    return compare_runs(planned, manifest, folder, listen=listen)


def compare_runs(planned: Plan, manifest: Manifest, folder: Path, *, listen: Listener = ignore) -> Comparison:
    """Train and evaluate the runs of a plan that are not finished, and write their tables and figure; raises as `compare`."""
    from sadcl_core.experiments.run import run_plan
    from sadcl_core.experiments.tables import save_comparison
    from sadcl_core.plots.comparison import plot_comparison

    comparison = run_plan(planned, manifest, folder, listen=listen)
    save_comparison(comparison)
    plot_comparison(
        {method: comparison.values(method).tolist() for method in comparison.methods},
        comparison.seeds,
        folder / "comparison.png",
        title=f"{comparison.dataset}: {comparison.backbone}, preset {comparison.preset}",
    )
    return comparison


def _methods(methods: str | Sequence[str], *, ablation: bool) -> tuple[str, ...]:
    """Return the names of the methods, each a row of METHODS."""
    if isinstance(methods, str):
        methods = [name.strip() for name in methods.removesuffix(",").split(",")]
    if ablation and tuple(methods) != DEFAULT_METHODS:
        raise UsageError("--ablation names its methods itself. Leave out --methods.")
    names = ABLATION if ablation else tuple(methods)
    for name in names:
        find_method(name)
    _refuse_repeated("method", names)
    return names


def read_seeds(seeds: int | str | Sequence[int]) -> list[int]:
    """Return the seeds: `3` is 1, 2, 3; `1,5` is 1 and 5, and so is a list of them."""
    parts: Sequence[Any] = [seeds]
    if isinstance(seeds, str):
        parts = seeds.removesuffix(",").split(",")
    elif isinstance(seeds, Sequence):
        parts = seeds
    texts = [str(part).strip() for part in parts]
    if not all(text.isdecimal() and len(text) < 10 for text in texts):
        raise UsageError(f"--seeds {str(seeds)!r} is neither a number of seeds nor a list of them. Write 3, or 1,2,7.")
    numbers = [int(text) for text in texts]
    if isinstance(seeds, int) or (isinstance(seeds, str) and "," not in seeds):
        if not 1 <= numbers[0] <= MAX_SEEDS:
            raise UsageError(f"--seeds {seeds}: give 1 to {MAX_SEEDS}, or name one with a comma after it.")
        return list(range(1, numbers[0] + 1))
    _refuse_repeated("seed", numbers)
    return numbers


def read_rates(rates: str | Sequence[float]) -> tuple[float, ...]:
    """Return the learning rates to choose from: `3e-4,1e-3`, or a list of them."""
    parts = rates.removesuffix(",").split(",") if isinstance(rates, str) else rates
    try:
        numbers = tuple(float(part) for part in parts)
        for number in numbers:
            flag_layers(lr=number)
    except (TypeError, ValueError, UsageError):
        numbers = ()
    if len(numbers) < 2:
        raise UsageError(f"--rates {str(rates)[:100]!r}: give two or more numbers above 0, such as 3e-4,1e-3,3e-3.")
    _refuse_repeated("rate", numbers)
    return numbers


def _refuse_repeated(what: str, values: Sequence[object]) -> None:
    """Raise a UsageError when a value is given twice, or none is."""
    if not values or len(set(values)) < len(values):
        raise UsageError(f"Give every {what} once, and at least one: {', '.join(map(str, values)) or 'none was given'}.")
