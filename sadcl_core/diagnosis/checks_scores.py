"""Checks of the scores of held-out images."""

from __future__ import annotations

from functools import partial
from shlex import quote

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.special import logit
from scipy.stats import mannwhitneyu

from sadcl_core.diagnosis.evidence import Evidence, Scored
from sadcl_core.diagnosis.findings import Finding, NotCheckedError, found, listed, passed
from sadcl_core.metrics import average_precisions

LEAST = 5  # positives of a class, to say anything of it
CERTAIN = 1e-3  # scores nearer to 0 or 1 say that they err in fewer than one of a thousand
TOLERATED, MANY = 0.01, 0.05  # share of certain scores that err: ten times what they say, and fifty times
SOME = 0.1  # of all scores have to be so certain
SAME = 0.05  # standard deviation of logits over images: odds that differ by 5 %
FLOOR = 1e-6  # float32 scores nearer to 0 or 1 have no meaningful logit
LIFT = 0.05  # average precision above the share of positives, as a part of what was possible
CHANCE = 0.05  # probability that positives rank as high by chance
CLEARLY, OWN = 0.2, 0.3  # correlation with another class's labels: above that with its own, and at all
Floats = npt.NDArray[np.float64]


def _frequent_classes(evidence: Evidence) -> tuple[Scored, npt.NDArray[np.int64]]:
    """Return the scores and (C,) the classes with enough positives and negatives; raise where there are none."""
    scored = evidence.need("scored", evidence.scored)
    enough = ((scored.targets == 1).sum(axis=0) >= LEAST) & ((scored.targets == 0).sum(axis=0) >= LEAST)
    if not enough.any():
        raise NotCheckedError(f"no class has {LEAST} positives among the {len(scored.targets)} images that were scored")
    return scored, np.flatnonzero(enough)


def swapped_labels(evidence: Evidence) -> Finding:
    """Check that no scores of one class fit the labels of another, as after a change in the order of names."""
    scored, classes = _frequent_classes(evidence)
    classes = classes[spread(scored)[classes] >= SAME]  # scores that do not depend on the image fit nothing
    if not len(classes):
        raise NotCheckedError("scores do not depend on the image")
    correlation = correlations(scored.as_trained[:, classes], scored.targets[:, classes])  # (C, C)
    names = [scored.classes[k] for k in classes]
    fits = best_fits(correlation, images=len(scored.targets))
    pairs = [f"{names[a]} fits {names[b]} ({correlation[a, b]:.2f}, its own {correlation[a, a]:.2f})" for a, b in fits]
    if len(fits) < 2:
        own = float(np.median(np.diag(correlation)))
        return passed(f"scores fit the labels of their own class best (median correlation {own:.2f})", median=own)
    return found(
        "serious",
        f"The scores of {len(fits)} of {len(classes)} classes fit the labels of another class much better than their own, by "
        f"correlation: {listed(pairs)}.",
        "Look at the images of these classes, and at how their names came to the labels: sadcl eval "
        f"{quote(str(evidence.run))} --report",
        pairs={names[a]: names[b] for a, b in fits},
    )


def correlations(scores: npt.NDArray[np.floating], targets: npt.NDArray[np.int8]) -> Floats:
    """Return (C, C) the correlation of the scores (N, C) of each class with the labels (N, C) of each; 0 for a constant.

    Unknown labels (-1) count as the mean of the class.

    Example:
        >>> correlations(np.array([[0.9, 0.1], [0.2, 0.7]]), np.array([[1, 0], [0, 1]], np.int8)).round(2)
        array([[ 1., -1.],
               [-1.,  1.]])
    """
    known = targets >= 0
    means = (targets * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, targets - means, 0.0)
    deviations = scores.astype(np.float64) - scores.mean(axis=0, dtype=np.float64)
    norms = np.outer(np.linalg.norm(deviations, axis=0), np.linalg.norm(centred, axis=0))
    products: Floats = deviations.T @ centred
    return np.where(norms > 1e-9, products / np.maximum(norms, 1e-9), 0.0)


def best_fits(correlation: Floats, *, images: int) -> list[tuple[int, int]]:
    """Return pairs (a, b) where the scores of a clearly fit the labels of b and not those of a.

    Each class is once on each side, as where names are in another order; labels that go together are not.
    """
    restless = np.flatnonzero(correlation.argmax(axis=1) != np.arange(len(correlation)))
    if len(restless) < 2:
        return []
    rows, columns = linear_sum_assignment(-correlation[np.ix_(restless, restless)])
    least = max(OWN, 4 / np.sqrt(images))  # four standard deviations of a correlation by chance
    pairs = [(int(restless[row]), int(restless[column])) for row, column in zip(rows, columns, strict=True)]
    return [(a, b) for a, b in pairs if a != b and correlation[a, b] > least and correlation[a, b] > correlation[a, a] + CLEARLY]


def spread(scored: Scored) -> Floats:
    """Return (K,) the standard deviation of the logits over the images."""
    deviations: Floats = logit(scored.as_trained.astype(np.float64).clip(FLOOR, 1 - FLOOR)).std(axis=0)
    return deviations


def saturated(evidence: Evidence) -> Finding:
    """Check that scores that are all but certain are not wrong too often."""
    scored = evidence.need("scored", evidence.scored)
    known = scored.targets >= 0
    certain = known & ((scored.as_trained < CERTAIN) | (scored.as_trained > 1 - CERTAIN))
    wrong = int((certain & ((scored.as_trained > 0.5) != (scored.targets == 1))).sum())
    share, errors = float(certain.sum() / max(known.sum(), 1)), wrong / max(int(certain.sum()), 1)
    numbers = {"share": share, "wrong": wrong, "errors": errors}
    text = f"{share:.1%} of the scores lie within {CERTAIN:g} of 0 or 1, and {errors:.2%} of these are wrong"
    if share < SOME or errors <= TOLERATED or wrong < LEAST:
        return passed(text, **numbers)
    return found(
        "serious" if errors > MANY else "doubtful",
        f"{text}, where so certain scores should err in {CERTAIN:.1%}: the model is surer than it is right.",
        f"Make its scores probabilities again: sadcl eval {quote(str(evidence.run))} --calibrate",
        **numbers,
    )


def never_predicted(evidence: Evidence) -> Finding:
    """Check that every class that is shown is predicted for some image."""
    scored, classes = _frequent_classes(evidence)
    highest = scored.scores.max(axis=0)
    silent = [int(k) for k in classes if highest[k] <= scored.thresholds[k]]
    if not silent:
        return passed(f"each of {len(classes)} classes with {LEAST} positives is predicted for some image")
    positives = (scored.targets == 1).sum(axis=0)
    names = [f"{scored.classes[k]} (highest {highest[k]:.3f}, {positives[k]} positives)" for k in silent]
    return found(
        "serious" if len(silent) > len(classes) / 2 else "doubtful",
        f"{len(silent)} of {len(classes)} classes never reach their threshold on {len(scored.scores):,} held-out images: "
        f"{listed(names)}.",
        f"Choose thresholds per class: sadcl eval {quote(str(evidence.run))} --calibrate",
        classes=[scored.classes[k] for k in silent],
    )


def at_chance(evidence: Evidence) -> Finding:
    """Check that the images of each class are ranked better than by chance."""
    scored, classes = _frequent_classes(evidence)
    scores, targets = scored.as_trained[:, classes], scored.targets[:, classes]
    precision = average_precisions(scores, targets).non_interpolated
    share = (targets == 1).sum(axis=0) / (targets >= 0).sum(axis=0)
    test = partial(mannwhitneyu, alternative="greater", use_continuity=False, method="asymptotic")
    by_chance = [test(s[t == 1], s[t == 0]).pvalue for s, t in zip(scores.T, targets.T, strict=True)]  # NaN if all are equal
    chance = np.flatnonzero((precision - share < LIFT * (1 - share)) & ~(np.array(by_chance) <= CHANCE))
    if not len(chance):
        return passed(f"the images of {len(classes)} classes with {LEAST} positives are ranked better than by chance")
    names = [f"{scored.classes[classes[c]]} (AP {precision[c]:.1%}, chance {share[c]:.1%})" for c in chance]
    return found(
        "serious" if len(chance) > len(classes) / 2 else "doubtful",
        f"{len(chance)} of {len(classes)} classes are ranked no better than by chance: {listed(names)}.",
        f"Look at the images of these classes and their labels: sadcl eval {quote(str(evidence.run))} --report",
        classes=[scored.classes[classes[c]] for c in chance],
    )
