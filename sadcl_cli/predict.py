"""sadcl predict: the labels of one image or of millions, to look at, as a table, beside and inside the images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from sadcl_cli import options
from sadcl_cli.console import counting, messages, one_line, results, say, show, show_json, warn
from sadcl_cli.display.model import open_predictor
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sadcl_core.inference.predict import Prediction
    from sadcl_core.inference.predict_images import PredictedImages
    from sadcl_core.inference.sinks import Places

MOST_WARNINGS = 10  # about images that cannot be read, where a file says it of all of them


class PredictCommand(options.GroupedCommand):
    """Show the options in groups."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "Images": ("images", "recursive", "column", "part"),
        "Labels": ("threshold", "topk", "exclude", "known", "uncalibrated"),
        "Results": ("output", "json", "all_scores", "embed", "exist_ok"),
        "Results beside and inside the images": (
            *("save_txt", "txt_dir", "append", "underscore", "annotate", "sort", "keywords"),
        ),
        "Model and machine": ("weights", "classes", "img_size", "resize", "tta", "batch_size", "workers", "device", "precision"),
    }


@options.takes_verbosity
def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|DIR|LIST...",
            help="Image files, folders to search, patterns, @FILE with a name a line, - for names on stdin, .csv .tsv .parquet "
            "with a column of paths or images, .tar shards; also s3://, gs://, hf://, https://.",
        ),
    ],
    weights: options.Weights = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=".parquet, .jsonl or .csv. Stopped and started again with the same command, it goes on.",
        ),
    ] = None,
    threshold: options.Threshold = None,
    topk: Annotated[
        int | None, typer.Option("--topk", min=1, max=options.MOST, help="The k best labels, whatever their score.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="CLASS", help="Never give this label. May be repeated.")
    ] = None,
    known: Annotated[
        list[str] | None,
        typer.Option("--known", metavar="A=1,B=0", help="Labels that all images have, or have not; to a model of C-Tran."),
    ] = None,
    all_scores: Annotated[bool, typer.Option("--all-scores", help="With --json or -o: the score of every class.")] = False,
    embed: Annotated[bool, typer.Option("--embed", help="With -o in Parquet: features of the image and of its labels.")] = False,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Write over results that are there already.")] = False,
    save_txt: Annotated[
        bool, typer.Option("--save-txt", help="Write the labels of a.jpg beside it into a.txt, between commas.")
    ] = False,
    txt_dir: Annotated[
        Path | None, typer.Option("--txt-dir", metavar="DIR", help="Write these texts into a folder instead.")
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the tags that a text has already.")] = False,
    underscore: Annotated[bool, typer.Option("--underscore", help="Write _ for a space in these texts.")] = False,
    annotate: Annotated[
        Path | None, typer.Option("--annotate", metavar="DIR", help="Draw pictures with the labels and where they were seen.")
    ] = None,
    sort: Annotated[
        Path | None, typer.Option("--sort", metavar="DIR", help="Make a folder for each label, with links to its images.")
    ] = None,
    keywords: Annotated[
        Literal["inside", "sidecar"] | None,
        typer.Option("--keywords", help="Write labels as XMP and IPTC keywords into the images, or into a.xmp beside a.jpg."),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Search folders to the bottom.")] = True,
    column: Annotated[str, typer.Option("--column", help="Of a table: the one with the images.")] = "",
    part: Annotated[
        str, typer.Option("--part", metavar="I/N", help="Only the I-th of N parts, from 1, for several machines.")
    ] = "1/1",
    uncalibrated: options.Uncalibrated = False,
    classes: options.Classes = "",
    img_size: options.ImgSize = None,
    resize: options.Resize = 0,
    tta: options.Tta = "none",
    batch_size: options.BatchSize = 32,
    workers: options.Workers = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object per image and line.")] = False,
) -> None:
    """Predict the labels of images.

    An image that cannot be read is named, the others are done, and the exit code is 3.
    """
    from sadcl_core.data.image_stream import open_images
    from sadcl_core.inference.sinks import Places, open_sinks
    from sadcl_core.runtime.launcher import is_main_process

    if not is_main_process():
        return
    if all_scores and not (json or output):
        raise UsageError("--all-scores is for the JSON. Give --json as well, or -o.")
    if embed and output is None:
        raise UsageError("--embed writes features into a file. Give -o FILE.parquet as well.")
    if annotate and resize:
        raise UsageError("--annotate draws on whole images, and --resize cuts out their centre. Leave one of both out.")
    places = Places(save_txt, txt_dir, append, underscore, annotate, sort, keywords)
    if output is not None:
        from sadcl_core.inference.prediction_file import check_target

        check_target(output, exist_ok=exist_ok, embed=embed)
    stream = open_images(images, recursive=recursive, column=column, part=parse_part(part))
    model = open_predictor(
        weights,
        device=device,
        precision=precision,
        img_size=img_size,
        uncalibrated=uncalibrated,
        tta=tta,
        resize=resize,
        classes=classes,
        threshold=threshold or (),
        labels=exclude or (),
        known=parse_known(known or ()),
    )
    if threshold or topk is None:
        say(f"labels above {model.choose_thresholds(threshold).description}")

    from sadcl_core.inference.predict_images import predict_images

    rules: dict[str, Any] = {"threshold": threshold or None, "topk": topk, "exclude": exclude or ()}
    sinks = open_sinks(places, model, **rules, exist_ok=exist_ok)
    quiet = output is not None or bool(sinks)  # the lines are not what was asked for
    lines = _Lines(model.classes if all_scores else (), json=json, quiet=quiet and not json, width=min(80, max(map(len, images))))
    with counting("predicting", bar=lines.quiet or (messages().is_terminal and not results().is_terminal)) as progress:
        done = predict_images(
            model,
            stream,
            output=output,
            exist_ok=exist_ok,
            sinks=sinks,
            each=lines,
            **rules,
            all_scores=all_scores,
            embed=embed,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
    lines.end(done, output, places)


class _Lines:
    """Shows predictions one by one, and names the images that cannot be read."""

    def __init__(self, classes: Sequence[str], *, json: bool, quiet: bool, width: int) -> None:
        self.classes, self.json, self.quiet, self.width, self.broken = classes, json, quiet, width, 0

    def __call__(self, prediction: Prediction) -> None:
        if prediction.error:
            self.broken += 1
            if not self.quiet or self.broken <= MOST_WARNINGS:
                warn(prediction.error)
            elif self.broken == MOST_WARNINGS + 1:
                warn("further images that cannot be read are not named here")
        if self.json:
            show_json(prediction.as_json(self.classes), indent=None)
        elif not (prediction.error or self.quiet):
            labels = "  ".join(f"{one_line(name)} {score:.2f}" for name, score in prediction.labels)
            self.width = max(self.width, min(80, len(prediction.name)))
            show(f"{one_line(prediction.name):<{self.width}}  {labels or '(no label)'}")

    def end(self, done: PredictedImages, output: Path | None, places: Places) -> None:
        """Say what was done; images that could not be read are an error."""
        if done.resumed:
            say(f"{counted(done.resumed, 'image')} done before")
        if self.quiet:
            table = f" saved to {output}" if output is not None else ""
            show("; ".join([f"{counted(done.images, 'image')}{table}", *_names_of(places)]))
        if done.errors:
            raise DataError(f"{done.errors:,} of {done.images:,} images could not be read; the others are done.")


def _names_of(places: Places) -> list[str]:
    """Return what else was written, and where."""
    names = [f"texts in {places.txt_dir}" if places.txt_dir else "texts beside them"] * (places.save_txt or bool(places.txt_dir))
    names += [f"sorted into {places.sort}"] * bool(places.sort)
    names += [f"pictures in {places.annotate}"] * bool(places.annotate)
    return names + [f"keywords {'inside' if places.keywords == 'inside' else 'beside'} them"] * bool(places.keywords)


def parse_known(texts: Sequence[str]) -> dict[str, int]:
    """Return the labels of --known A=1,B=0 by class name, which may hold a comma itself."""
    pairs = [re.fullmatch(r"(.+)=([01])", part, re.DOTALL) for text in texts for part in re.split(r"(?<==[01]),", text)]
    known = {pair[1]: int(pair[2]) for pair in pairs if pair is not None}
    if len(known) < len(pairs):
        raise UsageError(f"--known {' '.join(texts)}: write each label once, 1 if it is there and 0 if it is not: dog=1,cat=0.")
    return known


def parse_part(text: str) -> tuple[int, int]:
    """Return the numbers of --part I/N."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if match is None:
        raise UsageError(f"--part {text}: write which of how many, such as 1/8.")
    return int(match[1]), int(match[2])
