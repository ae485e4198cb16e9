"""sadcl cache: the features of frozen backbones that are kept, listed or removed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sadcl_cli.console import new_table, show, show_json, show_table
from sadcl_cli.options import Json, standing_alone, takes_verbosity
from sadcl_core.runtime.words import gigabytes

ALL = "all"  # what --clear stands for alone


class CacheCommand(TyperCommand):
    """Let --clear stand alone, for all features."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See the class."""
        return super().parse_args(ctx, standing_alone(args, "--clear", ALL))


@takes_verbosity
def cache(
    folder: Annotated[
        Path | None, typer.Option("--cache", metavar="DIR", help="Folder of the features; in the user's cache unless given.")
    ] = None,
    clear: Annotated[
        str | None, typer.Option("--clear", metavar="[KEY]", help="Remove these features; all that are not in use unless named.")
    ] = None,
    json: Json = False,
) -> None:
    """List the features that train --frozen computed once, the last used first, or remove them."""
    from datetime import UTC, datetime

    from sadcl_core.inference.feature_store import clear_features, default_folder, stored_features

    folder = folder or default_folder()
    removed = () if clear is None else clear_features(folder, None if clear == ALL else clear)
    stored = stored_features(folder)
    if json:
        entries = [
            {
                "key": entry.key,
                **entry.card.model_dump(include={"backbone", "img_size", "stride", "computed", "kept"}),
                "images": entry.images,
                "views": entry.rows,
                "bytes": entry.bytes,
                "last_used": datetime.fromtimestamp(entry.last_used, UTC).isoformat(timespec="seconds"),
                "in_use": entry.in_use,
            }
            for entry in stored
        ]
        show_json({"schema_version": 1, "folder": str(folder), "features": entries, "removed": [entry.key for entry in removed]})
        return
    if clear is not None:
        freed = gigabytes(sum(entry.bytes for entry in removed))
        show(f"{len(removed)} removed from {folder}, {freed} freed" + (f"; {len(stored)} left" if stored else ""))
        return
    table = new_table("key", "backbone", "size", "precision", "images", "views", "on disk", "last used")
    for entry in stored:
        last = "now" if entry.in_use else datetime.fromtimestamp(entry.last_used).astimezone().strftime("%Y-%m-%d %H:%M")
        numbers = (f"{entry.images:,}", f"{entry.rows:,}", gigabytes(entry.bytes))
        table.add_row(entry.key, entry.card.backbone, f"{entry.card.img_size}", entry.card.kept, *numbers, last)
    if stored:
        show_table(table)
    show(f"feature maps of backbones: {len(stored)}, {gigabytes(sum(entry.bytes for entry in stored))} in {folder}")
