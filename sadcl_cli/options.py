"""Options that several commands share, said once."""

from __future__ import annotations

from collections.abc import Callable
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
    """Names of data sets, and paths, that start so."""
    from sadcl_core.data.formats import DATASETS

    names = [name for name in DATASETS if name.startswith(incomplete)]
    folder, _, start = incomplete.rpartition("/")
    inside = Path(folder or ("/" if incomplete.startswith("/") else "."))
    if inside.is_dir():
        found = sorted(path for path in inside.iterdir() if path.name.startswith(start) and not path.name.startswith("."))
        before = f"{folder}/" if folder or incomplete.startswith("/") else ""
        names += [f"{before}{path.name}{'/' if path.is_dir() else ''}" for path in found[:100]]
    return names


def complete_method(incomplete: str) -> list[str]:
    """Names of methods that start so; of several with commas between them, the last one."""
    from sadcl_core.config.methods import METHODS

    *before, last = incomplete.split(",")
    return [",".join([*before, name]) for name in METHODS if name.startswith(last)]


def complete_preset(incomplete: str) -> list[str]:
    """Names of presets that start so."""
    from sadcl_core.config.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Runs under runs/ that start so."""
    return [str(path.parent) for path in sorted(Path("runs").glob("*/run.json")) if str(path.parent).startswith(incomplete)]


def standing_alone(words: list[str], option: str, value: str, *, takes: Callable[[str], bool] = bool) -> list[str]:
    """Put its usual value behind an option that stands alone: at the end, before another one, or before what it does not take."""
    filled: list[str] = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        filled.append(word)
        if word == option and (following[:1] in ("", "-") or not takes(following)):
            filled.append(value)
    return filled


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
        metavar="DIR|FILE|NAME",
        help="Where the run's data lie now, or other data: a name, a folder, a label file; the run's own unless given.",
        autocompletion=complete_dataset,
    ),
]
Split = Annotated[str | None, typer.Option("--split", help="Split to use; the held-out split of the run unless given.")]
DEVICES, PRECISIONS = "auto|cpu|cuda|mps", "auto|fp32|bf16|fp16"
PRECISION_HELP = "auto: bf16 or fp16 on a GPU, else fp32."
Device = Annotated[str, typer.Option("--device", metavar=DEVICES, help="Where to compute.")]
Precision = Annotated[str, typer.Option("--precision", metavar=PRECISIONS, help=PRECISION_HELP)]
Workers = Annotated[int | None, typer.Option("--workers", "-j", min=0, max=256, help="Processes that read images.")]
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="NUMBER|auto|FILE|CLASS=NUMBER",
        help="A label counts when its score is above this; auto: the model's own, from eval --calibrate. May be repeated.",
    ),
]
Uncalibrated = Annotated[
    bool, typer.Option("--uncalibrated", help="The model as it was trained, without what eval --calibrate put into it.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images at a time.")]
ImgSize = Annotated[
    int | None, typer.Option("--img-size", min=16, max=4096, help="Side in pixels; the training size unless given.")
]

# what a recipe is put together from, in train and compare alike
DatasetFolder = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Where the data set lies; data/NAME unless given.")
]
Preset = Annotated[
    str | None,
    typer.Option("--preset", help="Recipe to start from; chosen from the data unless given.", autocompletion=complete_preset),
]
Backbone = Annotated[str | None, typer.Option("--backbone", help="Any timm model, such as resnet50.")]
Pretrained = Annotated[
    str | None,
    typer.Option("--pretrained", metavar="FILE|hub", help="Weights of the backbone: a .safetensors or .pth file, or the hub's."),
]
NoPretrained = Annotated[bool, typer.Option("--no-pretrained", help="Start from random weights.")]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        "--init-from",
        metavar="RUN_OR_FILE",
        help="Go on from a trained model, class by class name.",
        autocompletion=complete_run,
    ),
]
ClassMap = Annotated[
    Path | None,
    typer.Option("--class-map", metavar="FILE", help="Lines such as aeroplane: airplane, for --init-from."),
]
Epochs = Annotated[str | None, typer.Option("--epochs", metavar="N[,N]", help="Epochs of every stage, or of each: 15,5.")]
TrainBatchSize = Annotated[int | None, typer.Option("--batch-size", "-b", min=1, help="Images a step.")]
TrainImgSize = Annotated[int | None, typer.Option("--img-size", min=16, max=4096, help="Side in pixels.")]
Lr = Annotated[float | None, typer.Option("--lr", help="Peak learning rate of every stage.")]
WeightDecay = Annotated[float | None, typer.Option("--weight-decay", help="Of the optimiser.")]
TrainDevice = Annotated[str | None, typer.Option("--device", metavar=DEVICES, help="Where to compute.")]
TrainPrecision = Annotated[str | None, typer.Option("--precision", metavar=PRECISIONS, help=PRECISION_HELP)]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="YAML file, such as the config.yaml of a run.")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting: --set optim.ema_decay=0.99.")]

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; inside the run unless given.")]
