"""sadcl extend: a class more for a trained model, from a few photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import say, show, show_json, stages, warn
from sadcl_cli.options import MOST, BatchSize, Data, Device, Json, Workers, complete_run, takes_verbosity
from sadcl_core.errors import DataError
from sadcl_core.runtime.words import counted


@takes_verbosity
def extend_command(
    weights: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run or model file, which stays as it is.", autocompletion=complete_run)
    ],
    photos: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE|DIR|...", help="Images that show the new class, in every form that predict takes."),
    ],
    *,
    add: Annotated[str, typer.Option("--add", metavar="CLASS", help="Name of the new class.")],
    negatives: Annotated[
        list[str] | None,
        typer.Option(
            "--negatives",
            metavar="IMAGE|DIR",
            help="Images that do not show it; those of the run's data count as such unless given. May be repeated.",
        ),
    ] = None,
    data: Data = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=0,
            max=1000,
            help="Steps in which the new rows are trained; unless given none where a linear layer is solved, else 60.",
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--limit", min=10, max=MOST, help="Images without the class in the fit, and in the comparison, at most."),
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is chosen by chance.")] = 0,
    device: Device = "auto",
    batch_size: BatchSize = 32,
    workers: Workers = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Directory of the new run; RUN-CLASS unless given.")
    ] = None,
    json: Json = False,
) -> None:
    """Add a class to a model from a few photos, as a new run. The old classes stay as they are, every weight to the bit.

    What the class reaches is measured on photos that its fit left out, among images without it.
    """
    from sadcl_core.training.extend import extend

    with stages() as progress:
        extension = extend(
            weights,
            photos,
            add=add,
            negatives=negatives or (),
            data=data,
            output=output,
            steps=steps,
            limit=limit,
            seed=seed,
            device=device,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )

    from sadcl_cli.display.extend import document_of, sentences_of

    if json:
        show_json(document_of(extension))
    else:
        result, *notes = sentences_of(extension)
        show(result)
        for note in notes:
            say(note)
    for error in extension.errors:
        warn(error)
    if extension.errors:
        raise DataError(f"{counted(len(extension.errors), 'image')} could not be read; the class is added without them.")
