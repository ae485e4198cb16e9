"""sadcl import: a checkpoint of another program as a run of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sadcl_cli.console import show_json
from sadcl_cli.options import Json, takes_verbosity
from sadcl_core.config.flags import FLAGS
from sadcl_core.runtime.files import weights_file


@takes_verbosity
def import_command(
    file: Annotated[Path, typer.Argument(help="A .pth or .safetensors file; nothing that is pickled in it is run.")],
    classes: Annotated[
        str, typer.Option("--classes", metavar="coco|voc|FILE|A,B", help="Names of the classes, in the order of the file.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new run, or a .safetensors file; runs/ and its name unless given.")
    ] = None,
    backbone: Annotated[str, typer.Option("--backbone", help="A model of timm, where the file does not tell.")] = "",
    img_size: Annotated[
        int | None, typer.Option("--img-size", min=16, max=4096, help="Side in pixels, where the file does not tell.")
    ] = None,
    mean: Annotated[str, typer.Option("--mean", metavar="R,G,B", help="Of images in 0..1; of the paper unless given.")] = "",
    std: Annotated[str, typer.Option("--std", metavar="R,G,B", help="Of images in 0..1; of the paper unless given.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar=FLAGS["set"].metavar, help="What the file does not say: a setting of the model."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="PATTERN", help="Leave tensors with such names out. May be repeated.")
    ] = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Replace a run that is there.")] = False,
    json: Json = False,
) -> None:
    """Import a checkpoint of SADCL, Query2Label, MulCon, ML-Decoder, ASL, CSRA, timm or torchvision."""
    weights_file(file)  # before torch is imported
    colours = {name: _colours(value, f"--{name}") for name, value in (("mean", mean), ("std", std))}

    from sadcl_cli.display.imports import show_import
    from sadcl_core.runs.imports.import_checkpoint import import_checkpoint
    from sadcl_core.runs.run_directory import new_run_path

    result = import_checkpoint(
        file,
        output or new_run_path(file.stem),
        classes=classes,
        backbone=backbone,
        img_size=img_size,
        **colours,
        settings=settings or (),
        ignore=ignore or (),
        exist_ok=exist_ok,
    )
    if json:
        show_json(result.as_json())
    else:
        show_import(result)


def _colours(text: str, option: str) -> tuple[float, ...] | None:
    """Return three numbers between commas."""
    try:
        numbers = tuple(float(part) for part in text.split(",")) if text else None
    except ValueError:
        numbers = ()
    if numbers is not None and (len(numbers) != 3 or not all(abs(number) <= 255 for number in numbers)):
        raise typer.BadParameter("three numbers are expected, as 0.5,0.5,0.5", param_hint=option)
    return numbers
