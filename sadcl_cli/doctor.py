"""sadcl doctor: what this machine has, and what went wrong in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import counting, say
from sadcl_cli.options import MOST, BatchSize, Device, Json, Workers, complete_run, takes_verbosity
from sadcl_core.errors import UsageError


@takes_verbosity
def doctor(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]",
            help="A run that went badly; only the machine unless given.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where the run's images lie now, if they moved.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST, help="Held-out images that are scored at most.")] = 1000,
    device: Device = "auto",
    batch_size: BatchSize = 32,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Report what this machine has for training and, of a RUN, what is probably wrong with it, the worst first.

    Each finding comes with its numbers and one thing to do. The exit code is 0 whatever is found.
    """
    if run is None and data is not None:
        raise UsageError("--data says where the images of a run are. Name the run: sadcl doctor RUN --data DIR.")
    from sadcl_cli.display.doctor import show_diagnosis
    from sadcl_core.diagnosis.diagnose import diagnose

    if run is None:
        say("looking at this machine; the hub has some seconds to answer")
    with counting("scoring held-out images") as progress:
        diagnosis = diagnose(
            run, data=data, limit=limit, device=device, batch_size=batch_size, workers=workers, progress=progress
        )
    show_diagnosis(diagnosis, json=json)
