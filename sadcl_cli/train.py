"""sadcl train: both stages in one command, watched live."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sadcl_cli.console import show, show_json, show_table, warn
from sadcl_cli.options import (
    Backbone,
    ClassMap,
    ConfigFile,
    DatasetFolder,
    Debug,
    Epochs,
    InitFrom,
    Json,
    Lr,
    NoPretrained,
    Preset,
    Pretrained,
    Quiet,
    Set,
    TrainBatchSize,
    TrainDevice,
    TrainImgSize,
    TrainPrecision,
    Verbose,
    WeightDecay,
    Workers,
    complete_dataset,
    complete_method,
)
from sadcl_cli.recipe import facts_of, find_data, say_recipe, user_layers
from sadcl_core.data.formats import DATASETS

if TYPE_CHECKING:
    from sadcl_core.data.manifest import Manifest
    from sadcl_core.presets import Configured
    from sadcl_core.run_directory import RunDirectory


def list_methods(value: bool) -> None:
    """What each method is made of, and where it comes from."""
    if not value:
        return
    from sadcl_cli.console import new_table
    from sadcl_core.methods import METHODS, SHORT

    table = new_table("method", "head", "losses, a line a stage", "what it is", "source", wrap=True)
    for name, method in METHODS.items():
        stages = "\n".join(
            " + ".join(f"{weight:g} {SHORT[loss]}" for loss, weight in losses.items()) for losses in method.stages.values()
        )
        table.add_row(name, method.head, stages, method.summary, method.source)
    show_table(table)
    show(", ".join(f"{short} {loss.replace('_', '-')}" for loss, short in SHORT.items()) + " loss")
    _show_papers()
    raise typer.Exit


def list_presets(value: bool) -> None:
    """The recipes, and for what each is."""
    if not value:
        return
    from sadcl_cli.console import new_table
    from sadcl_core.presets import PRESETS

    table = new_table("preset", "for what", "source", wrap=True)
    for name, preset in PRESETS.items():
        table.add_row(name, preset.summary, preset.source)
    show_table(table)
    _show_papers()
    raise typer.Exit


def _show_papers() -> None:
    from sadcl_core.methods import PAPERS

    for name, paper in PAPERS.items():
        show(f"{name}: {paper}")


def train(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help=f"{', '.join(DATASETS)}; a folder or label file of yours; or a folder from prepare-data.",
            autocompletion=complete_dataset,
        ),
    ] = None,
    data: DatasetFolder = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", help="What is trained; sadcl unless given, or named by a preset or model.", autocompletion=complete_method
        ),
    ] = None,
    list_methods: Annotated[
        bool,
        typer.Option("--list-methods", help="Show what each method is made of.", callback=list_methods, is_eager=True),
    ] = False,
    preset: Preset = None,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Show the recipes.", callback=list_presets, is_eager=True)
    ] = False,
    backbone: Backbone = None,
    pretrained: Pretrained = None,
    no_pretrained: NoPretrained = False,
    init_from: InitFrom = None,
    class_map: ClassMap = None,
    epochs: Epochs = None,
    batch_size: TrainBatchSize = None,
    img_size: TrainImgSize = None,
    lr: Lr = None,
    weight_decay: WeightDecay = None,
    device: TrainDevice = None,
    precision: TrainPrecision = None,
    workers: Workers = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of every random choice.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RUN", help="Run directory; runs/NAME unless given.")
    ] = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Replace the run in this directory.")] = False,
    config: ConfigFile = None,
    set_: Set = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show every value and where it comes from; train nothing.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Train a model: label features first, then the contrastive losses from the prototypes built in between.

    Prepares the data set unless that has been done.
    """
    from sadcl_core.config import flatten
    from sadcl_core.errors import UsageError
    from sadcl_core.presets import configure
    from sadcl_core.run_directory import RunDirectory, annotated, new_run_path

    if dataset is None and not print_config:
        raise UsageError("Name the data set, for example: sadcl train digits. See sadcl train --help.")
    if output is not None and not print_config:  # before any long work
        RunDirectory(output).refuse_existing(exist_ok=exist_ok)
    layers = user_layers(
        config=config,
        set_=set_,
        backbone=backbone,
        pretrained=pretrained,
        no_pretrained=no_pretrained,
        init_from=init_from,
        class_map=class_map,
        epochs=epochs,
        batch_size=batch_size,
        img_size=img_size,
        lr=lr,
        weight_decay=weight_decay,
        device=device,
        precision=precision,
        workers=workers,
        more={
            "method": method,
            "seed": seed,
        },
    )
    manifest = None if dataset is None else find_data(dataset, data)
    if any(flatten(layer).get("model.init_from") for _, layer in layers):
        from sadcl_core.training.transfer import with_network_of_init

        layers = with_network_of_init(layers, preset=preset)
    if manifest is None:
        configured = configure(layers, dataset="", split_sizes={}, preset=preset)
    else:
        name, sizes, facts = manifest.description.name, manifest.split_sizes, partial(facts_of, manifest, layers)
        configured = configure(layers, dataset=name, split_sizes=sizes, preset=preset, facts=facts)
    say_recipe(configured)
    if print_config:
        show(annotated(configured.config.model_dump(), configured.sources).rstrip())
        return
    assert manifest is not None, "a data set was named"
    run = RunDirectory(output or new_run_path(manifest.description.name))
    _train(configured, manifest, run, exist_ok=exist_ok, json=json)


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
