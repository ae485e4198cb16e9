"""Sentences that train and compare share: where the data are from, and how the settings were chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sadcl_cli.console import say, stages

if TYPE_CHECKING:
    from sadcl_core.config.presets import Configured
    from sadcl_core.data.manifest import Manifest


def find_data(dataset: str, data: Path | None) -> Manifest:
    """Return the manifest of a data set, prepared now unless that has been done, and say where it came from."""
    from sadcl_cli.display.prepare import say_origin
    from sadcl_core.data.prepare.prepare import find_or_prepare

    with stages() as progress:
        origin = find_or_prepare(dataset, data=data, progress=progress)
    say_origin(origin)
    return origin.manifest


def say_recipe(configured: Configured) -> None:
    """Show the preset, and what was chosen from the data with the reason of each."""
    say(f"preset {configured.config.preset}: {configured.why}")
    for what, why in configured.reasons:
        say(f"auto: {what} ({why})")
