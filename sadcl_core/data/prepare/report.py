"""Count the images and labels of a manifest, and find what a person should know before training, the worst first."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from shlex import quote
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.checks import EXAMPLES, KINDS, ImageChecks
from sadcl_core.data.split import Split
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
    """One thing worth knowing.

    Attributes:
        what: a fixed name.
        count: of images, classes or pairs.
        text: in words, behind the count.
    """

    severity: Severity
    what: str
    count: int
    text: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitReport:
    """Counts of one split; those by class are in the order of the manifest."""

    name: str
    images: int
    without_labels: int
    labels_per_image: float
    class_counts: tuple[int, ...]
    unknown_counts: tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Two classes, the number of images in which both are active, and its share of the images of each."""

    first: str
    second: str
    images: int
    of_first: float
    of_second: float


@dataclass(frozen=True)
class Report:
    """Counts and findings of a data set.

    Attributes:
        splits: in the order of the manifest.
        findings: the worst first.
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
        """Return (K,) images in which each class is active, over all splits."""
        return np.asarray(np.array([split.class_counts for split in self.splits]).sum(axis=0), dtype=np.int64)

    def as_json(self) -> dict[str, Any]:
        """Return the document `report.json`."""
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


def make_report(
    manifest: Manifest, checks: ImageChecks, *, left_out: bool, across: tuple[str, ...] = (), likely_groups: str = ""
) -> Report:
    """Count a manifest and find what is wrong with it.

    The groups of the checks are in the order of the rows, without images with problems where these were left out; `across` are
    the groups of images that belong together and are in several splits, which nobody named where they are likely ones.
    """
    splits = tuple(_report_split(manifest.split(name)) for name in manifest.splits)
    counts = np.array([split.class_counts for split in splits]).sum(axis=0)
    present = counts[counts > 0]
    together = sum(co_occurrence(manifest.split(name)) for name in manifest.splits).tocoo()
    together.sum_duplicates()  # sorts, so that pairs of the same count are in the order of the classes
    once = together.row < together.col  # of each pair
    pairs = together.row[once], together.col[once], together.data[once]
    findings = [
        *_of_images(checks, left_out=left_out),
        *_of_duplicates(manifest, checks.groups),
        *_of_groups(across, likely_groups),
        *_of_classes(manifest.classes, splits, counts),
        *_of_labels(manifest, splits, counts),
        *_of_pairs(manifest.classes, pairs, counts),
    ]
    labels = np.concatenate([manifest.split(name).labels_per_image() for name in manifest.splits])
    return Report(
        name=manifest.description.name,
        classes=manifest.classes,
        splits=splits,
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        cardinality=tuple(map(int, np.bincount(labels))),
        imbalance=float(present.max() / present.min()) if len(present) else 0.0,
        pairs=tuple(_frequent_pairs(manifest.classes, pairs, counts)),
        decoded=checks.decoded,
    )


def _report_split(split: Split) -> SplitReport:
    labels = split.labels_per_image()
    return SplitReport(
        name=split.name,
        images=len(split),
        without_labels=int((labels == 0).sum()),
        labels_per_image=float(np.mean(labels)),
        class_counts=tuple(map(int, split.class_counts())),
        unknown_counts=tuple(map(int, split.unknown_counts())),
    )


def _frequent_pairs(names: tuple[str, ...], pairs: tuple[Counts, Counts, Counts], counts: Counts) -> Iterator[Pair]:
    rows, cols, images = pairs
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


def _of_groups(across: tuple[str, ...], likely: str) -> Iterator[Finding]:
    """Find groups in several splits, from the column that a person named or a likely one."""
    if across:
        text = "groups with images in several splits, so that held-out images are like those that are trained on"
        if likely:
            text += f" (by column {likely!r}; where data have no splits, --group-by {quote(likely)} keeps groups together)"
        yield Finding("warning" if likely else "bad", "groups across splits", len(across), text, across[:EXAMPLES])


def _of_duplicates(manifest: Manifest, groups: Counts) -> Iterator[Finding]:
    """Find images of the same content: in several splits, in one, and with other labels."""
    twins = np.flatnonzero(groups >= 0)
    by_group: dict[int, list[tuple[str, str, tuple[int, ...]]]] = {}
    for group, row in zip(groups[twins].tolist(), manifest.rows.take(twins).to_pylist(), strict=True):
        by_group.setdefault(group, []).append((row["image"], row["split"], tuple(row["active"])))
    splits = [{split for _, split, _ in same} for same in by_group.values()]
    across = [len(own) > 1 for own in splits]
    differing = [len({active for *_, active in same}) > 1 for same in by_group.values()]
    within = [len(own) < len(same) for own, same in zip(splits, by_group.values(), strict=True)]
    kinds: tuple[tuple[Severity, str, list[bool], str], ...] = (
        ("bad", "duplicates across splits", across, "contents in several splits, so that held-out images are trained on"),
        ("warning", "duplicates with other labels", differing, "contents that occur several times, with different labels"),
        ("warning", "duplicates within a split", within, "contents that occur several times in one split"),
    )
    for severity, what, concerned, text in kinds:
        if any(concerned):
            shown = list(compress(by_group.values(), concerned))[:EXAMPLES]
            examples = tuple(" = ".join(f"{image} ({split})" for image, split, _ in same[:3]) for same in shown)
            yield Finding(severity, what, sum(concerned), text, examples)


def _of_classes(names: tuple[str, ...], splits: tuple[SplitReport, ...], counts: Counts) -> Iterator[Finding]:
    images = sum(split.images for split in splits)
    unknown = np.array([split.unknown_counts for split in splits]).sum(axis=0)
    never = counts == 0
    always = ~never & (counts + unknown == images)  # nothing can be learned of them, and their AP is 100
    kinds: list[tuple[Severity, str, npt.NDArray[np.bool_], str]] = [
        ("warning", "classes never positive", never, "classes without a positive image")
    ]
    for split in splits if len(splits) > 1 else ():
        text = f"classes without a positive image in split {split.name}, though they have some elsewhere"
        kinds.append(("warning", f"classes missing in {split.name}", (np.array(split.class_counts) == 0) & ~never, text))
    for split in splits:
        if split.name == "train":
            few = (np.array(split.class_counts) > 0) & (np.array(split.class_counts) < FEW)
            kinds.append(("warning", "rare classes", few, f"classes with fewer than {FEW} positive training images"))
    text = "classes without an image that is known not to show them (unknown is not absent: write 0)"
    kinds.append(("bad", "classes without negatives", always & (unknown > 0), text))
    kinds.append(("warning", "classes always positive", always & (unknown == 0), "classes that are active in every image"))
    for severity, what, concerned, text in kinds:
        if concerned.any():
            numbers = np.flatnonzero(concerned)
            yield Finding(severity, what, len(numbers), text, tuple(names[k] for k in numbers[:NAMED]))
    alike: dict[str, list[str]] = {}
    for name in names:
        seen = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
        alike.setdefault(re.sub(r"[\s_-]+", " ", seen).casefold().strip(), []).append(name)
    spellings = [same for same in alike.values() if len(same) > 1]
    if spellings:
        examples = tuple(" = ".join(same[:3]) for same in spellings[:EXAMPLES])
        text = "names of classes that differ in spelling only"
        yield Finding("warning", "classes spelled alike", len(spellings), text, examples)


def _of_pairs(names: tuple[str, ...], pairs: tuple[Counts, Counts, Counts], counts: Counts) -> Iterator[Finding]:
    rows, cols, images = pairs
    together = np.flatnonzero((images == counts[rows]) & (images == counts[cols]))
    if len(together):
        most = together[np.argsort(-images[together], kind="stable")][:EXAMPLES]
        examples = tuple(f"{names[rows[k]]} = {names[cols[k]]}" for k in most)
        yield Finding("warning", "classes always together", len(together), "pairs of classes that never occur apart", examples)


def _of_labels(manifest: Manifest, splits: tuple[SplitReport, ...], counts: Counts) -> Iterator[Finding]:
    present = counts[counts > 0]
    if len(present) and present.max() >= IMBALANCED * present.min():
        most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max() + 1).argmin())
        text = f"times as many images of {manifest.classes[most]} as of {manifest.classes[least]}"
        yield Finding("warning", "imbalance", int(present.max() // present.min()), text)
    for split in splits:
        if split.without_labels == split.images and counts.any():
            text = f"images in split {split.name}, none with a label"
            yield Finding("warning", f"no label in {split.name}", split.images, text)
    empty = sum(split.without_labels for split in splits)
    if empty:
        yield Finding("note", "no label", empty, "images without an active label")
    unknown = sum(sum(split.unknown_counts) for split in splits)
    if unknown:
        share = 100 * unknown / max(len(manifest) * len(manifest.classes), 1)
        yield Finding("note", "unknown labels", unknown, f"labels ({share:.1f} %) that are unknown and take part in nothing")
