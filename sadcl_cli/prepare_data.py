"""sadcl prepare-data: read labels and images as they lie on disk, check them, write their manifest and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sadcl_cli.console import stages
from sadcl_cli.options import MOST, Json, complete_dataset, takes_reading, takes_verbosity
from sadcl_core.data.formats import DATASETS, FORMATS


def complete_format(incomplete: str) -> list[str]:
    """Return the names of formats that start with a text."""
    return [name for name in FORMATS if name.startswith(incomplete)]


@takes_verbosity
@takes_reading()
def prepare_data(
    dataset: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME|PATH|SPLIT=FILE...",
            help=f"{', '.join(DATASETS)}; or a folder, a label file, or a label file per split: train=a.csv test=b.csv.",
            autocompletion=complete_dataset,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Where the images lie; data/NAME, or beside the labels, unless given."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where to write the manifest; prepared/NAME unless given."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Of the data set; from its folder or file unless given.")] = "",
    format: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="Format of the labels, when not as found.", autocompletion=complete_format),
    ] = "",
    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="0.8,0.1,0.1|NAME",
            help="Divide the images, or put all into one split; else their own splits are kept.",
        ),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of the division into splits.")] = 0,
    *,
    merge: Annotated[
        list[str] | None, typer.Option("--merge", metavar="NEW=A,B", help="Make one class of several; may be given again.")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="CLASS", help="Leave a class out, or several: a,b; may be given again.")
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", metavar="FILE|A,B", help="Keep these classes alone: a file with one a line, or a,b.")
    ] = "",
    min_positives: Annotated[
        int, typer.Option("--min-positives", metavar="N", min=0, max=MOST, help="Leave out classes with fewer images.")
    ] = 0,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=0, max=MOST, help="Take a part of the images in which every class keeps its share."
        ),
    ] = 0,
    class_groups: Annotated[
        int,
        typer.Option(
            "--class-groups",
            metavar="N",
            min=0,
            max=MOST,
            help="Also write N groups of related classes, and N of unrelated ones.",
        ),
    ] = 0,
    resize: Annotated[
        int, typer.Option("--resize", metavar="PIXELS", min=0, max=8192, help="Also write compact copies with this short side.")
    ] = 0,
    export: Annotated[
        list[str] | None, typer.Option("--export", metavar="coco|csv|jsonl", help="Also write label files in this format.")
    ] = None,
    shards: Annotated[
        Path | None, typer.Option("--shards", metavar="DIR", help="Also write WebDataset shards, to train from as a stream.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch VOC or COCO first, into --data or data/NAME.")] = False,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out images that cannot be read.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="See that images are there, but do not decode them.")] = False,
    json: Json = False,
    **reading: Any,
) -> None:
    """Read labels and images as they are, check them, and write a manifest and a report. Nothing of yours is moved or changed."""
    from sadcl_cli.display.prepare import show_prepared
    from sadcl_core.data.prepare.prepare import prepare

    with stages() as progress:
        prepared = prepare(
            dataset,
            data=data,
            output=output,
            name=name,
            format=format,
            split=split,
            seed=seed,
            merge=merge or [],
            drop=drop or [],
            keep=keep,
            min_positives=min_positives,
            limit=limit,
            class_groups=class_groups,
            resize=resize,
            export=export or [],
            shards=shards,
            download=download,
            skip_broken=skip_broken,
            fast=fast,
            progress=progress,
            **reading,
        )
    show_prepared(prepared, json=json)
