"""sadcl predict: the labels of images and of folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadcl_cli.console import one_line, say, show, show_json, warn
from sadcl_cli.opening import open_model
from sadcl_cli.options import BatchSize, Debug, Device, ImgSize, Precision, Quiet, Threshold, Uncalibrated, Verbose, Weights

if TYPE_CHECKING:
    from sadcl_core.inference.predict import Prediction


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE|DIR...", help="Image files, or folders to search.")],
    weights: Weights = None,
    threshold: Threshold = None,
    topk: Annotated[int | None, typer.Option("--topk", min=1, help="The k best labels, whatever their score.")] = None,
    all_scores: Annotated[bool, typer.Option("--all-scores", help="With --json: the score of every class.")] = False,
    uncalibrated: Uncalibrated = False,
    img_size: ImgSize = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object per image and line.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Predict the labels of images.

    An image that cannot be read is named, the others are done, and the exit code is 3.
    """
    from sadcl_core.errors import DataError, UsageError
    from sadcl_core.inference.predict import find_images
    from sadcl_core.inference.predict import predict as run
    from sadcl_core.inference.thresholds import choose
    from sadcl_core.runtime.distributed import is_main_process

    if not is_main_process():
        return
    if all_scores and not json:
        raise UsageError("--all-scores is for the JSON. Give --json as well.")
    found = find_images(images)
    opened = open_model(weights, device=device, precision=precision, img_size=img_size, uncalibrated=uncalibrated)
    card = opened.model.card
    limits = (
        choose(threshold or (), card.classes, card.thresholds, calibrated=bool(card.temperatures))
        if threshold or topk is None
        else None
    )
    if limits is not None:
        say(f"labels above {limits.said}")
    broken, width = 0, min(80, max(len(str(image)) for image in found))
    predictions = run(
        opened.model,
        found,
        device=opened.device,
        precision=opened.precision,
        batch_size=batch_size,
        thresholds=None if limits is None else limits.values,
        topk=topk,
    )
    for prediction in predictions:
        if prediction.error:
            broken += 1
            warn(prediction.error)
        if json:
            show_json(_as_json(prediction, card.classes if all_scores else ()), indent=None)
        elif not prediction.error:
            labels = "  ".join(f"{one_line(name)} {score:.2f}" for name, score in prediction.labels)
            show(f"{one_line(str(prediction.image)):<{width}}  {labels or '(no label)'}")
    if broken:
        raise DataError(f"{broken:,} of {len(found):,} images could not be read; the others are done.")


def _as_json(prediction: Prediction, classes: tuple[str, ...]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schema_version": 1,
        "image": str(prediction.image),
        "labels": [{"name": name, "score": round(score, 6)} for name, score in prediction.labels],
    }
    if prediction.error:
        document["error"] = prediction.error
    elif classes:
        document["scores"] = {name: round(score, 6) for name, score in zip(classes, prediction.scores, strict=True)}
    return document
