"""sadcl visualize: the figures of the paper and the training curves, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import counting, say, show
from sadcl_cli.opening import open_model, open_split
from sadcl_cli.options import BatchSize, Data, Debug, Device, ImgSize, Limit, Output, Quiet, Split, Verbose, Weights, Workers

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def visualize() -> None:
    """Draw a figure: prototypes, embeddings, attention or curves."""


@app.command()
def prototypes(
    weights: Weights = None,
    output: Output = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of t-SNE.")] = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """t-SNE of the class prototypes, coloured and shaped by superclass."""
    import torch

    from sadcl_core.errors import DataError
    from sadcl_core.inference.embed import two_dimensions
    from sadcl_core.plots.prototypes import plot_prototypes

    opened = open_model(weights, device="cpu")
    classifier, card = opened.model.classifier, opened.model.card
    if not card.has_prototypes:
        raise DataError(f"{opened.model.path} has no prototypes: it was trained without contrastive losses.")
    if len(card.classes) < 3:
        raise DataError(f"{opened.model.path} has {len(card.classes)} classes; a map needs at least 3.")
    with torch.inference_mode():
        embeddings = classifier.project(classifier.prototypes).numpy()
    points = two_dimensions(embeddings, seed=seed)
    title = f"{len(card.classes)} class prototypes of {card.trained.get('dataset', 'the model')}, t-SNE"
    path = plot_prototypes(
        points, card.classes, card.superclasses, _target(output, opened.folder("plots"), "prototypes.png"), title=title
    )
    show(f"figure saved to {path}")


@app.command()
def embeddings(
    weights: Weights = None,
    data: Data = None,
    split: Split = None,
    limit: Limit = 1000,
    img_size: ImgSize = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    workers: Workers = None,
    output: Output = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of t-SNE.")] = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """t-SNE of the label-level features of active labels, coloured by class."""
    import numpy as np

    from sadcl_core.errors import DataError
    from sadcl_core.inference.embed import label_features, two_dimensions
    from sadcl_core.plots.embeddings import plot_embeddings

    opened = open_model(weights, device=device, img_size=img_size)
    images = open_split(opened, data=data, split=split)
    with counting("embedding images") as progress:
        batches = list(
            label_features(
                opened.model,
                images,
                device=opened.device,
                precision=opened.precision,
                batch_size=batch_size,
                workers=workers,
                limit=limit,
                progress=progress,
            )
        )
    vectors = np.concatenate([batch.feature for batch in batches])
    labels = np.concatenate([batch.label for batch in batches])
    if len(vectors) < 3:
        raise DataError(f"Split {images.name} has {len(vectors)} active labels among these images; a map needs at least 3.")
    say(f"t-SNE of {len(vectors):,} label features")
    title = f"label features of {len(vectors):,} active labels, {images.manifest.description.name} {images.name}, t-SNE"
    path = plot_embeddings(
        two_dimensions(vectors, seed=seed),
        labels,
        opened.model.card.classes,
        _target(output, opened.folder("plots"), "embeddings.png"),
        title=title,
    )
    show(f"figure saved to {path}")


@app.command()
def attention(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    weights: Weights = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="A,B", help="Classes to show; the best ones unless given.")
    ] = None,
    topk: Annotated[int, typer.Option("--topk", min=1, help="How many of the best.")] = 3,
    img_size: ImgSize = None,
    device: Device = "auto",
    output: Output = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Where each label was read from, over an image."""
    from sadcl_core.data.images import open_image
    from sadcl_core.inference.attention import attention_maps
    from sadcl_core.plots.attention import LabelAttention, plot_attention

    picture = open_image(image)
    opened = open_model(weights, device=device, img_size=img_size)
    names = [name.strip() for name in labels.split(",")] if labels else []
    found = attention_maps(opened.model, picture, device=opened.device, precision=opened.precision, names=names, most=topk)
    panels = [
        LabelAttention(opened.model.card.classes[k], score, found.maps[number])
        for number, (k, score) in enumerate(zip(found.labels, found.scores, strict=True))
    ]
    path = plot_attention(
        picture,
        panels,
        _target(output, opened.folder("plots"), f"attention-{image.absolute().parent.name}-{image.stem}.png"),
        title=image.name,
    )
    show(f"figure saved to {path}")


@app.command()
def curves(
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="RUN", help="A run; the one that finished last unless given.")
    ] = None,
    output: Output = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Loss terms and EMA mAP over the epochs."""
    from sadcl_core.plots.curves import plot_curves
    from sadcl_core.runs.run_directory import RunDirectory, last_finished_run

    run = RunDirectory(weights) if weights is not None else last_finished_run()
    say(f"run {run.path}")
    path = plot_curves(run.read_results(), _target(output, run.path / "plots", "curves.png"), title=str(run.path))
    show(f"figure saved to {path}")


def _target(output: Path | None, folder: Path, name: str) -> Path:
    """Where a figure goes: into the folder or file asked for, else into `folder`."""
    if output is None:
        return folder / name
    return output if output.suffix and not output.is_dir() else output / name
