"""sadcl prepare-data: read a data set as it lies on disk, check it, write its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sadcl_cli.console import counting, detail, new_table, say, show, show_json, show_table, warn
from sadcl_cli.options import Debug, Json, Quiet, Verbose, complete_dataset
from sadcl_core.data.formats import FORMATS

if TYPE_CHECKING:
    from sadcl_core.data.prepare import Prepared


def prepare_data(
    name: Annotated[
        str,
        typer.Argument(help=f"One of: {', '.join(FORMATS)}.", autocompletion=complete_dataset),
    ],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where the data set lies; data/NAME unless given.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where to write the manifest; prepared/NAME unless given."),
    ] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out images that cannot be read.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="See that images are there, but do not decode them.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Read and check a data set and write its manifest. Images stay where they are."""
    from sadcl_core.data.prepare import prepare

    with counting("checking images") as progress:
        prepared = prepare(name, data=data, output=output, skip_broken=skip_broken, decode=not fast, progress=progress)
    for problem in prepared.problems[:20]:
        warn(f"left out: {problem.reason}")
    if len(prepared.problems) > 20:
        warn(f"left out {len(prepared.problems) - 20:,} more images that cannot be read")
    if json:
        show_json(_as_json(prepared))
    else:
        _show(prepared)


def _show(prepared: Prepared) -> None:
    description = prepared.manifest.description
    for note in description.notes:
        say(f"{description.name}: {note}")
    splits = new_table("split", "images", "without labels", "labels per image", "classes with images", title=description.name)
    for split in prepared.splits:
        present = sum(count > 0 for count in split.class_counts)
        splits.add_row(
            split.name,
            f"{split.images:,}",
            f"{split.without_labels:,}",
            f"{split.labels_per_image:.2f}",
            f"{present} of {len(description.classes)}",
        )
    show_table(splits)
    unknown = any(sum(split.unknown_counts) for split in prepared.splits)
    columns = [
        column for split in prepared.splits for column in ((split.name, f"{split.name} unknown") if unknown else (split.name,))
    ]
    classes = new_table("class", *columns, title="images per class")
    for k, name in enumerate(description.classes):
        cells = [
            f"{count:,}"
            for split in prepared.splits
            for count in ((split.class_counts[k], split.unknown_counts[k]) if unknown else (split.class_counts[k],))
        ]
        classes.add_row(name, *cells)
    show_table(classes)
    detail(f"images under {description.root}")
    show(f"manifest saved to {prepared.manifest.folder}")


def _as_json(prepared: Prepared) -> dict[str, object]:
    description = prepared.manifest.description
    return {
        "schema_version": 1,
        "name": description.name,
        "manifest": str(prepared.manifest.folder),
        "root": str(description.root),
        "images": len(prepared.manifest),
        "classes": list(description.classes),
        "splits": {
            split.name: {
                "images": split.images,
                "without_labels": split.without_labels,
                "labels_per_image": round(split.labels_per_image, 4),
                "class_counts": list(split.class_counts),
                "unknown_counts": list(split.unknown_counts),
            }
            for split in prepared.splits
        },
        "problems": [{"image": problem.image, "reason": problem.reason} for problem in prepared.problems],
        "notes": list(description.notes),
    }
