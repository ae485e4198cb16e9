"""sadcl serve: labels of images over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from sadcl_cli.console import say, show
from sadcl_cli.display.model import open_predictor
from sadcl_cli.options import MOST, Device, ImgSize, Precision, Tta, Uncalibrated, Weights, takes_verbosity


@takes_verbosity
def serve_command(
    weights: Weights = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0: every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0: a free one.")] = 8000,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, max=MOST, help="Images at most that go through the network together.")
    ] = 32,
    max_images: Annotated[int, typer.Option("--max-images", min=1, max=1000, help="Images of a request at most.")] = 32,
    max_mb: Annotated[float, typer.Option("--max-mb", min=0.001, max=10_000, help="Megabytes of a request at most.")] = 32,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=1, max=MOST, help="Images that wait at most; further ones are refused with 503.")
    ] = 1024,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds that a request has to come in.")] = 30,
    workers: Annotated[int | None, typer.Option("--workers", "-j", min=1, max=256, help="Threads that read images.")] = None,
    uncalibrated: Uncalibrated = False,
    img_size: ImgSize = None,
    tta: Tta = "none",
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Answer POST /predict with the labels of images, until Ctrl-C.

    The page at / takes dropped images and lists all requests; /health and /metrics are for whoever watches.
    """
    from sadcl_core.serving.serve import address_of, listen, serve

    with listen(host, port) as listening:
        model = open_predictor(weights, device=device, precision=precision, img_size=img_size, uncalibrated=uncalibrated, tta=tta)
        show(address_of(listening))
        say(f"curl -F images=@img.jpg {address_of(listening)}/predict; Ctrl-C ends it")
        serve(
            model,
            listening,
            batch_size=batch_size,
            most_images=max_images,
            most_bytes=round(max_mb * 1e6),
            most_waiting=max_waiting,
            body_seconds=timeout,
            workers=workers,
        )
