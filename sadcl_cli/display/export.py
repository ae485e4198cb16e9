"""The sentences of sadcl export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sadcl_cli.console import one_line, show, warn

if TYPE_CHECKING:
    from sadcl_core.exporting.export import Export


def show_export(result: Export) -> None:
    """Show what was written, and how it differs from the trained model."""
    checked = result.verification
    if checked is None:
        warn(f"nothing was verified: {result.unverified}")
    else:
        flips = f"{checked.flipped:,} labels flip" if checked.flipped else "no label flips"
        where = f" ({one_line(checked.label)} of {one_line(checked.image)})" if checked.largest else ""
        show(
            f"verified on {checked.images:,} images: largest difference of a probability {checked.largest:.1e}{where}, {flips}; "
            f"{checked.exported_speed:,.1f} images/s, the trained model {checked.speed:,.1f}"
        )
    for path, size in result.files.items():
        amount = f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 2**10:,.1f} KiB"
        show(f"{amount} saved to {one_line(str(path))}")
