"""sadcl compare: methods side by side, several seeds each, on one data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadcl_cli.console import new_table, say, show, show_json, show_table, warn
from sadcl_cli.options import DatasetFolder, Debug, Json, Quiet, Verbose, complete_dataset, complete_method, takes_flags
from sadcl_cli.recipe import find_data, say_recipe
from sadcl_core.config.flags import flag_layers
from sadcl_core.config.methods import ABLATION, find_method

if TYPE_CHECKING:
    from sadcl_core.config.schema import RunConfig
    from sadcl_core.experiments.tables import Comparison
    from sadcl_core.training.listeners.events import Listener

MAX_SEEDS = 100


@takes_flags(shared=True)
def compare(
    dataset: Annotated[
        str, typer.Argument(help="A data set as for train, or a folder from prepare-data.", autocompletion=complete_dataset)
    ],
    data: DatasetFolder = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="NAME,NAME",
            help="As in train --list-methods; the others are compared with the first. baseline,sadcl unless given.",
            autocompletion=complete_method,
        ),
    ] = None,
    ablation: Annotated[bool, typer.Option("--ablation", help=f"The published ablation: {', '.join(ABLATION)}.")] = False,
    seeds: Annotated[str, typer.Option("--seeds", metavar="N|N,N", help="How many, or which: 5, or 1,2,7.")] = "3",
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder of the comparison; runs/compare-NAME unless given."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    **flags: Any,
) -> None:
    """Train several methods with several seeds and the same number of epochs, and show them in one table.

    Give the same command again to go on after an interruption; finished runs are kept, more seeds or methods are added.
    """
    from sadcl_core.errors import DivergedError, UsageError
    from sadcl_core.runs.run_directory import RUNS

    if ablation and methods:
        raise UsageError("--ablation names its methods itself. Leave out --methods.")
    names = (methods or "baseline,sadcl").removesuffix(",").split(",")
    chosen = ABLATION if ablation else tuple(name.strip() for name in names)
    for name in chosen:  # before any long work
        find_method(name)
    numbers = _seeds(seeds)
    layers = flag_layers(**flags)
    manifest = find_data(dataset, data)

    from sadcl_core.experiments.run import compare as run_all
    from sadcl_core.experiments.run import plan
    from sadcl_core.experiments.tables import save_comparison
    from sadcl_core.plots.comparison import plot_comparison
    from sadcl_core.training.setup import data_facts

    facts = cache(partial(data_facts, manifest, layers))
    planned = plan(layers, manifest, methods=chosen, seeds=numbers, facts=facts)
    say_recipe(planned.runs[0].configured)
    folder = output or RUNS / f"compare-{manifest.description.name}"
    say(f"{len(planned.runs)} runs and {len(planned.first_stages)} shared first stages in {folder}")
    try:
        comparison = run_all(planned, manifest, folder, watch=_watch)
    except KeyboardInterrupt:
        warn(f"stopped; finished runs are kept in {folder}. The same command goes on from there.")
        raise
    save_comparison(comparison, folder)
    figure = plot_comparison(
        {method: comparison.values(method).tolist() for method in comparison.methods},
        comparison.seeds,
        folder / "comparison.png",
        title=f"{comparison.dataset}: {comparison.backbone}, preset {comparison.preset}",
    )
    if comparison.diverged:
        warn(f"no numbers of {', '.join(comparison.diverged)}: training diverged. Try a lower --lr, in another -o.")
    if json:
        show_json(comparison.as_json())
    else:
        _show(comparison)
        show(f"results saved to {folder}: comparison.md, comparison.csv, comparison.json, {figure.name}")
    if comparison.diverged:
        raise typer.Exit(DivergedError.exit_code)


def _seeds(text: str) -> list[int]:
    """`3` is 1, 2, 3; `1,5` is 1 and 5."""
    from sadcl_core.errors import UsageError

    parts = [part.strip() for part in text.removesuffix(",").split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise UsageError(f"--seeds {text!r} is neither a number of seeds nor a list of them. Write 3, or 1,2,7.")
    numbers = [int(part) for part in parts]
    if "," in text:
        return numbers
    if not 1 <= numbers[0] <= MAX_SEEDS:
        raise UsageError(f"--seeds {text}: give 1 to {MAX_SEEDS}, or name one with a comma after it.")
    return list(range(1, numbers[0] + 1))


@contextmanager
def _watch(headline: str, config: RunConfig) -> Iterator[Listener]:
    from sadcl_cli.display.training import TrainingDisplay

    say(headline)
    with TrainingDisplay() as display:
        yield display


def _show(comparison: Comparison) -> None:
    from sadcl_core.experiments.tables import COMMON

    header, *rows = comparison.rows(("mAP_interpolated_common", "OF1"))
    table = new_table(*(title.replace(" ", "\n") for title in header))
    for column in table.columns[1:]:  # where it is narrow, names are folded and never numbers
        column.no_wrap = True
    for row in rows:
        table.add_row(*row)
    show_table(table)
    seeds = ", ".join(map(str, comparison.seeds))
    show(f"percent, mean ± standard deviation over the seeds {seeds}; differences are paired by seed")
    show(f"{COMMON}+ positives: the mAP of the classes with {COMMON} or more held-out positives")
