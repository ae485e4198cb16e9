"""sadcl sweep: settings chosen by trials on a part of the training images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sadcl_cli.console import show_json, warn
from sadcl_cli.options import MOST, Dataset, DatasetFolder, Json, Seeds, complete_method, takes_flags, takes_verbosity


@takes_verbosity
@takes_flags(shared=True)
def sweep(
    dataset: Dataset,
    data: DatasetFolder = None,
    trials: Annotated[
        int, typer.Option("--trials", "-n", min=1, max=MOST, help="Trials in all; more of them go on with the same sweep.")
    ] = 30,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="KEY=LOW..HIGH|A,B",
            help="A setting to choose, or a flag such as lr=1e-4..1e-2; the rates, decay, dropout and the loss unless given.",
        ),
    ] = None,
    space: Annotated[
        Path | None, typer.Option("--space", metavar="FILE", help="YAML file of the same: lines such as lr: 1e-4..1e-2.")
    ] = None,
    best: Annotated[int, typer.Option("--best", min=1, max=100, help="How many are trained with seeds at the end.")] = 3,
    seeds: Seeds = "3",
    method: Annotated[
        str | None, typer.Option("--method", help="What is trained, as for train.", autocompletion=complete_method)
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the sweep; runs/sweep-NAME unless given.")
    ] = None,
    json: Json = False,
    **flags: Any,
) -> None:
    """Choose settings by trials on a part of the training images, and compare the best with the recipe on the held-out ones.

    Features of a frozen backbone are computed once for all trials; --no-frozen fine-tunes in each.
    Give the same command again to go on after an interruption.
    """
    from sadcl_cli.display.sweep import SweepDisplay, show_sweep
    from sadcl_core.errors import DivergedError
    from sadcl_core.experiments.sweep import sweep

    with SweepDisplay() as display:
        try:
            result = sweep(
                dataset,
                data=data,
                trials=trials,
                param=param or (),
                space=space,
                best=best,
                seeds=seeds,
                output=output,
                listen=display,
                progress=display.progress,
                method=method,
                **flags,
            )
        except KeyboardInterrupt:
            if display.sweep is not None:
                warn(
                    f"stopped; finished trials and runs are kept in {display.sweep.folder}. The same command goes on from there."
                )
            raise
    if result.comparison.diverged:
        warn(f"no numbers of {', '.join(result.comparison.diverged)}: training diverged.")
    if json:
        show_json(result.as_json())
    else:
        show_sweep(result, dataset)
    if result.comparison.diverged:
        raise typer.Exit(DivergedError.exit_code)
