"""Labels that are probably errors: missing (the image shows it, the label is not there) or wrong (the other way round).

What a model says is held against what it is told, label by label, as in confident learning (Northcutt et al., JAIR 2021)
and its form for many labels an image (Thyagarajan et al., 2022), which rank by self-confidence, the score of what is told.
That takes scores for probabilities, which losses that favour the rare active labels do not give, and it takes any label to
be wrong as easily as any other, so that most errors would be among the many inactive ones.

Here a logistic regression over all known labels finds z, the log-odds that a label is told active, from its logit and,
where there are prototypes, from the cosine of its label feature and the prototype. If as many labels are missing as are
wrong, and p is the share of active labels, the log-odds of an error are, up to a constant,

    z - log(p / (1 - p)) / 2

for an inactive label, and the negative of that for an active one. `benchmarks/label_errors.py` flips labels on purpose and
compares.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import logit
from torch import Tensor

from sadcl_core.metrics.arrays import checked
from sadcl_core.model.classifier import Classifier, ClassifierOutput
from sadcl_core.runtime.distributed import all_gather, is_distributed
from sadcl_core.runtime.files import replacing

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.floating]
Targets = npt.NDArray[np.integer]

FITTED_ON = 4_000_000  # labels at most, of images at equal distances; the regression has three numbers to find
CERTAIN = 1e-6  # scores nearer to 0 or 1 are as good as these: float32 knows little more
BLOCK = 4_000_000  # scores that are looked at in one piece
COLUMNS = ("image", "label", "kind", "score", "margin", "similarity", "suspicion", "rank")


@dataclass(frozen=True)
class SuspectedError:
    """A label that what the model sees speaks against.

    Attributes:
        image: index into the split.
        label: class index.
        kind: "missing": inactive by the labels, but probably shown; "wrong": active, but probably not shown.
        score: of the label, in 0..1.
        margin: how far the score lies on the other side of the threshold of its class, as a difference of logits.
        similarity: cosine of the label feature and its prototype in -1..1, when that was measured.
        suspicion: log-odds of an error but for a constant, above 0; one scale for both kinds and all classes.
    """

    image: int
    label: int
    kind: Literal["missing", "wrong"]
    score: float
    margin: float
    similarity: float | None
    suspicion: float


class SimilarityObserver:
    """Watches the scoring of a split and keeps how similar every label feature is to its prototype."""

    needs_attention = False

    def __init__(self, classifier: Classifier, count: int) -> None:
        """For `count` images.

        Raises:
            ValueError: the classifier has no prototypes.
        """
        if not bool(classifier.prototypes.any()):
            raise ValueError("the classifier has no prototypes")
        with torch.no_grad():
            self.centres = classifier.project(classifier.prototypes).float()  # (K, P), of length 1
        self.values = torch.zeros(count, len(self.centres), dtype=torch.float16)  # half of float32 where N x K is large
        self.seen: list[Tensor] = []

    @torch.no_grad()
    def __call__(self, classifier: Classifier, output: ClassifierOutput, targets: Tensor, indices: Tensor) -> None:
        """Take in a batch."""
        embeddings = classifier.project(output.label_features.float())  # (B, K, P)
        self.values[indices] = (embeddings * self.centres).sum(dim=-1).cpu().half()
        self.seen.append(indices)

    def gather(self) -> None:
        """Take together what all processes saw."""
        if is_distributed():
            own = torch.cat([torch.zeros(0, dtype=torch.long), *self.seen])
            self.values[all_gather(own)] = all_gather(self.values[own])

    def result(self) -> npt.NDArray[np.float16]:
        """(N, K) cosines in -1..1."""
        return self.values.numpy()


def suspected_label_errors(
    scores: Values,
    targets: Targets,
    *,
    thresholds: npt.ArrayLike | None = None,
    similarity: Values | None = None,
    most: int = 1000,
) -> list[SuspectedError]:
    """The labels that the model speaks against, the most suspicious first; unknown labels are never among them.

    Best asked about images that the model was not trained on: of those it was, it may have learned the errors by heart.

    Args:
        scores: (N, K) in 0..1.
        targets: (N, K) with 1, 0 or -1 for unknown.
        thresholds: (K,) in 0..1 or one for all, of the margins, 0.5 unless given; they do not change the suspicion.
        similarity: (N, K) cosines, from `SimilarityObserver`.
        most: that are wanted at most.

    Returns:
        Those with a suspicion above 0; none when all known labels are active, or all inactive: nothing to compare with.

    Raises:
        ValueError: shapes differ, a score is NaN, a target is none of 1, 0, -1, or `most` is below 1.
    """
    if similarity is not None and similarity.shape != scores.shape:
        raise ValueError(f"similarity {similarity.shape} and scores {scores.shape} must both be (N, K)")
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    blocks = _blocks(scores)
    for block in blocks:
        checked(scores[:, block], targets[:, block])
    some = (slice(None, None, max(1, -(-scores.size // FITTED_ON))), slice(None))
    weights = fit_log_odds(_measures(scores, similarity, some), targets[some])
    if weights is None:
        return []
    best = _Best(most)
    for block in blocks:
        part = (slice(None), block)
        best.add(contradiction(_measures(scores, similarity, part), targets[part], weights), first=block.start)
    limits = np.broadcast_to(np.asarray(0.5 if thresholds is None else thresholds, np.float64), scores.shape[1:])
    return [_described(found, scores, targets, limits, similarity) for found in best.in_order()]


def _measures(scores: Values, similarity: Values | None, part: tuple[slice, slice]) -> list[Values]:
    """What speaks for the labels, of some images and classes."""
    return [logits(scores[part])] if similarity is None else [logits(scores[part]), similarity[part].astype(np.float32)]


def _described(
    found: tuple[float, int, int], scores: Values, targets: Targets, limits: Floats, similarity: Values | None
) -> SuspectedError:
    """What is known of a label, from its suspicion, image and class."""
    suspicion, image, label = found
    missing = bool(targets[image, label] == 0)
    above = float(logits(scores[image, label]) - logits(limits[label]))
    return SuspectedError(
        image=image,
        label=label,
        kind="missing" if missing else "wrong",
        score=float(scores[image, label]),
        margin=above if missing else -above,
        similarity=None if similarity is None else float(similarity[image, label]),
        suspicion=suspicion,
    )


def logits(scores: npt.ArrayLike) -> Values:
    """Scores in 0..1 as logits, finite ones."""
    return np.asarray(logit(np.clip(scores, CERTAIN, 1 - CERTAIN)))


def fit_log_odds(measures: Sequence[Values], targets: Targets) -> Floats | None:
    """Logistic regression of the known labels on what speaks for them, with the usual weak L2 penalty.

    Args:
        measures: M arrays (n, K).
        targets: (n, K) with 1, 0 or -1 for unknown.

    Returns:
        (M + 1,): the weight of each measure, and the intercept less half the log-odds of the share of active labels; None when
        all known labels are active, or all inactive.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second

    known = targets >= 0
    active = targets[known] == 1
    if not 0 < active.sum() < len(active):
        return None
    columns = np.stack([np.asarray(measure, np.float64)[known] for measure in measures], axis=1)
    model = LogisticRegression(max_iter=1000).fit(columns, active)
    return np.append(model.coef_[0], model.intercept_[0] - logit(active.mean()) / 2)


def contradiction(measures: Sequence[Values], targets: Targets, weights: Floats) -> Floats:
    """(n, K): how much the measures (n, K) speak against each label; -inf where it is unknown.

    Args:
        measures: M arrays (n, K).
        targets: (n, K) with 1, 0 or -1 for unknown.
        weights: (M + 1,) from `fit_log_odds`.
    """
    present = sum((weight * measure for weight, measure in zip(weights[:-1], measures, strict=True)), weights[-1])
    return np.where(targets < 0, -np.inf, np.where(targets == 1, -present, present))


def write_suspects(path: Path, suspects: Sequence[SuspectedError], images: Sequence[str], classes: Sequence[str]) -> None:
    """Write a table as CSV, a row per suspected label, the first rank is 1.

    Args:
        path: the file.
        suspects: the most suspicious first.
        images: N names; a split is such a sequence.
        classes: K names.

    Raises:
        UsageError: the place cannot be written to.
        MachineError: the disk is full.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for rank, one in enumerate(suspects, start=1):
            similarity = "" if one.similarity is None else f"{one.similarity:.4f}"
            numbers = (f"{one.score:.6f}", f"{one.margin:.4f}", similarity, f"{one.suspicion:.4f}", rank)
            writer.writerow((images[one.image], classes[one.label], one.kind, *numbers))


class _Best:
    """The most suspicious of all that was seen, so that no more than these are held."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.suspicion = np.zeros(0)
        self.pairs = np.zeros((0, 2), np.int64)  # image and label

    def add(self, suspicion: Floats, *, first: int) -> None:
        """All images (N, C) of some classes, of which `first` is the first."""
        least = self.suspicion.min() if len(self.suspicion) == self.most else 0.0
        image, label = np.nonzero(suspicion > least)
        self.suspicion = np.concatenate([self.suspicion, suspicion[image, label]])
        self.pairs = np.concatenate([self.pairs, np.stack([image, label + first], axis=1)])
        if len(self.suspicion) > self.most:
            kept = np.argpartition(-self.suspicion, self.most - 1)[: self.most]
            self.suspicion, self.pairs = self.suspicion[kept], self.pairs[kept]

    def in_order(self) -> list[tuple[float, int, int]]:
        """Suspicion, image and label, the highest first; of equals the first image."""
        order = np.lexsort((self.pairs[:, 1], self.pairs[:, 0], -self.suspicion))
        return list(zip(self.suspicion[order].tolist(), *self.pairs[order].T.tolist(), strict=True))


def _blocks(values: Values) -> list[slice]:
    """Classes in parts that are looked at one after the other, so that memory does not grow with N x K."""
    images, classes = values.shape
    size = max(1, BLOCK // max(images, 1))
    return [slice(start, min(start + size, classes)) for start in range(0, classes, size)]
