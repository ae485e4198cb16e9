"""sadcl prepare-data: read labels and images as they lie on disk, check them, write their manifest and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sadcl_cli.console import counting, detail, new_table, say, show, show_json, show_table, stages, verbosity, warn
from sadcl_cli.options import Debug, Json, Quiet, Verbose, complete_dataset
from sadcl_core.data.formats import DATASETS, FORMATS

if TYPE_CHECKING:
    from sadcl_core.data.manifest import Manifest
    from sadcl_core.data.prepare.prepare import Prepared
    from sadcl_core.data.prepare.report import Finding, Report

SHOWN_CLASSES = 40  # classes in the table; of more, the rarest
STYLES = {"bad": "bold red", "warning": "yellow", "note": ""}


def complete_format(incomplete: str) -> list[str]:
    """Names of formats that start so."""
    return [name for name in FORMATS if name.startswith(incomplete) and name not in ("digits",)]


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
        typer.Option("--split", metavar="0.8,0.1,0.1|NAME", help="Divide data that come without splits, or put all into one."),
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the division into splits.")] = 0,
    classes: Annotated[
        Path | None, typer.Option("--classes", metavar="FILE", help="Class names in their order, one per line.")
    ] = None,
    delimiter: Annotated[
        str, typer.Option("--delimiter", help="Between the labels of one cell; none: each cell is one label.")
    ] = "",
    label_column: Annotated[str, typer.Option("--label-column", metavar="NAME", help="Column of a table with the labels.")] = "",
    long: Annotated[bool, typer.Option("--long", help="Each row of a table is one label of its image.")] = False,
    difficult: Annotated[
        Literal["ignore", "negative", "positive"],
        typer.Option("--difficult", help="VOC's difficult objects: unknown, absent or present."),
    ] = "ignore",
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
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Read labels and images as they are, check them, and write a manifest and a report. Nothing of yours is moved or changed."""
    from sadcl_core.data.prepare.export import check_exports
    from sadcl_core.data.prepare.prepare import Options, prepare

    check_exports(export or [])
    if shards is not None:
        from sadcl_core.data.shards import refuse_used, require_webdataset

        require_webdataset()  # before any long work
        refuse_used(shards)
    if download:
        _download(dataset, data)
    options = Options(
        format=format,
        split=split,
        seed=seed,
        classes=str(classes.absolute()) if classes else "",
        delimiter=delimiter,
        difficult=difficult,
        label_column=label_column,
        long=long,
        resize=resize,
        skip_broken=skip_broken,
        decode=not fast,
    )
    with stages() as progress:
        prepared = prepare(*dataset, data=data, output=output, name=name, options=options, progress=progress)
    for problem in prepared.problems[:20]:
        warn(f"left out: {problem.reason}")
    if len(prepared.problems) > 20:
        warn(f"left out {len(prepared.problems) - 20:,} more images that cannot be read")
    written = _write_more(prepared, export or [], shards)
    if json:
        show_json(_as_json(prepared, written))
    else:
        _show(prepared, written)


def draw_report(manifest: Manifest, report: Report) -> Path:
    """The page on a data set, beside its manifest."""
    from sadcl_core.plots.dataset import plot_dataset

    assert manifest.folder is not None, "a prepared manifest is stored"
    return plot_dataset(manifest, report, manifest.folder / "report.png")


def _download(dataset: list[str], data: Path | None) -> None:
    from sadcl_core.data.prepare.dataset_spec import DATA
    from sadcl_core.data.prepare.download import download

    name = dataset[0]
    with stages(in_bytes=True) as progress:
        download(name, data or DATA / name, progress=progress)


def _write_more(prepared: Prepared, exports: list[str], shards: Path | None) -> list[Path]:
    """The page, and what else was asked for; returns where it is."""
    from sadcl_core.data.prepare.export import export
    from sadcl_core.data.prepare.prepare import REPORT

    manifest = prepared.manifest
    assert manifest.folder is not None, "a prepared manifest is stored"
    written = [manifest.folder / REPORT, draw_report(manifest, prepared.report)]
    for form in exports:
        written += export(manifest, form, manifest.folder / "export" / form)
    if shards is not None:
        from sadcl_core.data.shards import write_shards

        with counting("writing shards") as progress:
            written.append(write_shards(manifest, shards, progress=progress))
    return written


def _show(prepared: Prepared, written: list[Path]) -> None:
    description, report = prepared.manifest.description, prepared.report
    for note in description.notes:
        say(f"{description.name}: {note}")
    splits = new_table("split", "images", "without labels", "labels per image", "classes with images", title=description.name)
    for split in report.splits:
        present = sum(count > 0 for count in split.class_counts)
        splits.add_row(
            split.name,
            f"{split.images:,}",
            f"{split.without_labels:,}",
            f"{split.labels_per_image:.2f}",
            f"{present} of {len(description.classes)}",
        )
    show_table(splits)
    _show_classes(report)
    if report.findings:
        _show_findings(report.findings)
    detail(f"images under {description.root}")
    for path in written:
        say(f"written: {path}")
    show(f"manifest saved to {prepared.manifest.folder}")


def _show_classes(report: Report) -> None:
    """Images per class and split; of many classes the rarest, unless -v."""
    unknown = any(sum(split.unknown_counts) for split in report.splits)
    columns = [
        column for split in report.splits for column in ((split.name, f"{split.name} unknown") if unknown else (split.name,))
    ]
    chosen, title = list(range(len(report.classes))), "images per class"
    if len(chosen) > SHOWN_CLASSES and not verbosity.verbose:
        rarest = sorted(chosen, key=lambda k: int(report.class_counts[k]))[:SHOWN_CLASSES]
        chosen, title = rarest, f"images per class: the {SHOWN_CLASSES} rarest of {len(chosen):,} (-v for all)"
    table = new_table("class", *columns, title=title)
    for k in chosen:
        cells = [
            f"{count:,}"
            for split in report.splits
            for count in ((split.class_counts[k], split.unknown_counts[k]) if unknown else (split.class_counts[k],))
        ]
        table.add_row(report.classes[k], *cells)
    show_table(table)


def _show_findings(findings: tuple[Finding, ...]) -> None:
    """What to look at before training, the worst first."""
    table = new_table("", "number", "of", "for example", title="worth knowing", wrap=True)
    for finding in findings:
        examples = ", ".join(finding.examples[:3]) + (", ..." if finding.count > 3 and len(finding.examples) > 2 else "")
        table.add_row(finding.severity, f"{finding.count:,}", finding.text, examples, style=STYLES[finding.severity])
    show_table(table)


def _as_json(prepared: Prepared, written: list[Path]) -> dict[str, object]:
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
            for split in prepared.report.splits
        },
        "findings": [vars(finding) for finding in prepared.report.findings],
        "problems": [{"image": problem.image, "reason": problem.reason} for problem in prepared.problems],
        "written": [str(path) for path in written],
        "notes": list(description.notes),
    }
