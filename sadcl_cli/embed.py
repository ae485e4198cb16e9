"""sadcl embed: label features and image features as Parquet."""

from __future__ import annotations

from typing import Annotated

import typer

from sadcl_cli.console import counting, show, show_json
from sadcl_cli.display.model import open_model_and_split
from sadcl_cli.options import (
    BatchSize,
    Data,
    Device,
    ImgSize,
    Json,
    Limit,
    Output,
    Precision,
    Split,
    Weights,
    Workers,
    takes_verbosity,
)


@takes_verbosity
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
) -> None:
    """Write label_features.parquet (a row per image and label) and image_features.parquet (a row per image)."""
    model, images = open_model_and_split(weights, data=data, split=split, device=device, precision=precision, img_size=img_size)

    from sadcl_core.inference.embed_split import write_embeddings
    from sadcl_core.runtime.files import safe_name

    with counting("embedding images") as progress:
        rows = write_embeddings(
            model,
            images,
            output or model.folder("embeddings") / safe_name(images.name),
            batch_size=batch_size,
            workers=workers,
            limit=limit,
            every_label=every_label,
            progress=progress,
        )
    if json:
        show_json({"schema_version": 1, "files": {str(path): count for path, count in rows.items()}})
    else:
        for path, count in rows.items():
            show(f"{count:,} rows saved to {path}")
