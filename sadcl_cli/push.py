"""sadcl push: a model on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import say, show
from sadcl_cli.options import Weights, takes_verbosity


@takes_verbosity
def push_command(
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the hub; made where it is not there.")],
    weights: Weights = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository that only you see.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Only write the folder that would be uploaded.")
    ] = None,
) -> None:
    """Give a model away: its file, its ONNX export if there is one, thresholds, and a page with what sadcl eval measured.

    A model whose head is timm's own is written for timm.create_model, too.

    Everybody then names it as -w hf://USER/NAME. Log in first: hf auth login.
    """
    from sadcl_core.runs.hub import check_repository

    name = check_repository(repository)  # before torch is imported

    from sadcl_core.exporting.push import push, write_folder

    if output is None:
        pushed = push(weights, repository, private=private)
        show(pushed.address)
        say(f"sadcl predict img.jpg -w hf://{name}")
    else:
        pushed = write_folder(weights, output, repository=repository)
        show(f"{', '.join(pushed.files)} written to {output}")
    if pushed.without_timm:
        say(f"without files for timm: {pushed.without_timm}")
