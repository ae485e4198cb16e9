"""Show a prepared data set: its splits, classes and findings, where it came from, and its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from sadcl_cli.console import detail, new_table, say, show, show_json, show_table, verbosity, warn
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from sadcl_core.data.interpretation import FileReading, ImagePlace, Interpretation, Role
    from sadcl_core.data.manifest import Manifest
    from sadcl_core.data.prepare.prepare import DataOrigin, Prepared
    from sadcl_core.data.prepare.report import Finding, Report

CLASSES = 40  # classes in the table; of more, the rarest
PROBLEMS = 20  # images that were left out are named
NAMED = 8  # columns, files or folders named in a sentence
EXAMPLES = 3  # images or classes named of a finding
ROLES: dict[Role, tuple[str, str]] = {
    "image": ("images in column", "images in columns"),
    "labels": ("labels in column", "labels in columns"),
    "class": ("class", "classes"),
    "split": ("splits in column", "splits in columns"),
    "unknown": ("unknown labels in column", "unknown labels in columns"),
    "value": ("the value of each label in column", "the value of each label in columns"),
    "group": ("a likely group in column", "likely groups in columns"),
    "metadata": ("not read", "not read"),
}
STYLES = {"bad": "bold red", "warning": "yellow", "note": ""}


def show_prepared(prepared: Prepared, *, json: bool) -> None:
    """Draw the page of a data set, and show what was prepared and written."""
    for problem in prepared.problems[:PROBLEMS]:
        warn(f"left out: {problem.reason}")
    if len(prepared.problems) > PROBLEMS:
        warn(f"left out {counted(len(prepared.problems) - PROBLEMS, 'more image')} that cannot be read")
    report, *others = prepared.files
    files = [report, _draw_page(prepared.manifest, prepared.report), *others]
    if json:
        show_json(_document(prepared, files))
        return
    description = prepared.manifest.description
    for note in [*description.notes, *reading_sentences(description.interpretation)]:
        say(f"{description.name}: {note}")
    _show_splits(prepared.report)
    _show_classes(prepared.report)
    if prepared.report.findings:
        _show_findings(prepared.report.findings)
    detail(f"images under {description.root}")
    for folder, classes in prepared.class_groups.items():
        show(f"{folder}: {', '.join(classes)}")
    for path in files:
        say(f"written: {path}")
    show(f"manifest saved to {prepared.manifest.folder}")


def say_origin(origin: DataOrigin) -> None:
    """Say where data came from and what is worth knowing of them; of data that were prepared just now, draw the page."""
    manifest, name = origin.manifest, origin.manifest.description.name
    say(f"data {name}: {origin_text(origin)}")
    account = None if origin.report is None else manifest.description.interpretation
    for note in [*manifest.description.notes, *reading_sentences(account)]:
        say(f"data {name}: {note}")
    if origin.report is None:
        return
    for finding in origin.report.findings:
        if finding.severity == "bad" or (finding.severity == "warning" and not verbosity.quiet):
            examples = _examples(finding)
            warn(f"{name}: {finding.count:,} {finding.text}{f' ({examples})' if examples else ''}")
    say(f"data {name}: more in {_draw_page(manifest, origin.report)}")


def reading_sentences(account: Interpretation | None) -> Iterator[str]:
    """Yield sentences on how label files were read: columns with reasons, separator, values, where images were found."""
    if account is None:
        return
    alike: dict[str, list[str]] = {}
    for file in account.files:
        alike.setdefault("; ".join(_of_file(file)), []).append(file.file)
    for text, files in alike.items():
        yield f"{_few(files)}: {text or f'read as {account.format}'}"
    if account.classes:
        yield f"order of classes: {account.classes}"
    places = [_place(place) for place in account.places]
    if places:
        yield f"images found {_few(places)}"
    for left in account.left_out:
        names = f" ({_few(left.names)})" if left.names else ""
        yield f"left out: {left.count:,} {left.what}{'s'[: left.count != 1]}{names}, because {left.reason}"


def _of_file(file: FileReading) -> Iterator[str]:
    """Yield how one label file was read."""
    by_role: dict[tuple[Role, str], list[str]] = {}
    for column in file.columns:
        by_role.setdefault((column.role, column.reason), []).append(column.name)
    for (role, reason), names in by_role.items():
        if role == "group" and reason == "--group-by":
            yield f"groups in column {names[0]} ({reason})"
        elif role == "group":
            yield f"{ROLES[role][len(names) != 1]} {_few(names)}: --group-by {quote(names[0])} keeps its images in one split"
        elif role != "metadata":
            bare = [name.removeprefix("column ") for name in names] if role != "class" else names
            yield f"{ROLES[role][len(names) != 1]} {_few(bare)} ({reason})"
    for (role, reason), names in by_role.items():
        if role == "metadata":
            yield f"not read: {_few(names)} ({reason})"
    if file.separator:
        between = "each cell is one label" if file.separator == "none" else f"{file.separator!r} stands between labels"
        yield f"{between} (--delimiter)"
    if file.values:
        yield ", ".join(f"{value} is {meaning}" for value, meaning in file.values.items()) + " (--present, --absent, --unknown)"


def _place(place: ImagePlace) -> str:
    """Return where some images were found, in words."""
    parts = [f"in {place.folder or '.'}/ ({place.images:,})"]
    parts += [f"without {place.dropped}/"] if place.dropped else []
    parts += [f"with the extension {place.extension}"] if place.extension else []
    return " ".join(parts)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def _examples(finding: Finding) -> str:
    """Return a few examples of a finding, and how many more there are; blank if it has none."""
    names = ", ".join(finding.examples[:EXAMPLES])
    return f"{names} and {finding.count - EXAMPLES:,} more" if names and finding.count > EXAMPLES else names


def origin_text(origin: DataOrigin) -> str:
    """Return where data came from, in words."""
    text = f"manifest {origin.manifest.folder}"
    match origin.kind:
        case "shards":
            return f"{origin.manifest.description.location}, {text}"
        case "before":
            return f"{text}, prepared before{f' from {origin.source}' if origin.source else ''}"
        case "now":
            return f"{text}, prepared now from {origin.source}"
        case "folder":
            return f"{text} (older than {origin.newer}: sadcl prepare-data reads it again)" if origin.newer else text


def _draw_page(manifest: Manifest, report: Report) -> Path:
    """Draw the page of a data set beside its manifest."""
    from sadcl_core.plots.dataset import plot_dataset

    assert manifest.folder is not None, "a prepared manifest is stored"
    return plot_dataset(manifest, report, manifest.folder / "report.png")


def _show_splits(report: Report) -> None:
    table = new_table("split", "images", "without labels", "labels per image", "classes with images", title=report.name)
    for split in report.splits:
        present = sum(count > 0 for count in split.class_counts)
        counts = (f"{split.images:,}", f"{split.without_labels:,}", f"{split.labels_per_image:.2f}")
        table.add_row(split.name, *counts, f"{present} of {len(report.classes)}")
    show_table(table)


def _show_classes(report: Report) -> None:
    """Show images per class and split; of many classes the rarest, unless -v."""
    columns = []
    for split in report.splits:
        columns.append((split.name, split.class_counts))
        if any(sum(other.unknown_counts) for other in report.splits):
            columns.append((f"{split.name} unknown", split.unknown_counts))
    numbers, title = list(range(len(report.classes))), "images per class"
    if len(numbers) > CLASSES and not verbosity.verbose:
        title = f"images per class: the {CLASSES} rarest of {len(numbers):,} (-v for all)"
        numbers = sorted(numbers, key=lambda k: int(report.class_counts[k]))[:CLASSES]
    table = new_table("class", *(name for name, _ in columns), title=title)
    for k in numbers:
        table.add_row(report.classes[k], *(f"{counts[k]:,}" for _, counts in columns))
    show_table(table)


def _show_findings(findings: tuple[Finding, ...]) -> None:
    """Show what to look at before training, the worst first."""
    table = new_table("", "number", "of", "for example", title="worth knowing", wrap=True)
    for finding in findings:
        table.add_row(finding.severity, f"{finding.count:,}", finding.text, _examples(finding), style=STYLES[finding.severity])
    show_table(table)


def _document(prepared: Prepared, files: list[Path]) -> dict[str, Any]:
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
        "problems": [vars(problem) for problem in prepared.problems],
        "class_groups": {str(folder): list(classes) for folder, classes in prepared.class_groups.items()},
        "written": [str(path) for path in files],
        "notes": list(description.notes),
        "interpretation": None if description.interpretation is None else asdict(description.interpretation),
    }
