"""Open a model and its images, and say which were taken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sadcl_cli.console import say, stages

if TYPE_CHECKING:
    from sadcl_core.data.split import Split
    from sadcl_core.inference.load import OpenedModel


def open_model(
    weights: Path | None, *, device: str, precision: str = "auto", img_size: int | None = None, uncalibrated: bool = False
) -> OpenedModel:
    """See `sadcl_core.inference.load.open_model`."""
    from sadcl_core.inference import load as opening

    opened = opening.open_model(weights, device=device, precision=precision, img_size=img_size, uncalibrated=uncalibrated)
    say(opened.taken)
    return opened


def open_split(opened: OpenedModel, *, data: str | None, split: str | None) -> Split:
    """See `sadcl_core.inference.load.open_split`."""
    from sadcl_core.inference import load as opening

    with stages() as progress:
        images, taken = opening.open_split(opened, data=data, split=split, progress=progress)
    say(taken)
    return images
