"""sadcl suggest: which images to label next, for the program in which people label them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import counting, new_table, say, show_json, show_table, warn
from sadcl_cli.options import MOST, BatchSize, Device, Json, Precision, Workers, complete_run, takes_verbosity
from sadcl_core.registry import TASKS

SHOWN = 20  # images in the table on the terminal


@takes_verbosity
def suggest_command(
    weights: Annotated[Path, typer.Argument(metavar="RUN", help="Run or model file.", autocompletion=complete_run)],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE|DIR|...", help="Images without labels, in every form that predict takes.")
    ],
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=MOST, help="Images to choose.")] = 100,
    format: Annotated[str, typer.Option("--format", metavar="|".join(TASKS), help="Form of the file.")] = "csv",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="File to write; to-label.csv, .json or .xml unless given."),
    ] = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Replace the file.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = 32,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Choose the images to label next: those the model is least sure of, far from what it knows, and unlike one another.

    The file holds the model's labels as suggestions; prepare-data reads it back, and what nobody confirmed is unknown.
    """
    from sadcl_core.data.image_stream import open_images
    from sadcl_core.inference.labelling_tasks import check_tasks, write_tasks

    path = check_tasks(format, output, exist_ok=exist_ok)
    stream = open_images(images)

    from sadcl_cli.display.model import open_model
    from sadcl_core.inference.suggest import suggest

    model = open_model(weights, device=device, precision=precision)
    with counting("reading images") as progress:
        suggestions = suggest(model, stream, count=count, batch_size=batch_size, workers=workers, progress=progress)
    write_tasks(suggestions, format, path)
    for error in suggestions.errors:
        warn(error)
    rows = [
        {
            "image": one.image.name,
            "uncertainty": round(one.uncertainty, 4),
            "distance": None if one.distance is None else round(one.distance, 4),
            "labels": [{"name": name, "score": round(score, 6)} for name, score in one.labels],
        }
        for one in suggestions.chosen
    ]
    if json:
        show_json({"schema_version": 1, "file": str(path), "images": suggestions.seen, "suggestions": rows})
        return
    far = any(one.distance is not None for one in suggestions.chosen)
    table = new_table("", "image", "uncertainty", *(["distance"] if far else []), "labels", wrap=True)
    for number, one in enumerate(suggestions.chosen[:SHOWN], start=1):
        labels = ", ".join(f"{name} {score:.2f}" for name, score in one.labels)
        distance = [] if one.distance is None else [f"{one.distance:.2f}"]
        table.add_row(str(number), one.image.name, f"{one.uncertainty:.2f}", *distance, labels)
    show_table(table)
    say(f"{len(suggestions.chosen):,} of {suggestions.seen:,} images saved to {path}, the first to label first")
