"""Labels that are probably errors: missing (the image shows it, the label is not there) or wrong (the other way round).

Confident learning (Northcutt et al., JAIR 2021) and its form for many labels an image (Thyagarajan et al., 2022) compare the
scores with the labels, label by label, and rank by self-confidence, the score of the given label. That takes scores for
probabilities, which losses that favour the rare active labels do not give, and it takes any label to be wrong as easily as any
other, so that most errors would be among the many inactive ones.

Here a logistic regression over all known labels finds z, the log-odds that a label is active, from the logit of its score and,
where there are prototypes, from the cosine of its label feature and the prototype. If as many labels are missing as are
wrong, and p is the share of active labels, the log-odds of an error are, up to a constant,

    z - log(p / (1 - p)) / 2

for an inactive label, and the negative of that for an active one.

How many labels are wrong is estimated as confident learning does (equations 1 to 3 there), with z as the log-odds and all labels
together, where the method itself counts class by class: the few labels of a rare class say nothing of how many of them are wrong.
Of each kind the most suspicious are returned, as many as are estimated. `benchmarks/label_errors.py` flips labels on purpose and
compares, with cleanlab's filter for many labels in the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from sadcl_core.metrics.arrays import Scores, Targets, checked, column_blocks

Values = npt.NDArray[np.float64]

FITTED_ON = 4_000_000  # labels at most, of images at equal distances; the regression has three numbers to find
CERTAIN = 1e-6  # scores nearer to 0 or 1 count as these: float32 knows little more
BLOCK = 4_000_000  # scores compared together


@dataclass(frozen=True)
class SuspectedError:
    """A label that the scores contradict.

    Attributes:
        image: index of the image.
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


def suspected_label_errors(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    thresholds: npt.ArrayLike = 0.5,
    similarity: Scores | None = None,
    most: int = 1000,
    bounded: bool = True,
    fitted_on: int = FITTED_ON,
    block: int = BLOCK,
) -> list[SuspectedError]:
    """Return the labels that the scores contradict, the most suspicious first; unknown labels are never among them.

    Use images that the model was not trained on: it may have learned the errors of the others by heart.

    Args:
        scores: (N, K) in 0..1.
        targets: (N, K) with 1, 0 or -1 for unknown.
        thresholds: (K,) in 0..1 or one for all, of the margins; they do not change the suspicion.
        similarity: (N, K) cosines of label features and prototypes.
        most: how many at most.
        bounded: of each kind as many at most as `estimate_errors` says.
        fitted_on: labels at most that the regression is fitted on.
        block: scores compared together.

    Returns:
        Those with a suspicion above 0; none when all known labels are active, or all inactive: nothing to compare with; and none
        when neither score nor similarity is higher where labels are active, as of a model that has learned nothing.

    Raises:
        ValueError: shapes differ, a score is NaN, a target is none of 1, 0, -1, or `most` is below 1.

    Example:
        >>> scores = [[0.9], [0.8], [0.2], [0.1], [0.95]]
        >>> (suspect,) = suspected_label_errors(scores, [[1], [1], [0], [0], [0]])
        >>> suspect.image, suspect.kind
        (4, 'missing')
    """
    scores, targets = checked(scores, targets)
    if similarity is not None and similarity.shape != scores.shape:
        raise ValueError(f"similarity {similarity.shape} and scores {scores.shape} must both be (N, K)")
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")

    def measures(part: Any) -> list[Scores]:
        measured = [logits(scores[part])]
        return measured if similarity is None else [*measured, similarity[part].astype(np.float32)]

    sample = slice(None, None, max(1, -(-scores.size // fitted_on)))
    weights = fit_log_odds(measures(sample), targets[sample])
    if weights is None or (weights[:-1] <= 0).all():
        return []
    allowed = [most, most]  # missing and wrong: by the value of the target
    if bounded:
        shares = estimate_errors(measures(sample), targets[sample], weights)
        allowed = [min(most, round(shares[kind] * np.count_nonzero(targets == kind))) for kind in (0, 1)]
    suspicions, pairs = np.zeros(0), np.zeros((0, 2), np.int64)  # the best so far: image and label
    for classes in column_blocks(scores.shape, block):
        part = (slice(None), classes)
        against = contradiction(measures(part), targets[part], weights)
        images, labels = np.nonzero(against > 0)
        suspicions = np.concatenate([suspicions, against[images, labels]])
        pairs = np.concatenate([pairs, np.stack([images, labels + classes.start], axis=1)])
        order = np.lexsort((pairs[:, 1], pairs[:, 0], -suspicions))  # of equals the first image
        kinds = targets[tuple(pairs[order].T)]
        best = np.concatenate([order[kinds == kind][: allowed[kind]] for kind in (0, 1)])
        suspicions, pairs = suspicions[best], pairs[best]
    limits = logits(np.broadcast_to(np.asarray(thresholds, np.float64), scores.shape[1:]))
    suspects = []
    for at in np.lexsort((pairs[:, 1], pairs[:, 0], -suspicions))[:most]:
        image, label = pairs[at].tolist()
        missing = bool(targets[image, label] == 0)
        above = float(logits(scores[image, label]) - limits[label])
        suspects.append(
            SuspectedError(
                image=image,
                label=label,
                kind="missing" if missing else "wrong",
                score=float(scores[image, label]),
                margin=above if missing else -above,
                similarity=None if similarity is None else float(similarity[image, label]),
                suspicion=float(suspicions[at]),
            )
        )
    return suspects


def logits(scores: npt.ArrayLike) -> Scores:
    """Return scores in 0..1 as finite logits.

    Example:
        >>> logits([0.5, 1.0]).round(1)
        array([ 0. , 13.8])
    """
    array = np.asarray(scores)
    exact = array.astype(np.result_type(array, np.float32), copy=False)  # float16 has nothing between 0.9995 and 1
    return np.asarray(logit(np.clip(exact, CERTAIN, 1 - CERTAIN)))


def fit_log_odds(measures: Sequence[Scores], targets: Targets) -> Values | None:
    """Fit a logistic regression of the known labels on their measures, with the usual weak L2 penalty.

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


class ErrorShares(NamedTuple):
    """Shares of labels that are estimated to be errors.

    Attributes:
        missing: of the inactive labels, in 0..1.
        wrong: of the active labels, in 0..1.
    """

    missing: float
    wrong: float


def estimate_errors(measures: Sequence[Scores], targets: Targets, weights: Values) -> ErrorShares:
    """Estimate how many labels are errors, by confident learning (Northcutt et al., JAIR 2021) over all labels together.

    A label counts as surely active when its probability is at least the mean over those that are active by the labels, and as
    surely inactive likewise; the shares are those of the sure labels that are the other way round by the labels.

    Args:
        measures: M arrays (n, K).
        targets: (n, K) with 1, 0 or -1 for unknown; of both kinds.
        weights: (M + 1,) from `fit_log_odds` on these.

    Example:
        >>> scores, targets = np.array([[0.9], [0.8], [0.2], [0.1], [0.95]]), np.array([[1], [1], [0], [0], [0]])
        >>> shares = estimate_errors([logits(scores)], targets, fit_log_odds([logits(scores)], targets))
        >>> [round(share, 2) for share in shares]
        [0.33, 0.0]
    """
    known = targets >= 0
    active = targets[known] == 1
    present = np.where(active, -1, 1) * contradiction(measures, targets, weights)[known]
    probability = expit(present + logit(active.mean()) / 2)
    shown = probability >= probability[active].mean()
    absent = ~shown & (probability <= probability[~active].mean())
    missing, absent_too = int((shown & ~active).sum()), int((absent & ~active).sum())
    wrong, shown_too = int((absent & active).sum()), int((shown & active).sum())
    return ErrorShares(missing / max(missing + absent_too, 1), wrong / max(wrong + shown_too, 1))


def contradiction(measures: Sequence[Scores], targets: Targets, weights: Values) -> Values:
    """Return (n, K), how much the measures contradict each label; -inf where it is unknown.

    Args:
        measures: M arrays (n, K).
        targets: (n, K) with 1, 0 or -1 for unknown.
        weights: (M + 1,) from `fit_log_odds`.

    Example:
        >>> contradiction([np.array([[2.0, -1.0]])], np.array([[1, 0]]), np.array([1.0, 0.5]))
        array([[-2.5, -0.5]])
    """
    present = sum((weight * measure for weight, measure in zip(weights[:-1], measures, strict=True)), weights[-1])
    return np.where(targets < 0, -np.inf, np.where(targets == 1, -present, present))
