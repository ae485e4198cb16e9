"""sadcl export: a trained model as a file for other programs, held against the trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sadcl_cli.console import say, show_json, stages
from sadcl_cli.options import Classes, Data, ImgSize, Json, Split, Weights, takes_verbosity


@takes_verbosity
def export_command(
    format: Annotated[Literal["onnx"], typer.Argument(help="One ONNX file, with preprocessing and probabilities inside.")],
    target: Annotated[
        Literal["onnx", "torch", "triton", "imgutils", "openvino", "coreml"],
        typer.Option("--for", help="torch: torch.export; triton: a model repository; imgutils: a tagger's folder."),
    ] = "onnx",
    weights: Weights = None,
    classes: Classes = "",
    data: Data = None,
    split: Split = None,
    images: Annotated[
        int, typer.Option("--verify", metavar="N", min=0, help="Compare with the trained model on so many images; 0: do not.")
    ] = 200,
    img_size: ImgSize = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also in 8 bits: ranges from training images, new thresholds, mAP before and after.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; export/ inside the run unless given.")
    ] = None,
    json: Json = False,
) -> None:
    """Export a trained model: uint8 images of any size in, probabilities, logits, label features and attention out.

    The file is compared with the trained model on held-out images. If it answers otherwise it is deleted, and the exit code is 6.
    """
    from sadcl_cli.display.export import show_export
    from sadcl_cli.display.model import model_sentence
    from sadcl_core.exporting.export import export

    with stages() as progress:
        result = export(
            weights,
            target,
            output=output,
            data=data,
            split=split,
            images=images,
            img_size=img_size,
            classes=classes,
            int8=int8,
            progress=progress,
            listen=lambda model: say(model_sentence(model)),
        )
    if json:
        show_json(result.as_json())
    else:
        show_export(result)
