"""sadcl compare: methods side by side, several seeds each, on one data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sadcl_cli.console import show, show_json, warn
from sadcl_cli.options import Dataset, DatasetFolder, Json, Seeds, complete_method, takes_flags, takes_verbosity
from sadcl_core.config.methods import ABLATION


@takes_verbosity
@takes_flags(shared=True)
def compare(
    dataset: Dataset,
    data: DatasetFolder = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="NAME,NAME",
            help="As in train --list-methods, NAME+s2s+p2s with contrast; the first is what others are compared with. "
            "baseline,sadcl unless given.",
            autocompletion=complete_method,
        ),
    ] = None,
    ablation: Annotated[bool, typer.Option("--ablation", help=f"The published ablation: {', '.join(ABLATION)}.")] = False,
    seeds: Seeds = "3",
    rates: Annotated[
        str | None,
        typer.Option(
            "--rates",
            metavar="LR,LR",
            help="Learning rates: each method gets the best one on a quarter of the training images, trained on the others.",
        ),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder of the comparison; runs/compare-NAME unless given."),
    ] = None,
    json: Json = False,
    **flags: Any,
) -> None:
    """Train several methods with several seeds and the same number of epochs, and show them in one table.

    Give the same command again to go on after an interruption; finished runs are kept, more seeds or methods are added.
    """
    from sadcl_cli.display.comparison import ComparisonDisplay, show_comparison
    from sadcl_core.errors import DivergedError
    from sadcl_core.experiments.compare import DEFAULT_METHODS, compare

    with ComparisonDisplay() as display:
        try:
            comparison = compare(
                dataset,
                data=data,
                methods=DEFAULT_METHODS if methods is None else methods,
                ablation=ablation,
                seeds=seeds,
                rates=rates,
                output=output,
                listen=display,
                progress=display.progress,
                **flags,
            )
        except KeyboardInterrupt:
            if display.plan is not None:
                warn(f"stopped; finished runs are kept in {display.plan.folder}. The same command goes on from there.")
            raise
    if comparison.diverged:
        warn(f"no numbers of {', '.join(comparison.diverged)}: training diverged. Try a lower --lr, in another -o.")
    if json:
        show_json(comparison.as_json())
    else:
        show_comparison(comparison)
        show(f"results saved to {comparison.folder}: comparison.md, comparison.csv, comparison.json, comparison.png")
    if comparison.diverged:
        raise typer.Exit(DivergedError.exit_code)
