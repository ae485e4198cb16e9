"""sadcl embed: label features and image features as Parquet."""

from __future__ import annotations

from typing import Annotated

import typer

from sadcl_cli.console import counting, show, show_json
from sadcl_cli.opening import open_model, open_split
from sadcl_cli.options import (
    BatchSize,
    Data,
    Debug,
    Device,
    ImgSize,
    Json,
    Limit,
    Output,
    Precision,
    Quiet,
    Split,
    Verbose,
    Weights,
    Workers,
)


def embed(
    weights: Weights = None,
    data: Data = None,
    split: Split = None,
    every_label: Annotated[
        bool, typer.Option("--every-label", help="Features of inactive labels too, not only of active ones.")
    ] = False,
    img_size: ImgSize = None,
    batch_size: BatchSize = 32,
    limit: Limit = None,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = None,
    output: Output = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Write label_features.parquet (a row per image and label) and image_features.parquet (a row per image)."""
    from sadcl_core.inference.embed import label_features, write_embeddings

    opened = open_model(weights, device=device, precision=precision, img_size=img_size)
    images = open_split(opened, data=data, split=split)
    folder = output or opened.folder("embeddings") / images.name
    with counting("embedding images") as progress:
        batches = label_features(
            opened.model,
            images,
            device=opened.device,
            precision=opened.precision,
            batch_size=batch_size,
            workers=workers,
            limit=limit,
            every_label=every_label,
            progress=progress,
        )
        rows = write_embeddings(batches, images, folder)
    if json:
        show_json({"schema_version": 1, "files": {str(path): count for path, count in rows.items()}})
    else:
        for path, count in rows.items():
            show(f"{count:,} rows saved to {path}")
