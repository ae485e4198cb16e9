"""From the options of train and compare to the layers of a configuration, and to the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sadcl_cli.console import say, stages

if TYPE_CHECKING:
    from sadcl_core.config.automatic import Facts
    from sadcl_core.config.presets import Configured
    from sadcl_core.config.schema import Layer
    from sadcl_core.data.manifest import Manifest


def find_data(dataset: str, data: Path | None) -> Manifest:
    """The manifest of a data set, prepared now unless that has been done, and a line on where it came from."""
    from sadcl_cli.display.prepare import say_origin
    from sadcl_core.data.prepare.prepare import find_or_prepare

    with stages() as progress:
        origin = find_or_prepare(dataset, data=data, progress=progress)
    say_origin(origin)
    return origin.manifest


def facts_of(manifest: Manifest, layers: Sequence[tuple[str, Layer]]) -> Facts:
    """What a recipe is chosen by: of the split that is trained on, and of the device that is asked for."""
    from sadcl_core.config.automatic import Facts
    from sadcl_core.config.schema import resolve_config
    from sadcl_core.data.statistics import median_short_side

    config = resolve_config(layers)[0]
    name = config.data.train_split
    if name not in manifest.splits:  # training says so in its own words
        return Facts(0, classes=len(manifest.classes))
    split = manifest.split(name)
    return Facts(
        images=len(split),
        classes=len(manifest.classes),
        short_side=median_short_side(split),
        device=_device_kind(config.device),
    )


def say_recipe(configured: Configured) -> None:
    """The preset, and what was chosen from the data with the reason of each."""
    say(f"preset {configured.config.preset}: {configured.why}")
    for what, why in configured.reasons:
        say(f"auto: {what} ({why})")


def _device_kind(asked: str) -> str:
    """The device: cpu, mps or cuda."""
    if asked != "auto":
        return asked.partition(":")[0]
    from sadcl_core.runtime.device import choose_device

    return choose_device(asked).type
