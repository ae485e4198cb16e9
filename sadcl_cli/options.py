"""Options that several commands share, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import verbosity


def _set_quiet(value: bool) -> None:
    verbosity.quiet = verbosity.quiet or value


def _set_verbose(value: bool) -> None:
    verbosity.verbose = verbosity.verbose or value


def _set_debug(value: bool) -> None:
    verbosity.debug = verbosity.debug or value


def complete_dataset(incomplete: str) -> list[str]:
    """Names of data sets that start so."""
    from sadcl_core.data.formats import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


def complete_head(incomplete: str) -> list[str]:
    """Names of heads that start so."""
    from sadcl_core.model.heads import HEADS

    return [name for name in HEADS if name.startswith(incomplete)]


def complete_preset(incomplete: str) -> list[str]:
    """Names of presets that start so."""
    from sadcl_core.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Runs under runs/ that start so."""
    return [str(path.parent) for path in sorted(Path("runs").glob("*/run.json")) if str(path.parent).startswith(incomplete)]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.", callback=_set_quiet)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More about the work.", callback=_set_verbose)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_set_debug)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of text.")]

Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="RUN_OR_FILE",
        help="Run or model file; the run that finished last unless given.",
        autocompletion=complete_run,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR_OR_NAME",
        help="Where the run's data set lies now, or another prepared data set; the run's own unless given.",
        autocompletion=complete_dataset,
    ),
]
Split = Annotated[str | None, typer.Option("--split", help="Split to use; the held-out split of the run unless given.")]
DEVICES, PRECISIONS = "auto|cpu|cuda|mps", "auto|fp32|bf16|fp16"
PRECISION_HELP = "auto: bf16 or fp16 on a GPU, else fp32."
Device = Annotated[str, typer.Option("--device", metavar=DEVICES, help="Where to compute.")]
Precision = Annotated[str, typer.Option("--precision", metavar=PRECISIONS, help=PRECISION_HELP)]
Workers = Annotated[int | None, typer.Option("--workers", "-j", min=0, max=256, help="Processes that read images.")]
BatchSize = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images at a time.")]
ImgSize = Annotated[
    int | None, typer.Option("--img-size", min=16, max=4096, help="Side in pixels; the training size unless given.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; inside the run unless given.")]
