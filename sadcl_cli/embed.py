"""sadcl embed: features of images and of labels, as Parquet and as arrays that sadcl search reads."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Literal

import typer

from sadcl_cli.console import counting, say, show, show_json, warn
from sadcl_cli.display.model import open_model, open_model_and_split
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
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE|DIR|...]...",
            help="Images without labels, in every form that predict takes; the run's held-out split unless given.",
        ),
    ] = None,
    weights: Weights = None,
    data: Data = None,
    split: Split = None,
    every_label: Annotated[
        bool, typer.Option("--every-label", help="Features of inactive labels too, not only of active ones.")
    ] = False,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="Features of the labels that the model predicts, as for images without labels.")
    ] = False,
    coordinates: Annotated[
        Literal["tsne", "umap"] | None,
        typer.Option("--coordinates", help="Add columns x and y: places in the plane. umap needs sadcl[umap]."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the coordinates.")] = 0,
    img_size: ImgSize = None,
    batch_size: BatchSize = 32,
    limit: Limit = None,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Write label_features.parquet (a row per image and label), image_features.parquet (a row per image) and their vectors.

    sadcl search and any program that reads Parquet or NumPy arrays find alike images in them.
    """
    from sadcl_core.errors import DataError, UsageError
    from sadcl_core.inference.coordinates import check_rows, require_umap

    if images and (data or split or every_label):
        raise UsageError("IMAGE and DIR have no labels: leave out --data, --split and --every-label.")
    if every_label and predicted:
        raise UsageError("--every-label and --predicted exclude each other.")
    if coordinates == "umap":
        require_umap()
    errors: list[str] = []
    if images:
        from sadcl_core.data.image_stream import open_images

        stream = open_images(images)
        count = stream.count()
        model = open_model(weights, device=device, precision=precision, img_size=img_size)

        from sadcl_core.inference.embed_split import write_image_embeddings

        folder = output or model.folder("embeddings") / "images"
        with counting("embedding images") as progress:
            rows, errors = write_image_embeddings(
                model,
                islice(stream, limit),
                folder,
                count=count if limit is None or count is None else min(count, limit),
                batch_size=batch_size,
                workers=workers,
                progress=progress,
            )
    else:
        model, opened = open_model_and_split(
            weights, data=data, split=split, device=device, precision=precision, img_size=img_size
        )

        from sadcl_core.inference.embed_split import write_embeddings
        from sadcl_core.runtime.files import safe_name

        check_rows(min(len(opened), limit or len(opened)), coordinates)
        folder = output or model.folder("embeddings") / safe_name(opened.name)
        with counting("embedding images") as progress:
            rows = write_embeddings(
                model,
                opened,
                folder,
                batch_size=batch_size,
                workers=workers,
                limit=limit,
                pairs="every" if every_label else "predicted" if predicted else "active",
                progress=progress,
            )
    if coordinates:
        from sadcl_core.inference.coordinates import add_coordinates

        say(f"places in the plane by {coordinates}")
        add_coordinates(folder, method=coordinates, seed=seed)
    if json:
        show_json({"schema_version": 1, "files": {str(path): count for path, count in rows.items()}, "errors": errors})
    else:
        for path, count in rows.items():
            show(f"{count:,} rows saved to {path}")
    for error in errors:
        warn(error)
    if errors:
        done = rows[folder / "image_features.parquet"] + len(errors)
        raise DataError(f"{len(errors):,} of {done:,} images could not be read; the others are done.")
