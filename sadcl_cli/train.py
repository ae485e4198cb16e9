"""sadcl train: both stages in one command, watched live."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sadcl_cli import options
from sadcl_cli.console import new_table, show, show_json, show_table, verbosity, warn
from sadcl_core.data.formats import DATASETS

LAST = Path("last")  # what --resume stands for alone


class TrainCommand(TyperCommand):
    """Let --resume stand alone, for the last run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See the class."""
        return super().parse_args(ctx, options.standing_alone(args, "--resume", str(LAST)))


def list_methods(value: bool) -> None:
    """Show what each method is made of, and where it comes from."""
    if not value:
        return
    from sadcl_core.config.methods import METHODS, SHORT

    table = new_table("method", "head", "losses, a line a stage", "what it is", "source", wrap=True)
    for name, method in METHODS.items():
        stages = "\n".join(
            " + ".join(f"{weight:g} {SHORT[loss]}" for loss, weight in losses.items()) for losses in method.stages.values()
        )
        table.add_row(name, method.head, stages, method.summary, method.source)
    show_table(table)
    show(", ".join(f"{short} {loss.replace('_', '-')}" for loss, short in SHORT.items()) + " loss")
    _show_papers(method.source for method in METHODS.values())
    raise typer.Exit


def list_presets(value: bool) -> None:
    """Show the recipes, and for what each is."""
    if not value:
        return
    from sadcl_core.config.presets import PRESETS

    table = new_table("preset", "for what", "source", wrap=True)
    for name, preset in PRESETS.items():
        table.add_row(name, preset.summary, preset.source)
    show_table(table)
    _show_papers(preset.source for preset in PRESETS.values())
    raise typer.Exit


def list_sizes(value: bool) -> None:
    """Show the backbones of each size with the licence of their weights."""
    if not value:
        return
    from sadcl_core.config.backbones import CANDIDATES, SIZES

    table = new_table("size", "backbone", "million parameters", "licence of the weights", "pixels", "for", wrap=True)
    for row in CANDIDATES:
        size = row.size if row in SIZES.values() else ""
        table.add_row(size, row.name, f"{row.millions:g}", row.licence, str(row.img_size), row.use)
    show_table(table)
    show("--size NAME takes the backbone beside it, --backbone NAME any.")
    show("Their weights are fetched from the Hugging Face hub without a question; --pretrained FILE takes a file instead.")
    raise typer.Exit


def print_schema(value: bool) -> None:
    """Show the JSON Schema of a file of settings, for editors."""
    if not value:
        return
    from sadcl_core.config.json_schema import json_schema

    show_json(json_schema())
    raise typer.Exit


def _show_papers(sources: Iterable[str]) -> None:
    """Show the papers that sources such as "SADCL, stage 1" begin with, each once."""
    from sadcl_core.config.methods import PAPERS

    for name in dict.fromkeys(source.partition(",")[0] for source in sources if source):
        show(f"{name}: {PAPERS[name]}")


@options.takes_verbosity
@options.takes_flags(shared=False)
def train(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help=f"{', '.join(DATASETS)}; a folder or label file of yours; or a folder from prepare-data.",
            autocompletion=options.complete_dataset,
        ),
    ] = None,
    data: options.DatasetFolder = None,
    *,
    list_methods: Annotated[
        bool, typer.Option("--list-methods", help="Show what each method is made of.", callback=list_methods, is_eager=True)
    ] = False,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="Show the recipes.", callback=list_presets, is_eager=True)
    ] = False,
    list_sizes: Annotated[
        bool,
        typer.Option("--list-sizes", help="Show backbones by size, with their licences.", callback=list_sizes, is_eager=True),
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
            autocompletion=options.complete_run,
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
    json: options.Json = False,
    **flags: Any,
) -> None:
    """Train a model: label features first, then the contrastive losses from the prototypes built in between.

    Prepares the data set unless that has been done.
    """
    from sadcl_cli.display.training import TrainingDisplay
    from sadcl_core.config.yaml import format_yaml
    from sadcl_core.errors import DivergedError, SadclError, UsageError
    from sadcl_core.runtime.launcher import is_main_process
    from sadcl_core.training.train import configure_run, train

    verbosity.quiet = verbosity.quiet or not is_main_process()
    with TrainingDisplay() as display:
        if print_config:
            if resume is not None:
                raise UsageError("--resume goes on with a run as it was started. Leave out --print-config.")
            configured = configure_run(dataset, data=data, listen=display, progress=display.progress, **flags)
            show(format_yaml(configured.config.model_dump(), configured.sources).rstrip())
            return
        try:
            result = train(
                dataset,
                data=data,
                output=output,
                exist_ok=exist_ok,
                resume=True if resume == LAST else resume,
                listen=display,
                progress=display.progress,
                **flags,
            )
        except (SadclError, KeyboardInterrupt) as error:
            if display.unfinished is not None:
                warn(f"the features computed so far are kept in {display.unfinished}. The same command goes on from there.")
            if display.stage is not None and display.run is not None and display.run.run.state.is_file():
                run = display.run.run.path
                lr = " --lr RATE" if isinstance(error, DivergedError) else ""
                warn(f"the state of the run is kept in {run}. Go on from there: sadcl train --resume {quote(str(run))}{lr}")
            raise
    if not is_main_process():
        return
    display.show_untrained_head(result)
    display.show_worse_than_linear(result)
    if json:
        document = {
            "schema_version": 1,
            "run": str(result.run),
            "model": str(result.model),
            "best": {
                "mAP_interpolated": result.best_map,
                "stage": result.stage,
                "epoch": result.epoch,
                "weights": result.weights,
            },
        }
        show_json(document)
    else:
        display.show_result(result)
        display.show_time()
