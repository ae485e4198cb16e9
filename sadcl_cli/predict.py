"""sadcl predict: the labels of images and of folders of images."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sadcl_cli.console import one_line, say, show, show_json, warn
from sadcl_cli.display.model import open_model
from sadcl_cli.options import BatchSize, Device, ImgSize, Precision, Threshold, Tta, Uncalibrated, Weights, takes_verbosity


@takes_verbosity
def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|DIR|PATTERN|@LIST|TABLE|SHARD|ADDRESS|-...",
            help="Image files, folders to search, patterns, @FILE with a name a line, - for names on stdin, .csv .tsv .parquet "
            "with a column of paths or images, .tar shards; also s3://, gs://, hf://, https://.",
        ),
    ],
    weights: Weights = None,
    threshold: Threshold = None,
    topk: Annotated[int | None, typer.Option("--topk", min=1, help="The k best labels, whatever their score.")] = None,
    all_scores: Annotated[bool, typer.Option("--all-scores", help="With --json: the score of every class.")] = False,
    uncalibrated: Uncalibrated = False,
    img_size: ImgSize = None,
    tta: Tta = "none",
    batch_size: BatchSize = 32,
    device: Device = "auto",
    precision: Precision = "auto",
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Search folders to the bottom.")] = True,
    column: Annotated[str, typer.Option("--column", help="Of a table: the one with the images.")] = "",
    part: Annotated[
        str, typer.Option("--part", metavar="I/N", help="Only the I-th of N parts, from 1, for several machines.")
    ] = "1/1",
    json: Annotated[bool, typer.Option("--json", help="One JSON object per image and line.")] = False,
) -> None:
    """Predict the labels of images.

    An image that cannot be read is named, the others are done, and the exit code is 3.
    """
    from sadcl_core.data.image_stream import open_images
    from sadcl_core.errors import DataError, UsageError
    from sadcl_core.runtime.launcher import is_main_process

    if not is_main_process():
        return
    if all_scores and not json:
        raise UsageError("--all-scores is for the JSON. Give --json as well.")
    stream = open_images(images, recursive=recursive, column=column, part=parse_part(part))
    model = open_model(
        weights,
        device=device,
        precision=precision,
        img_size=img_size,
        uncalibrated=uncalibrated,
        tta=tta,
        threshold=threshold or (),
    )
    if threshold or topk is None:
        say(f"labels above {model.choose_thresholds(threshold).description}")
    done, broken, width = 0, 0, min(80, max(map(len, images)))
    for prediction in model.iter_predict(stream, threshold=threshold or None, topk=topk, batch_size=batch_size):
        done += 1
        if prediction.error:
            broken += 1
            warn(prediction.error)
        if json:
            show_json(prediction.as_json(model.classes if all_scores else ()), indent=None)
        elif not prediction.error:
            labels = "  ".join(f"{one_line(name)} {score:.2f}" for name, score in prediction.labels)
            width = max(width, min(80, len(prediction.name)))
            show(f"{one_line(prediction.name):<{width}}  {labels or '(no label)'}")
    if broken:
        raise DataError(f"{broken:,} of {done:,} images could not be read; the others are done.")


def parse_part(text: str) -> tuple[int, int]:
    """Return the numbers of --part I/N."""
    from sadcl_core.errors import UsageError

    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if match is None:
        raise UsageError(f"--part {text}: write which of how many, such as 1/8.")
    return int(match[1]), int(match[2])
