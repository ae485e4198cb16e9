"""sadcl train: both stages in one command, watched live."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sadcl_cli.console import show, show_json, show_table, verbosity, warn
from sadcl_cli.options import (
    DatasetFolder,
    Debug,
    Json,
    Quiet,
    Verbose,
    complete_dataset,
    complete_run,
    standing_alone,
    takes_flags,
)
from sadcl_cli.recipe import facts_of, find_data, say_recipe
from sadcl_core.config.flags import epoch_counts, flag_layers
from sadcl_core.data.formats import DATASETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sadcl_core.config.presets import Configured
    from sadcl_core.config.schema import Layer, RunConfig
    from sadcl_core.data.manifest import Manifest
    from sadcl_core.runs.run_directory import RunDirectory
    from sadcl_core.training.fit import TrainingResult
    from sadcl_core.training.listeners.events import Event, Listener

LAST = Path("last")  # what --resume stands for alone


class TrainCommand(TyperCommand):
    """Lets --resume stand alone, for the last run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See the class."""
        return super().parse_args(ctx, standing_alone(args, "--resume", str(LAST)))


def list_methods(value: bool) -> None:
    """What each method is made of, and where it comes from."""
    if not value:
        return
    from sadcl_cli.console import new_table
    from sadcl_core.config.methods import METHODS, SHORT

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
    from sadcl_core.config.presets import PRESETS

    table = new_table("preset", "for what", "source", wrap=True)
    for name, preset in PRESETS.items():
        table.add_row(name, preset.summary, preset.source)
    show_table(table)
    _show_papers()
    raise typer.Exit


def print_schema(value: bool) -> None:
    """The JSON Schema of a file of settings, for editors."""
    if not value:
        return
    from sadcl_core.config.json_schema import json_schema

    show_json(json_schema())
    raise typer.Exit


def _show_papers() -> None:
    from sadcl_core.config.methods import PAPERS

    for name, paper in PAPERS.items():
        show(f"{name}: {paper}")


@takes_flags(shared=False)
def train(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help=f"{', '.join(DATASETS)}; a folder or label file of yours; or a folder from prepare-data.",
            autocompletion=complete_dataset,
        ),
    ] = None,
    data: DatasetFolder = None,
    *,
    list_methods: Annotated[
        bool,
        typer.Option("--list-methods", help="Show what each method is made of.", callback=list_methods, is_eager=True),
    ] = False,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Show the recipes.", callback=list_presets, is_eager=True)
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RUN", help="Run directory; runs/NAME unless given.")
    ] = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Replace the run in this directory.")] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="[RUN]",
            help="Go on with a run where it was stopped; the last one unless named.",
            autocompletion=complete_run,
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show every value and where it comes from; train nothing.")
    ] = False,
    print_schema: Annotated[
        bool,
        typer.Option(
            "--print-schema", help="Show the JSON Schema of -c files, for editors.", callback=print_schema, is_eager=True
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    **flags: Any,
) -> None:
    """Train a model: label features first, then the contrastive losses from the prototypes built in between.

    Prepares the data set unless that has been done.
    """
    from sadcl_core.errors import UsageError
    from sadcl_core.runs.run_directory import RunDirectory
    from sadcl_core.runtime.distributed import get_rank, is_main_process, process_group

    if dataset is None and not print_config and resume is None:
        raise UsageError("Name the data set, for example: sadcl train digits. See sadcl train --help.")
    if output is not None and not print_config and is_main_process():  # before any long work
        RunDirectory(output).refuse_existing(exist_ok=exist_ok)
    going_on = resume is not None
    if going_on:
        refuse_with_resume(
            {
                "--output": output,
                "--exist-ok": exist_ok or None,
                "--preset": flags["preset"],
                "--print-config": print_config or None,
            }
        )
    layers = flag_layers(**{**flags, "epochs": None, "lr": None} if going_on else flags)
    with process_group():
        verbosity.quiet = verbosity.quiet or get_rank() > 0
        if resume is not None:
            _resume(
                None if resume == LAST else resume,
                layers,
                epochs=flags["epochs"],
                lr=flags["lr"],
                dataset=dataset,
                data=data,
                json=json,
            )
            return
        manifest = None if dataset is None else _data(dataset, data)
        configured = _configured(layers, manifest)
        if print_config:
            from sadcl_core.runs.run_directory import annotated

            show(annotated(configured.config.model_dump(), configured.sources).rstrip())
            return
        assert manifest is not None, "a data set was named"
        _train(configured, manifest, output, exist_ok=exist_ok, json=json)


def refuse_with_resume(given: dict[str, object]) -> None:
    """Raise a UsageError for an option that makes a run, where one is to go on."""
    from sadcl_core.errors import UsageError

    for option, value in given.items():
        if value is not None:
            raise UsageError(f"--resume goes on with a run as it was started. Leave out {option}.")


def _data(dataset: str, data: Path | None) -> Manifest:
    """The manifest of a data set; of several processes one prepares it and the others find it."""
    from sadcl_core.runtime.distributed import main_process_first

    with main_process_first():
        return find_data(dataset, data)


def _configured(layers: list[tuple[str, Layer]], manifest: Manifest | None) -> Configured:
    """The configuration of a new run, and a line on its preset."""
    from sadcl_core.config.presets import configure
    from sadcl_core.config.schema import flatten

    if any(flatten(layer).get("model.init_from") for _, layer in layers):
        from sadcl_core.training.transfer import with_network_of_init

        layers = with_network_of_init(layers, preset=None)
    if manifest is None:
        configured = configure(layers, dataset="", split_sizes={})
    else:
        name, sizes, facts = manifest.description.name, manifest.split_sizes, partial(facts_of, manifest, layers)
        configured = configure(layers, dataset=name, split_sizes=sizes, facts=facts)
    say_recipe(configured)
    return configured


def _train(configured: Configured, manifest: Manifest, output: Path | None, *, exist_ok: bool, json: bool) -> None:
    from sadcl_core.runs.run_directory import RunDirectory, new_run_path
    from sadcl_core.runtime.distributed import broadcast, get_rank
    from sadcl_core.training.fit import train as fit

    config, sources = configured.config, configured.sources
    path = broadcast(output or new_run_path(manifest.description.name))
    run = RunDirectory(path, writes=get_rank() == 0)
    _watch(config, run, lambda listen: fit(config, sources, manifest, run, exist_ok=exist_ok, listen=listen), json=json)


def _resume(
    path: Path | None,
    layers: list[tuple[str, Layer]],
    *,
    epochs: str | None,
    lr: float | None,
    dataset: str | None,
    data: Path | None,
    json: bool,
) -> None:
    from sadcl_core.runtime.distributed import broadcast, get_rank
    from sadcl_core.training.fit import resume as go_on
    from sadcl_core.training.resume import find_resumable, prepare_resume

    found = broadcast(find_resumable(path))
    counts = (None,) if epochs is None else epoch_counts(epochs)
    resumed = prepare_resume(found, layers, epochs=counts, lr=lr, writes=get_rank() == 0)
    if dataset is not None or data is not None:
        manifest = _data(dataset or resumed.config.data.dataset, data)
    else:
        from sadcl_core.data.manifest import load_with_images

        manifest = load_with_images(Path(resumed.config.data.manifest))
    _watch(resumed.config, resumed.run, lambda listen: go_on(resumed, manifest, listen=listen), json=json)


def _watch(config: RunConfig, run: RunDirectory, work: Callable[[Listener], TrainingResult], *, json: bool) -> None:
    """Train, show how it goes, and say what came of it, or how to go on."""
    from sadcl_cli.training_display import TrainingDisplay
    from sadcl_cli.training_files import TrainingFiles
    from sadcl_core.errors import DivergedError, SadclError

    try:
        with TrainingDisplay(config) as display, TrainingFiles(config, run) as files:

            def listen(event: Event) -> None:
                display(event)
                files(event)

            result = work(listen)
    except (SadclError, KeyboardInterrupt) as error:
        if display.stage.number and run.writes and run.state.is_file():
            other = " --lr RATE" if isinstance(error, DivergedError) else ""
            warn(f"the state of the run is kept in {run.path}. Go on from there: sadcl train --resume {run.path}{other}")
        raise
    if not run.writes:
        return
    if json:
        document = {
            "schema_version": 1,
            "run": str(run.path),
            "model": str(run.best),
            "best": {"mAP_interpolated": result.best_map, "stage": result.stage, "epoch": result.epoch},
        }
        show_json(document)
    else:
        show(f"best EMA mAP {result.best_map:.2f} interpolated (stage {result.stage}, epoch {result.epoch})")
        show(f"results saved to {run.path}")
