"""sadcl predict: the labels of images and of folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import one_line, say, show, show_json, warn
from sadcl_cli.display.model import open_model
from sadcl_cli.options import BatchSize, Device, ImgSize, Precision, Threshold, Tta, Uncalibrated, Weights, takes_verbosity


@takes_verbosity
def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR...", help="Image files, or folders to search.")],
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
    json: Annotated[bool, typer.Option("--json", help="One JSON object per image and line.")] = False,
) -> None:
    """Predict the labels of images.

    An image that cannot be read is named, the others are done, and the exit code is 3.
    """
    from sadcl_core.errors import DataError, UsageError
    from sadcl_core.inference.predict import find_images
    from sadcl_core.runtime.launcher import is_main_process

    if not is_main_process():
        return
    if all_scores and not json:
        raise UsageError("--all-scores is for the JSON. Give --json as well.")
    files = find_images(images)
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
    broken, width = 0, min(80, max(len(str(file)) for file in files))
    for prediction in model.iter_predict(files, threshold=threshold or None, topk=topk, batch_size=batch_size):
        if prediction.error:
            broken += 1
            warn(prediction.error)
        if json:
            show_json(prediction.as_json(model.classes if all_scores else ()), indent=None)
        elif not prediction.error:
            labels = "  ".join(f"{one_line(name)} {score:.2f}" for name, score in prediction.labels)
            show(f"{one_line(str(prediction.image)):<{width}}  {labels or '(no label)'}")
    if broken:
        raise DataError(f"{broken:,} of {len(files):,} images could not be read; the others are done.")
