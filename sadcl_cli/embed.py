"""sadcl embed: features of images and of labels, as Parquet and as arrays that sadcl search reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sadcl_cli import options
from sadcl_cli.console import counting, show, show_json, warn
from sadcl_cli.display.model import open_model, open_model_and_split
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from sadcl_core.inference.embed_split import Pairs


@options.takes_verbosity
def embed(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE|DIR|...]...",
            help="Images without labels, in every form that predict takes; the run's held-out split unless given.",
        ),
    ] = None,
    weights: options.Weights = None,
    classes: options.Classes = "",
    data: options.Data = None,
    split: options.Split = None,
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
    img_size: options.ImgSize = None,
    batch_size: options.BatchSize = 32,
    limit: options.Limit = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    workers: options.Workers = None,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """Write label_features.parquet (a row per image and label), image_features.parquet (a row per image) and their vectors.

    sadcl search and any program that reads Parquet or NumPy arrays find alike images in them.
    """
    from sadcl_core.errors import UsageError
    from sadcl_core.inference.coordinates import require_umap
    from sadcl_core.runtime.files import safe_name

    if images and (data or split or every_label):
        raise UsageError("IMAGE and DIR have no labels: leave out --data, --split and --every-label.")
    if every_label and predicted:
        raise UsageError("--every-label and --predicted exclude each other.")
    if coordinates == "umap":
        require_umap()
    loading: dict[str, Any] = {"device": device, "precision": precision, "img_size": img_size, "classes": classes}
    writing: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "limit": limit}
    writing |= {"coordinates": coordinates, "seed": seed}
    errors: list[str] = []
    if images:
        from sadcl_core.data.image_stream import open_images

        stream = open_images(images)
        model = open_model(weights, **loading)

        from sadcl_core.inference.embed_split import write_image_embeddings

        folder = output or model.folder("embeddings") / "images"
        with counting("embedding images") as progress:
            rows, errors = write_image_embeddings(model, stream, folder, progress=progress, **writing)
    else:
        model, opened = open_model_and_split(weights, data=data, split=split, **loading)

        from sadcl_core.inference.embed_split import write_embeddings

        folder = output or model.folder("embeddings") / safe_name(opened.name)
        pairs: Pairs = "every" if every_label else "predicted" if predicted else "active"
        with counting("embedding images") as progress:
            rows = write_embeddings(model, opened, folder, pairs=pairs, progress=progress, **writing)
    _show(rows, errors, json=json)


def _show(rows: dict[Path, int], errors: list[str], *, json: bool) -> None:
    """Show what was written; images that could not be read are an error."""
    from sadcl_core.errors import DataError

    if json:
        show_json({"schema_version": 1, "files": {str(path): count for path, count in rows.items()}, "errors": errors})
    else:
        for path, count in rows.items():
            show(f"{counted(count, 'row')} saved to {path}")
    for error in errors:
        warn(error)
    if errors:
        done = list(rows.values())[-1] + len(errors)  # the table of images is the last
        raise DataError(f"{len(errors):,} of {done:,} images could not be read; the others are done.")
