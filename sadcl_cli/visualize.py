"""sadcl visualize: the figures of the paper and the training curves, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import counting, say, show
from sadcl_cli.display.model import open_model, open_model_and_split
from sadcl_cli.options import MOST, BatchSize, Data, Device, ImgSize, Limit, Output, Split, Weights, Workers, takes_verbosity

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def visualize() -> None:
    """Draw a figure: prototypes, embeddings, attention or curves."""


@app.command()
@takes_verbosity
def prototypes(
    weights: Weights = None,
    output: Output = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of t-SNE.")] = 0,
) -> None:
    """t-SNE of the class prototypes, coloured and shaped by superclass."""
    model = open_model(weights, device="cpu")

    from sadcl_core.inference.figures import draw_prototypes

    path = draw_prototypes(model, _target(output, model.folder("plots"), "prototypes.png"), seed=seed)
    show(f"figure saved to {path}")


@app.command()
@takes_verbosity
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
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of t-SNE.")] = 0,
) -> None:
    """t-SNE of the label-level features of active labels, coloured by class."""
    model, images = open_model_and_split(weights, data=data, split=split, device=device, img_size=img_size)

    from sadcl_core.inference.figures import draw_embeddings

    with counting("embedding images") as progress:
        path = draw_embeddings(
            model,
            images,
            _target(output, model.folder("plots"), "embeddings.png"),
            limit=limit,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            progress=progress,
        )
    show(f"figure saved to {path}")


@app.command()
@takes_verbosity
def attention(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    weights: Weights = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="A,B", help="Classes to show; the best ones unless given.")
    ] = None,
    topk: Annotated[int, typer.Option("--topk", min=1, max=MOST, help="How many of the best.")] = 3,
    img_size: ImgSize = None,
    device: Device = "auto",
    output: Output = None,
) -> None:
    """Draw over an image where each label was read from."""
    from sadcl_core.data.images import image_size

    image_size(image)  # raises for anything but an image before the model is loaded
    names = [name.strip() for name in labels.split(",")] if labels else []
    model = open_model(weights, device=device, img_size=img_size, labels=names)

    from sadcl_core.inference.figures import draw_attention
    from sadcl_core.runtime.files import safe_name

    path = draw_attention(
        model,
        image,
        _target(output, model.folder("plots"), f"{safe_name(f'attention-{image.absolute().parent.name}-{image.stem}')}.png"),
        labels=names,
        topk=topk,
    )
    show(f"figure saved to {path}")


@app.command()
@takes_verbosity
def curves(
    weights: Annotated[
        Path | None, typer.Option("--weights", "-w", metavar="RUN", help="A run; the one that finished last unless given.")
    ] = None,
    output: Output = None,
) -> None:
    """Loss terms and EMA mAP over the epochs."""
    from sadcl_core.plots.curves import plot_curves
    from sadcl_core.runs.run_directory import RunDirectory, last_finished_run

    run = RunDirectory(weights) if weights is not None else last_finished_run()
    say(f"run {run.path}")
    path = plot_curves(run.read_results(), _target(output, run.path / "plots", "curves.png"), title=str(run.path))
    show(f"figure saved to {path}")


def _target(output: Path | None, folder: Path, name: str) -> Path:
    """Return where a figure goes: to the file or folder of `--output`, else into `folder`."""
    if output is None:
        return folder / name
    return output if output.suffix and not output.is_dir() else output / name
