"""sadcl demo: a model in the browser, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import say, show
from sadcl_cli.display.model import open_model
from sadcl_cli.display.search import index_sentence
from sadcl_cli.options import Device, Precision, Weights, takes_verbosity


@takes_verbosity
def demo(
    weights: Weights = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index", metavar="DIR", help="Folder that sadcl embed wrote, for alike images; that of the run unless given."
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0: a free one.")] = 7860,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Show a page to drop images on: labels, scores, where they were seen, alike images, thresholds to move and to keep.

    The page is for this machine alone, and fetches nothing from elsewhere.
    """
    from sadcl_core.errors import DataError
    from sadcl_core.inference.embedding_index import open_index
    from sadcl_core.inference.load import find_card
    from sadcl_core.serving.serve import address_of, listen, serve

    with listen(port=port) as listening:
        file = find_card(weights)
        opened = None
        try:
            opened = open_index(index or file.folder("embeddings"))
            say(index_sentence(opened))
        except DataError:
            if index is not None:
                raise
            say("no alike images: sadcl embed makes what they are looked for in")
        model = open_model(weights, device=device, precision=precision)
        show(address_of(listening))
        say("open this address in a browser; Ctrl-C ends it")
        serve(model, listening, demo=True, index=opened)
