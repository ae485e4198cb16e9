"""The sentences of sadcl export."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sadcl_cli.console import one_line, say, show, warn
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from sadcl_core.exporting.export import Export
    from sadcl_core.exporting.quantise import Quantised

MOST_LOST = 5  # classes that are named


def show_export(result: Export) -> None:
    """Show what was written, and how it differs from the trained model."""
    checked = result.verification
    if checked is None:
        warn(f"nothing was verified: {result.unverified}")
    else:
        flips = f"{counted(checked.flipped, 'label')} flipped"
        where = f" ({one_line(checked.label)} of {one_line(checked.image)})" if checked.largest else ""
        if checked.left_out:
            warn(f"left out {counted(checked.left_out, 'image')}: one of the models, or both, cannot read them")
        show(
            f"verified on {counted(checked.images, 'image')}: largest difference of a probability {checked.largest:.1e}{where}, "
            f"{flips}; {checked.exported_speed:,.1f} images/s, the trained model {checked.speed:,.1f}"
        )
    if result.quantised is not None:
        _show_quantised(result.quantised)
    for path, size in result.files.items():
        amount = f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 2**10:,.1f} KiB"
        show(f"{amount} saved to {one_line(str(path))}")


def _show_quantised(result: Quantised) -> None:
    """Show what 8 bits cost."""
    compared = result.comparison
    change = compared.map_interpolated
    span = "" if math.isnan(change.low) else f" [{change.low:+.1f}, {change.high:+.1f}]"
    show(
        f"8 bits on {compared.images:,} held-out images: mAP {change.first:.1f} -> {change.second:.1f} "
        f"({change.value:+.1f}{span}), {result.speed:,.1f} images/s"
    )
    say(f"thresholds for the 8 bits chosen again on these images, for {result.objective}")
    lost = ", ".join(f"{one_line(name)} {value:+.1f}" for name, value in result.losses[:MOST_LOST])
    if lost:
        show(f"classes that lose most AP: {lost}")
