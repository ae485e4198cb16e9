"""sadcl eval: every number of a model on held-out images, each under the name of its convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sadcl_cli.console import counting, new_table, say, show, show_json, show_table
from sadcl_cli.opening import open_model, open_split
from sadcl_cli.options import (
    BatchSize,
    Data,
    Debug,
    Device,
    ImgSize,
    Json,
    Limit,
    Output,
    Precision,
    Quiet,
    Split,
    Verbose,
    Weights,
    Workers,
)

if TYPE_CHECKING:
    from sadcl_core.inference.evaluation import Evaluation

PAPER_TOPK = 3  # the published tables have "All" and "Top-3"


def evaluate(
    weights: Weights = None,
    data: Data = None,
    split: Split = None,
    topk: Annotated[int, typer.Option("--topk", min=1, help="Also count only the k best labels of each image.")] = PAPER_TOPK,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="A label counts when its score is above this.")
    ] = 0.5,
    img_size: ImgSize = None,
    batch_size: BatchSize = 32,
    limit: Limit = None,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = None,
    output: Output = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Evaluate: mAP in both conventions, precision, recall and F1 over all labels and the top k, AP per class.

    Writes a JSON and a CSV file into the run.
    """
    from sadcl_core.inference.evaluation import evaluate_split, save_evaluation

    opened = open_model(weights, device=device, precision=precision, img_size=img_size)
    images = open_split(opened, data=data, split=split)
    with counting("scoring images") as progress:
        result = evaluate_split(
            opened,
            images,
            threshold=threshold,
            topk=tuple(sorted({PAPER_TOPK, topk})),
            batch_size=batch_size,
            workers=workers,
            limit=limit,
            progress=progress,
        )
    path = save_evaluation(result, output or opened.folder("eval"))
    if json:
        show_json(result.as_json())
    else:
        _show(result, topk)
    (say if json else show)(f"results saved to {path} and .csv")


def _show(result: Evaluation, topk: int) -> None:
    missing = result.classes_without_positives
    evaluated = f"{len(result.classes) - len(missing)}/{len(result.classes)} classes"
    classes = new_table("class", "images", "AP interpolated", "AP non-interpolated")
    for k, name in enumerate(result.classes):
        numbers = (
            (f"{result.ap_interpolated[k]:.2f}", f"{result.ap_non_interpolated[k]:.2f}") if result.positives[k] else ("-", "-")
        )
        classes.add_row(name, f"{result.positives[k]:,}", *numbers)
    show_table(classes)
    names = {"CF1": "CF1 (of CP, CR)", "macro_F1": "CF1 (macro)"}
    table = new_table("%", *(names.get(name, name) for name in result.all_labels))
    for title, values in (("All", result.all_labels), (f"Top-{topk}", result.top[topk])):
        table.add_row(title, *(f"{value:.1f}" for value in values.values()))
    show_table(table)
    unknown = f" · {result.unknown:,} unknown labels left out" if result.unknown else ""
    show(
        f"mAP {result.map_interpolated:.2f} interpolated · {result.map_non_interpolated:.2f} non-interpolated · {evaluated}"
        f"{unknown} · {result.images:,} images · {result.images_per_second:.0f} images/s"
    )
    if missing:
        show(f"left out, no image in this split: {', '.join(missing)}")
