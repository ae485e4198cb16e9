"""What a manifest holds, and what a person should know about it before training: counts, and findings with the worst first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.checks import EXAMPLES, KINDS, ImageChecks
from sadcl_core.data.split import ALL
from sadcl_core.data.statistics import co_occurrence

SCHEMA_VERSION = 1
FEW = 10  # training positives under which a class can hardly be learned
IMBALANCED = 100  # times between the most and the least frequent class
PAIRS = 50  # most frequent pairs of labels that are listed
NAMED = 5  # classes named in a sentence

Severity = Literal["bad", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("bad", "warning", "note")
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing: how bad, of how many images, classes or pairs, in words, with a few examples."""

    severity: Severity
    what: str
    count: int
    text: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitReport:
    """What one split holds; the arrays are per class, in the order of the manifest."""

    name: str
    images: int
    without_labels: int
    labels_per_image: float
    class_counts: tuple[int, ...]
    unknown_counts: tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Two classes, in how many images both are active, and the share of each one's images that is."""

    first: str
    second: str
    images: int
    of_first: float
    of_second: float


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        cardinality: images with 0, 1, 2, ... active labels.
        imbalance: images of the most frequent class over those of the least frequent one that occurs.
        pairs: the most frequent pairs of labels.
        decoded: whether the pixels of the images were read.
    """

    name: str
    classes: tuple[str, ...]
    splits: tuple[SplitReport, ...]
    findings: tuple[Finding, ...]
    cardinality: tuple[int, ...]
    imbalance: float
    pairs: tuple[Pair, ...]
    decoded: bool

    @property
    def class_counts(self) -> Counts:
        """(K,) images in which each class is active, over all splits."""
        return total_counts(self.splits)

    def as_json(self) -> dict[str, Any]:
        """The document `report.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "images": sum(split.images for split in self.splits),
            "images_decoded": self.decoded,
            "findings": [vars(finding) for finding in self.findings],
            "splits": {
                split.name: {
                    "images": split.images,
                    "without_labels": split.without_labels,
                    "labels_per_image": round(split.labels_per_image, 4),
                }
                for split in self.splits
            },
            "classes": {
                name: {split.name: {"active": split.class_counts[k], "unknown": split.unknown_counts[k]} for split in self.splits}
                for k, name in enumerate(self.classes)
            },
            "labels_per_image": {str(labels): images for labels, images in enumerate(self.cardinality) if images},
            "imbalance": round(self.imbalance, 2),
            "pairs": [vars(pair) for pair in self.pairs],
        }


def make_report(manifest: Manifest, checks: ImageChecks, *, left_out: bool) -> Report:
    """Count a manifest and find what is wrong with it.

    Args:
        manifest: what is reported on.
        checks: of its images, `groups` in the order of its rows; `problems` may be of rows that were left out.
        left_out: whether the images with problems were.
    """
    splits = tuple(report_splits(manifest))
    counts = total_counts(splits)
    present = counts[counts > 0]
    both = _both_active(manifest)
    findings = [
        *_of_images(checks, left_out=left_out),
        *_of_duplicates(manifest, checks.groups),
        *_of_classes(manifest.classes, splits),
        *_of_labels(manifest, splits),
        *_of_pairs(manifest.classes, both, counts),
    ]
    cardinality = np.bincount(pc.list_value_length(manifest.rows["active"]).to_numpy(), minlength=1)
    return Report(
        name=manifest.description.name,
        classes=manifest.classes,
        splits=splits,
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        cardinality=tuple(map(int, cardinality)),
        imbalance=float(present.max() / present.min()) if len(present) else 0.0,
        pairs=tuple(_pairs(manifest.classes, both, counts)),
        decoded=checks.decoded,
    )


def report_splits(manifest: Manifest) -> Iterator[SplitReport]:
    """Count each split."""
    for name in manifest.splits:
        split = manifest.split(name)
        labels = split.labels_per_image()
        yield SplitReport(
            name=name,
            images=len(split),
            without_labels=int((labels == 0).sum()),
            labels_per_image=float(np.mean(labels)),
            class_counts=tuple(map(int, split.class_counts())),
            unknown_counts=tuple(map(int, split.unknown_counts())),
        )


def total_counts(splits: Sequence[SplitReport]) -> Counts:
    """(K,) images of all splits in which each class is active."""
    return np.asarray(np.array([split.class_counts for split in splits]).sum(axis=0), dtype=np.int64)


def _both_active(manifest: Manifest) -> tuple[Counts, Counts, Counts]:
    """Of every pair of classes that occurs, each once: the first class, the second, and in how many images both are active."""
    both = co_occurrence(manifest.split(ALL)).tocoo()
    above = both.row < both.col
    return both.row[above], both.col[above], both.data[above]


def _pairs(names: tuple[str, ...], both: tuple[Counts, Counts, Counts], counts: Counts) -> Iterator[Pair]:
    rows, cols, images = both
    for place in np.argsort(-images, kind="stable")[:PAIRS]:
        a, b, count = int(rows[place]), int(cols[place]), int(images[place])
        yield Pair(names[a], names[b], count, round(count / int(counts[a]), 4), round(count / int(counts[b]), 4))


def _of_images(checks: ImageChecks, *, left_out: bool) -> Iterator[Finding]:
    if checks.problems:
        text = "images that cannot be read" + (", left out" if left_out else "")
        reasons = tuple(problem.reason for problem in checks.problems[:EXAMPLES])
        yield Finding("bad", "broken images", len(checks.problems), text, reasons)
    for kind, text in KINDS.items():
        if checks.kinds[kind]:
            yield Finding("note", kind, checks.kinds[kind], f"images {text}", tuple(checks.examples[kind]))


def _of_duplicates(manifest: Manifest, groups: Counts) -> Iterator[Finding]:
    """Images of the same content: in several splits, in one, and with other labels."""
    twins = np.flatnonzero(groups >= 0)
    rows = manifest.rows.take(twins)
    by_group: dict[int, list[tuple[str, str, tuple[int, ...]]]] = {}
    for group, image, split, active in zip(
        groups[twins], rows["image"].to_pylist(), rows["split"].to_pylist(), rows["active"].to_pylist(), strict=True
    ):
        by_group.setdefault(int(group), []).append((image, split, tuple(active)))
    across = [same for same in by_group.values() if len({split for _, split, _ in same}) > 1]
    within = [same for same in by_group.values() if len({split for _, split, _ in same}) < len(same)]
    unlike = [same for same in by_group.values() if len({active for _, _, active in same}) > 1]
    for severity, what, found, text in (
        (
            "bad",
            "duplicates across splits",
            across,
            "contents in several splits, so that held-out images are trained on",
        ),
        ("warning", "duplicates with other labels", unlike, "contents that occur several times, with different labels"),
        ("warning", "duplicates within a split", within, "contents that occur several times in one split"),
    ):
        if found:
            examples = tuple(" = ".join(f"{image} ({split})" for image, split, _ in same[:3]) for same in found[:EXAMPLES])
            yield Finding(severity, what, len(found), text, examples)  # type: ignore[arg-type]


def _of_classes(names: tuple[str, ...], splits: tuple[SplitReport, ...]) -> Iterator[Finding]:
    counts = np.array([split.class_counts for split in splits])  # (splits, K)
    never = counts.sum(axis=0) == 0
    if never.any():
        yield _classes("warning", "classes never positive", names, never, "classes without a positive image")
    for row, split in zip(counts, splits, strict=True):
        missing = (row == 0) & ~never
        if missing.any() and len(splits) > 1:
            text = f"classes without a positive image in split {split.name}, though they have some elsewhere"
            yield _classes("warning", f"classes missing in {split.name}", names, missing, text)
    train = next((row for row, split in zip(counts, splits, strict=True) if split.name == "train"), None)
    if train is not None:
        few = (train > 0) & (train < FEW)
        if few.any():
            yield _classes("warning", "rare classes", names, few, f"classes with fewer than {FEW} positive training images")
    yield from _of_negatives(names, splits)
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"[\s_-]+", " ", name).casefold(), []).append(name)
    spelled = [same for same in alike.values() if len(same) > 1]
    if spelled:
        examples = tuple(" = ".join(same[:3]) for same in spelled[:EXAMPLES])
        yield Finding("warning", "classes spelled alike", len(spelled), "names of classes that differ in spelling only", examples)


def _of_negatives(names: tuple[str, ...], splits: tuple[SplitReport, ...]) -> Iterator[Finding]:
    """Classes that no image is known not to show: nothing can be learned of them, and their AP is 100."""
    images, active = sum(split.images for split in splits), total_counts(splits)
    unknown = np.array([split.unknown_counts for split in splits]).sum(axis=0)
    positive = (active > 0) & (active + unknown == images)
    if (positive & (unknown > 0)).any():
        text = "classes without an image that is known not to show them (unknown is not absent: write 0)"
        yield _classes("bad", "classes without negatives", names, positive & (unknown > 0), text)
    if (positive & (unknown == 0)).any():
        yield _classes(
            "warning", "classes always positive", names, positive & (unknown == 0), "classes that are active in every image"
        )


def _classes(severity: Severity, what: str, names: tuple[str, ...], chosen: npt.NDArray[np.bool_], text: str) -> Finding:
    places = np.flatnonzero(chosen)
    return Finding(severity, what, len(places), text, tuple(names[k] for k in places[:NAMED]))


def _of_pairs(names: tuple[str, ...], both: tuple[Counts, Counts, Counts], counts: Counts) -> Iterator[Finding]:
    rows, cols, images = both
    together = np.flatnonzero((images == counts[rows]) & (images == counts[cols]))
    if len(together):
        most = together[np.argsort(-images[together], kind="stable")][:EXAMPLES]
        examples = tuple(f"{names[rows[k]]} = {names[cols[k]]}" for k in most)
        yield Finding("warning", "classes always together", len(together), "pairs of classes that never occur apart", examples)


def _of_labels(manifest: Manifest, splits: tuple[SplitReport, ...]) -> Iterator[Finding]:
    counts = total_counts(splits)
    present = counts[counts > 0]
    if len(present) and present.max() >= IMBALANCED * present.min():
        most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max() + 1).argmin())
        text = f"times as many images of {manifest.classes[most]} as of {manifest.classes[least]}"
        yield Finding("warning", "imbalance", int(present.max() // present.min()), text)
    for split in splits:
        if split.without_labels == split.images and counts.any():
            yield Finding(
                "warning", f"no label in {split.name}", split.images, f"images in split {split.name}, none with a label"
            )
    empty = sum(split.without_labels for split in splits)
    if empty:
        yield Finding("note", "no label", empty, "images without an active label")
    unknown = sum(sum(split.unknown_counts) for split in splits)
    if unknown:
        share = 100 * unknown / max(len(manifest) * len(manifest.classes), 1)
        yield Finding("note", "unknown labels", unknown, f"labels ({share:.1f} %) that are unknown and take part in nothing")
