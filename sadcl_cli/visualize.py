"""sadcl visualize: the figures of the paper and of a run, as PNG, SVG or PDF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadcl_cli import options
from sadcl_cli.console import counting, say, show, show_json, warn
from sadcl_cli.display.model import open_model, open_model_and_split

if TYPE_CHECKING:
    from sadcl_core.inference.load import Model
    from sadcl_core.metrics.separation import Separation

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Run = Annotated[
    Path | None, typer.Option("--weights", "-w", metavar="RUN", help="A run; the one that finished last unless given.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of t-SNE.")]


@app.callback()
def visualize() -> None:
    """Draw a figure. The suffix of --output chooses PNG, SVG or PDF."""


@app.command()
@options.takes_verbosity
def prototypes(
    weights: options.Weights = None,
    classes: options.Classes = "",
    output: options.Output = None,
    seed: Seed = 0,
    json: options.Json = False,
) -> None:
    """Draw the class prototypes: t-SNE, cosines and the classes most alike; --json: the nearest of each class."""
    target = _place(output, "prototypes")
    model = open_model(weights, device="cpu", classes=classes)

    from sadcl_core.inference.figures import draw_prototypes

    path = target or model.folder("plots") / "prototypes.png"
    nearest = draw_prototypes(model, path, seed=seed)
    rounded = {name: {other: round(cosine, 4) for other, cosine in others.items()} for name, others in nearest.items()}
    _finish(path, json=json, nearest=rounded)


@app.command()
@options.takes_verbosity
def embeddings(
    weights: options.Weights = None,
    classes: options.Classes = "",
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            metavar="RUN_OR_FILE",
            help="Another model beside it, such as one trained without contrastive losses. May be repeated.",
            autocompletion=options.complete_run,
        ),
    ] = None,
    data: options.Data = None,
    split: options.Split = None,
    limit: options.Limit = 1000,
    img_size: options.ImgSize = None,
    batch_size: options.BatchSize = 32,
    device: options.Device = "auto",
    workers: options.Workers = None,
    output: options.Output = None,
    seed: Seed = 0,
    json: options.Json = False,
) -> None:
    """Draw t-SNE of the label features of active labels, before and after projection, coloured by class."""
    from sadcl_core.inference.load import find_card
    from sadcl_core.runs.card import is_checkpoint

    target = _place(output, "embeddings")
    names = {path: classes if is_checkpoint(path) else "" for path in against or ()}
    for path in against or ():
        find_card(path, classes=names[path], img_size=img_size)  # before torch is imported
    model, images = open_model_and_split(weights, data=data, split=split, device=device, img_size=img_size, classes=classes)
    others = [open_model(path, device=device, img_size=img_size, classes=names[path]) for path in against or ()]

    from sadcl_core.inference.figures import draw_embeddings

    path = target or model.folder("plots") / "embeddings.png"
    models = [(_title(one) if others else "", one) for one in (model, *others)]
    with counting("embedding images") as progress:
        apart = draw_embeddings(
            models, images, path, limit=limit, batch_size=batch_size, workers=workers, seed=seed, progress=progress
        )
    separations = {
        str(model.path): {"before": _numbers(before), "after": _numbers(after)}
        for (_, model), (before, after) in zip(models, apart, strict=True)
    }
    _finish(path, json=json, split=images.name, separation=separations)


@app.command()
@options.takes_verbosity
def attention(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR...", help="Images, in every form that predict takes.")],
    weights: options.Weights = None,
    classes: options.Classes = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="CLASS", help="Class to show. May be repeated.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="A,B", help="Classes to show; those above their threshold unless given.")
    ] = None,
    threshold: options.Threshold = None,
    topk: Annotated[
        int | None, typer.Option("--topk", min=1, max=options.MOST, help="The k best labels, whatever their score.")
    ] = None,
    limit: options.Limit = None,
    img_size: options.ImgSize = None,
    device: options.Device = "auto",
    output: options.Output = None,
) -> None:
    """Draw over each image where its labels were read from: all labels above their threshold."""
    from itertools import islice

    from sadcl_core.data.image_stream import open_images
    from sadcl_core.data.images import image_size
    from sadcl_core.errors import DataError, UsageError

    single = output is not None and output.suffix != "" and not output.is_dir()
    target = _place(output, "attention") if single else None
    stream = list(islice(open_images(images), limit))
    if single and len(stream) > 1:
        raise UsageError(f"{output} is one figure, and {len(stream):,} images were given. Name a folder with -o.")
    if len(stream) == 1 and isinstance(stream[0].source, Path):
        image_size(stream[0].source)  # raises for anything but an image before the model is loaded
    names = [*(label or ()), *([name.strip() for name in labels.split(",")] if labels else [])]
    model = open_model(weights, device=device, img_size=img_size, classes=classes, labels=names, threshold=threshold or ())

    from sadcl_core.inference.figures import draw_attention, figure_names

    folder = output or model.folder("plots")
    broken = 0
    for image, name in zip(stream, figure_names(stream), strict=True):
        try:
            path = draw_attention(model, image, target or folder / name, labels=names, topk=topk, threshold=threshold or None)
            show(f"figure saved to {path}")
        except DataError as error:
            if len(stream) == 1:
                raise
            broken += 1
            warn(f"{error}")
    if broken:
        raise DataError(f"{broken:,} of {len(stream):,} images could not be read; the others are drawn.")


@app.command()
@options.takes_verbosity
def curves(weights: Run = None, output: options.Output = None) -> None:
    """Draw every loss, the EMA mAP and the learning rate over the epochs, each on an axis of its own."""
    from sadcl_core.plots.curves import plot_curves
    from sadcl_core.runs.run_directory import RunDirectory, last_finished_run, read_status

    target = _place(output, "curves")
    run = RunDirectory(weights) if weights is not None else last_finished_run()
    say(f"run {run.path}")
    path, rows = target or run.path / "plots" / "curves.png", run.read_results()
    split = str(read_status(run.path).get("eval_split", ""))
    _finish(plot_curves(rows, path, title=str(run.path), split=split, steps=run.read_metrics()), json=False)


@app.command("co-occurrence")
@options.takes_verbosity
def co_occurrence(
    weights: options.Weights = None,
    classes: options.Classes = "",
    data: options.Data = None,
    split: Annotated[str, typer.Option("--split", help="Split to count in.")] = "train",
    output: options.Output = None,
) -> None:
    """Draw which labels come together: of the images with one label, the share that has another."""
    from sadcl_core.inference.load import find_card
    from sadcl_core.inference.split import open_split
    from sadcl_core.plots.co_occurrence import plot_co_occurrence

    target = _place(output, "co-occurrence")
    model = find_card(weights, classes=classes)
    images = open_split(model, data=data, split=split).split
    _finish(plot_co_occurrence(images, target or model.folder("plots") / "co-occurrence.png"), json=False)


@app.command()
@options.takes_verbosity
def thresholds(
    weights: options.Weights = None,
    classes: options.Classes = "",
    data: options.Data = None,
    split: options.Split = None,
    limit: options.Limit = None,
    img_size: options.ImgSize = None,
    batch_size: options.BatchSize = 32,
    device: options.Device = "auto",
    workers: options.Workers = None,
    output: options.Output = None,
    json: options.Json = False,
) -> None:
    """Draw precision against recall of every class, and F1 against the threshold; --json: the best thresholds."""
    target = _place(output, "thresholds")
    model, images = open_model_and_split(weights, data=data, split=split, device=device, img_size=img_size, classes=classes)

    from sadcl_core.inference.figures import draw_thresholds

    path = target or model.folder("plots") / "thresholds.png"
    with counting("scoring images") as progress:
        best = draw_thresholds(model, images, path, limit=limit, batch_size=batch_size, workers=workers, progress=progress)
    numbers = {name: {"value": round(value, 6), "threshold": threshold} for name, (value, threshold) in best.items()}
    _finish(path, json=json, split=images.name, best=numbers)


@app.command()
@options.takes_verbosity
def predictions(
    weights: options.Weights = None,
    classes: options.Classes = "",
    data: options.Data = None,
    split: options.Split = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=500, help="Images to draw.")] = 24,
    threshold: options.Threshold = None,
    img_size: options.ImgSize = None,
    device: options.Device = "auto",
    output: options.Output = None,
) -> None:
    """Draw held-out images with their predicted labels beside the true ones."""
    target = _place(output, "predictions")
    model, images = open_model_and_split(weights, data=data, split=split, device=device, img_size=img_size, classes=classes)

    from sadcl_core.inference.figures import draw_predictions

    path = target or model.folder("plots") / "predictions.png"
    _finish(draw_predictions(model, images, path, count=count, threshold=threshold or None), json=False)


@app.command()
@options.takes_verbosity
def batches(
    weights: Run = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Of the run; all that were trained unless given.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder; plots/ of the run unless given.")
    ] = None,
) -> None:
    """Draw the first batch of each stage as the network sees it: augmented, in all views, mixed."""
    from sadcl_core.config.layers import load_config_file, resolve_config
    from sadcl_core.data.manifest import find_prepared, load_with_images
    from sadcl_core.errors import UsageError
    from sadcl_core.registry import suggest
    from sadcl_core.runs.run_directory import RunDirectory, last_finished_run, read_status

    run = RunDirectory(weights) if weights is not None else last_finished_run()
    status = read_status(run.path)
    say(f"run {run.path}")
    config = resolve_config([("file", load_config_file(run.path / "config.yaml"))])[0]
    if stage is not None and stage not in config.used_stages:
        raise UsageError(f"{run.path} has no stage {stage!r}. {suggest(stage, config.used_stages)}")
    manifest = load_with_images(find_prepared(Path(str(status.get("manifest", ""))), run.path))

    from sadcl_core.training.batch_figure import draw_batch

    for name in [stage] if stage is not None else config.used_stages:
        _finish(draw_batch(config, manifest, name, (output or run.path / "plots") / f"batch-{name}.png"), json=False)


def _place(output: Path | None, name: str) -> Path | None:
    """Return the path that --output names, a figure or a folder for it; None where it is not given. Another suffix is refused."""
    from sadcl_core.plots.style import figure_format

    if output is None:
        return None
    target = output if output.suffix and not output.is_dir() else output / f"{name}.png"
    figure_format(target)
    return target


def _title(model: Model) -> str:
    method = model.card.trained.get("method", "")
    return f"{(model.run.path if model.run is not None else model.path).name}{f' ({method})' if method else ''}"


def _finish(path: Path, *, json: bool, **document: Any) -> None:
    """Say where a figure is, or return it as a document with its numbers."""
    if json:
        show_json({"schema_version": 1, "figure": str(path), **document})
    else:
        show(f"figure saved to {path}")


def _numbers(apart: Separation) -> dict[str, float | int | None]:
    values = {"silhouette": apart.silhouette, "between_within": apart.between_within}
    rounded = {name: round(value, 4) if math.isfinite(value) else None for name, value in values.items()}
    return {**rounded, "labels": apart.vectors, "classes": apart.classes}
