"""sadcl train: both stages in one command, watched live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadcl_cli.console import counting, say, show, show_json, warn
from sadcl_cli.options import (
    DEVICES,
    PRECISION_HELP,
    PRECISIONS,
    Debug,
    Json,
    Quiet,
    Verbose,
    Workers,
    complete_dataset,
    complete_head,
    complete_preset,
)
from sadcl_core.data.formats import FORMATS
from sadcl_core.model.heads import HEADS

if TYPE_CHECKING:
    from sadcl_core.config import Layer
    from sadcl_core.data.manifest import Manifest
    from sadcl_core.presets import Configured
    from sadcl_core.run_directory import RunDirectory


def train(
    dataset: Annotated[
        str,
        typer.Argument(help=f"{', '.join(FORMATS)}, or a folder from prepare-data.", autocompletion=complete_dataset),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where the data set lies; data/NAME unless given.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Recipe to start from; chosen from the data unless given.", autocompletion=complete_preset),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help=f"{', '.join(HEADS)}; sarl unless given.", autocompletion=complete_head)
    ] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="Any timm model, such as resnet50.")] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            "--pretrained", metavar="FILE|hub", help="Weights of the backbone: a .safetensors or .pth file, or the hub's."
        ),
    ] = None,
    no_pretrained: Annotated[bool, typer.Option("--no-pretrained", help="Start from random weights.")] = False,
    epochs: Annotated[
        str | None, typer.Option("--epochs", metavar="N[,N]", help="Epochs of every stage, or of each: 15,5.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", min=1, help="Images a step.")] = None,
    img_size: Annotated[int | None, typer.Option("--img-size", min=16, max=4096, help="Side in pixels.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Peak learning rate of every stage.")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay", help="Of AdamW.")] = None,
    device: Annotated[str | None, typer.Option("--device", metavar=DEVICES, help="Where to compute.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", metavar=PRECISIONS, help=PRECISION_HELP)] = None,
    workers: Workers = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of every random choice.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RUN", help="Run directory; runs/NAME unless given.")
    ] = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Replace the run in this directory.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="YAML file, such as the config.yaml of a run.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting: --set optim.ema_decay=0.99.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Train a model: label features first, then the contrastive losses from the prototypes built in between.

    Prepares the data set unless that has been done.
    """
    from sadcl_core.config import RunConfig, load_config_file, parse_assignment
    from sadcl_core.errors import UsageError
    from sadcl_core.presets import configure
    from sadcl_core.run_directory import RunDirectory, new_run_path

    if pretrained and no_pretrained:
        raise UsageError("--pretrained and --no-pretrained exclude each other. Give one of them.")
    if output is not None:  # before any long work
        RunDirectory(output).refuse_existing(exist_ok=exist_ok)
    stages = list(RunConfig().stages)
    flags: dict[str, Any] = {
        "model": {"head": head, "backbone": backbone, "pretrained": _pretrained(pretrained, no_pretrained)},
        "data": {"batch_size": batch_size, "img_size": img_size, "workers": workers},
        "optim": {"weight_decay": weight_decay},
        "stages": {name: {"epochs": count, "lr": lr} for name, count in zip(stages, _epochs(epochs, len(stages)), strict=True)},
        "seed": seed,
        "device": device,
        "precision": precision,
    }
    layers: list[tuple[str, Layer]] = [] if config is None else [(str(config), load_config_file(config))]
    layers += [("--set", parse_assignment(text)) for text in set_ or []]
    layers.append(("flag", _given(flags)))
    manifest = _find(dataset, data)
    configured = configure(layers, dataset=manifest.description.name, split_sizes=manifest.split_sizes, preset=preset)
    say(f"preset {configured.config.preset}: {configured.why}")
    run = RunDirectory(output or new_run_path(manifest.description.name))
    _train(configured, manifest, run, exist_ok=exist_ok, json=json)


def _find(dataset: str, data: Path | None) -> Manifest:
    from sadcl_core.data.prepare import find_or_prepare

    with counting("checking images") as progress:
        manifest, taken = find_or_prepare(dataset, data=data, progress=progress)
    say(f"data {manifest.description.name}: {taken}")
    for note in manifest.description.notes:
        say(f"data {manifest.description.name}: {note}")
    return manifest


def _pretrained(pretrained: str | None, no_pretrained: bool) -> bool | str | None:
    """What the flags say of model.pretrained; None when they say nothing."""
    if no_pretrained:
        return False
    return True if pretrained == "hub" else pretrained


def _epochs(text: str | None, stages: int) -> list[int | None]:
    """`20` is for every stage, `15,5` for each."""
    from sadcl_core.errors import UsageError

    if text is None:
        return [None] * stages
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts) or len(parts) not in (1, stages):
        raise UsageError(
            f"--epochs {text!r} is not a number of epochs, or one for each of the {stages} stages. Write 20 or 15,5."
        )
    counts: list[int | None] = [int(part) for part in parts]
    return counts * stages if len(counts) == 1 else counts


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were used."""
    given: dict[str, Any] = {}
    for key, value in flags.items():
        if isinstance(value, dict):
            inner = _given(value)
            if inner:
                given[key] = inner
        elif value is not None:
            given[key] = value
    return given


def _train(configured: Configured, manifest: Manifest, run: RunDirectory, *, exist_ok: bool, json: bool) -> None:
    from sadcl_cli.training_display import TrainingDisplay
    from sadcl_core.training.fit import train as fit

    config, sources = configured.config, configured.sources
    display = TrainingDisplay(config)
    try:
        with display:
            result = fit(config, sources, manifest, run, exist_ok=exist_ok, listen=display)
    except KeyboardInterrupt:
        kept = run.best if run.best.is_file() else run.last
        if display.stage.number and kept.is_file():
            warn(f"stopped; what was learned is kept in {kept}. Look at it: sadcl eval -w {run.path}")
        raise
    held_out = result.best_map
    if json:
        document = {
            "schema_version": 1,
            "run": str(run.path),
            "model": str(run.best),
            "best": {"mAP_interpolated": held_out, "stage": result.stage, "epoch": result.epoch},
        }
        show_json(document)
    else:
        show(f"best EMA mAP {held_out:.2f} interpolated (stage {result.stage}, epoch {result.epoch})")
        show(f"results saved to {run.path}")
