"""Options that several commands share, said once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import typer
from typer.core import TyperCommand

from sadcl_cli.console import verbosity
from sadcl_core.config.backbones import SIZES
from sadcl_core.config.flags import DEVICES, FLAGS, PRECISION_HELP, PRECISIONS, Flag

MOST = 1_000_000_000  # beyond what anybody has


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


def complete_size(incomplete: str) -> list[str]:
    """Sizes of backbones that start so."""
    return [size for size in SIZES if size.startswith(incomplete)]


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


class GroupedCommand(TyperCommand):
    """A command whose help shows its options in groups: `GROUPS` has the title and the parameters of each, the rest is last."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """See the class."""
        left = {str(parameter.name): parameter.get_help_record(ctx) for parameter in self.get_params(ctx)}
        for title, names in self.GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([record for name in names if (record := left.pop(name))])
        with formatter.section("Other options"):
            formatter.write_dl([record for record in left.values() if record])


VERBOSITY = {
    "quiet": typer.Option("--quiet", "-q", help="Only results and errors."),
    "verbose": typer.Option("--verbose", "-v", help="More about the work."),
    "debug": typer.Option("--debug", help="Show the traceback of an error."),
}
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of text.")]

Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="RUN_OR_FILE",
        help="Run or model file, or hf://USER/NAME; the run that finished last unless given.",
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
BatchSize = Annotated[int, typer.Option("--batch-size", "-b", min=1, max=MOST, help="Images at a time.")]
ImgSize = Annotated[
    int | None, typer.Option("--img-size", min=16, max=4096, help="Side in pixels; the training size unless given.")
]

Resize = Annotated[
    int,
    typer.Option(
        "--resize",
        min=0,
        max=4096,
        metavar="SIDE",
        help="Resize to this side first, and cut the centre of --img-size out: --resize 640 --img-size 576, as some papers test.",
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        "--classes", metavar="coco|voc|FILE|A,B", help="Names of the classes of another program's checkpoint, in order."
    ),
]
Tta = Annotated[
    Literal["none", "flip", "crops"],
    typer.Option("--tta", help="Mean of the logits over an image and its mirror image, or five crops of it."),
]

# of compare and sweep
Dataset = Annotated[
    str, typer.Argument(help="A data set as for train, or a folder from prepare-data.", autocompletion=complete_dataset)
]
Seeds = Annotated[str, typer.Option("--seeds", metavar="N|N,N", help="How many, or which: 5, or 1,2,7.")]

# of train, compare and sweep
DatasetFolder = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Where the data set lies; data/NAME unless given.")
]
COMPLETIONS = {"method": complete_method, "preset": complete_preset, "size": complete_size, "init_from": complete_run}

Limit = Annotated[int | None, typer.Option("--limit", min=1, max=MOST, help="Only the first so many images.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; inside the run unless given.")]


# how label files are read, of prepare-data and of eval: of each field of `ReadingOptions` its type, its default and its help
READING: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "classes": (str, "", {"metavar": "FILE|A,B", "help": "Class names in their order: a file with one a line, or a,b."}),
    "delimiter": (str, "", {"help": "Between the labels of one cell; none: each cell is one label."}),
    "label_column": (str, "", {"metavar": "NAME", "help": "Column of a table with the labels."}),
    "long": (bool, False, {"help": "Each row of a table is one label of its image."}),
    "present": (str, "", {"metavar": "VALUE", "help": "Of columns of classes: what means present, such as x, positive."}),
    "absent": (str, "", {"metavar": "VALUE", "help": "Of columns of classes: what means absent, such as -1, 0, blank."}),
    "unknown": (str, "", {"metavar": "VALUE", "help": "Of columns of classes: what means unknown, such as -1, blank."}),
    "threshold": (float | None, None, {"min": 0, "max": 1, "help": "Fractions from here on are present, those below absent."}),
    "image_column": (str, "", {"metavar": "NAME", "help": "Column of a table with the images."}),
    "split_column": (str, "", {"metavar": "NAME", "help": "Column of a table with the splits; none if there is none."}),
    "difficult": (
        *(Literal["ignore", "negative", "positive"], "ignore"),
        {"help": "VOC's difficult objects: unknown, absent or present."},
    ),
    "encoding": (str, "", {"metavar": "NAME", "help": "Of label files that are not UTF-8: cp1252."}),
    "decimal": (Literal[".", ","], ".", {"help": "Mark of the numbers in tables."}),
    "group_by": (
        *(str, ""),
        {
            "metavar": "COLUMN|PATTERN",
            "help": "Keep images together: of a patient, a scene; a column, or a pattern on their paths: '(patient\\d+)'.",
        },
    ),
}


def takes_flags(*, shared: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command with `**flags` an option for every row of FLAGS, or those that train and compare share."""
    return _taking([_parameter(name, flag) for name, flag in FLAGS.items() if flag.shared or not shared])


def takes_reading(*, but: Sequence[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command with `**reading` an option for every row of READING but some."""
    rows = {name: row for name, row in READING.items() if name not in but}
    return _taking(
        [
            Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, typer.Option(f"--{name.replace('_', '-')}", **shown)],
            )
            for name, (kind, default, shown) in rows.items()
        ]
    )


def _taking(added: list[Parameter]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that puts parameters in the place of `**flags`, before the keyword-only ones."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own_signature = signature(command, eval_str=True)
        own = [parameter for parameter in own_signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        first = [
            parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in own if parameter.kind is not parameter.KEYWORD_ONLY
        ]
        rest = [parameter for parameter in own if parameter.kind is parameter.KEYWORD_ONLY]
        command.__signature__ = own_signature.replace(parameters=[*first, *added, *rest])  # type: ignore[attr-defined]
        return command

    return decorate


def takes_verbosity(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command -q, -v and --debug at its end, which it need not know."""

    @wraps(command)
    def run(*, quiet: bool, verbose: bool, debug: bool, **values: Any) -> None:
        verbosity.quiet |= quiet
        verbosity.verbose |= verbose
        verbosity.debug |= debug
        command(**values)

    own = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in signature(command, eval_str=True).parameters.values()]
    kinds = {name: Annotated[bool, option] for name, option in VERBOSITY.items()}
    added = [Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=kind) for name, kind in kinds.items()]
    run.__signature__ = Signature([*own, *added])  # type: ignore[attr-defined]
    return run


def _parameter(name: str, flag: Flag) -> Parameter:
    """Return the parameter of a command for a flag."""
    option = f"--{name.replace('_', '-')}"
    declarations = [
        f"{option}/--no-{option.removeprefix('--')}" if flag.kind is bool and name != "no_pretrained" else option,
        *([f"-{flag.letter}"] if flag.letter else []),
    ]
    info = typer.Option(
        *declarations, metavar=flag.metavar, help=flag.help, min=flag.least, max=flag.most, autocompletion=COMPLETIONS.get(name)
    )
    kind: Any = list[str] if flag.kind is list else flag.kind
    default = False if name == "no_pretrained" else None
    annotation = Annotated[kind if default is False else kind | None, info]  # type: ignore[valid-type]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
